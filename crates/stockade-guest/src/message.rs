//! What the two sides say to each other, and how it is written into frames.
//!
//! Every call is a stream with a number that the host chooses; stream 0 is the channel itself.
//! Decoding answers only whether a payload is one of these messages; whether it may come here
//! and now is for the receiver.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::codec::{Decoder, Encoder};
use crate::frame::{Frame, HEADER, Malformed, PAYLOAD_MAX};
use crate::parameters::Parameters;
use crate::start::{Seed, Start};
use crate::version::Generation;

/// The first bytes of each direction, so that a console or a shell at the other end is noticed.
const MAGIC: &[u8] = b"stockade";

/// Bytes of output or input on the way in one stream and direction before the receiver has
/// said that it took some. What a stalled reader can make the other side hold.
pub(crate) const WINDOW: usize = 256 * 1024;

/// Credit is given when so much of a window was taken: for each piece it would be a message for
/// every message, and an interrupt of a machine for each.
pub(crate) const CREDIT_STEP: usize = WINDOW / 4;

/// Largest piece of data in one frame: a stream that has much to say does not hold up the
/// others for longer than this takes.
pub(crate) const CHUNK: usize = 32 * 1024;

/// Which of a command's outputs a piece came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output; of the other calls, their answer.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How large a window is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters in each of them.
    pub columns: u16,
}

/// The terminal that a command gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Screen {
    /// What kind of terminal it is, as in `TERM`.
    pub(crate) name: OsString,
    pub(crate) size: WindowSize,
}

/// What is to be done in the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Exec {
        argv: Vec<OsString>,
        folder: Option<PathBuf>,
        environment: Option<Vec<(OsString, OsString)>>,
        timeout: Option<Duration>,
        /// With one, all of its output comes as [`Stream::Stdout`].
        screen: Option<Screen>,
    },
    Read {
        path: PathBuf,
        max_bytes: u64,
    },
    /// Without a length the file is deleted.
    Write {
        path: PathBuf,
        length: Option<u64>,
    },
    List {
        path: PathBuf,
    },
    Search {
        pattern: String,
        path: PathBuf,
        max: u32,
    },
    Ping,
    /// Answers with a port of the place's loopback, two bytes, and listens there until it is
    /// stopped.
    Listen,
    /// Waits for a program that connects to that port, and carries what it says and hears.
    Accept,
}

/// How a call ended, seen from the place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    /// A command's status.
    Exited(u8),
    /// The signal that ended a command.
    Killed(i32),
    TimedOut,
    Stopped,
    /// A call that is not a command has been carried out.
    Done,
    Refused {
        errno: i32,
        text: String,
    },
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// First in each direction.
    Hello(Generation),
    /// Host: whose the machine is, which has waited for that.
    Start(Start),
    /// Host: nothing more will come; end what runs.
    Close,
    /// Host: opens the stream.
    Request(Request),
    /// Host: for the command's standard input, or the content of a file.
    Input(Vec<u8>),
    /// Host: that was all of the input.
    InputEnd,
    /// Host: the window of the command's terminal has this size now.
    Resize(WindowSize),
    /// Host: end this call.
    Stop,
    /// Either: so many bytes of the data you sent were taken.
    Credit(u32),
    /// Place: a piece of output.
    Output(Stream, Vec<u8>),
    /// Place: a program has connected.
    Opened,
    /// Place: nothing more will come from the program.
    OutputEnd,
    /// Place: the last message of a stream.
    Finish(Finish),
}

mod kind {
    pub(super) const HELLO: u8 = 1;
    pub(super) const CLOSE: u8 = 2;
    pub(super) const EXEC: u8 = 3;
    pub(super) const READ: u8 = 4;
    pub(super) const WRITE: u8 = 5;
    pub(super) const LIST: u8 = 6;
    pub(super) const SEARCH: u8 = 7;
    pub(super) const PING: u8 = 8;
    pub(super) const INPUT: u8 = 9;
    pub(super) const INPUT_END: u8 = 10;
    pub(super) const STOP: u8 = 11;
    pub(super) const CREDIT: u8 = 12;
    pub(super) const STDOUT: u8 = 13;
    pub(super) const STDERR: u8 = 14;
    pub(super) const FINISH: u8 = 15;
    pub(super) const RESIZE: u8 = 16;
    pub(super) const LISTEN: u8 = 17;
    pub(super) const ACCEPT: u8 = 18;
    pub(super) const OPENED: u8 = 19;
    pub(super) const OUTPUT_END: u8 = 20;
    pub(super) const START: u8 = 21;
}

impl Message {
    /// The bytes of a whole frame, or `None` when it would be longer than a frame may be.
    pub(crate) fn encode(&self, stream: u32) -> Option<Vec<u8>> {
        let mut out = Encoder(vec![0; HEADER]);
        let kind = match self {
            Self::Hello(generation) => {
                out.0.extend(MAGIC);
                out.u32(generation.0);
                kind::HELLO
            }
            Self::Start(start) => {
                out.start(start);
                kind::START
            }
            Self::Close => kind::CLOSE,
            Self::Request(request) => out.request(request),
            Self::Input(data) => {
                out.0.extend(data);
                kind::INPUT
            }
            Self::InputEnd => kind::INPUT_END,
            Self::Resize(size) => {
                out.size(*size);
                kind::RESIZE
            }
            Self::Stop => kind::STOP,
            Self::Credit(bytes) => {
                out.u32(*bytes);
                kind::CREDIT
            }
            Self::Output(Stream::Stdout, data) => {
                out.0.extend(data);
                kind::STDOUT
            }
            Self::Output(Stream::Stderr, data) => {
                out.0.extend(data);
                kind::STDERR
            }
            Self::Opened => kind::OPENED,
            Self::OutputEnd => kind::OUTPUT_END,
            Self::Finish(finish) => {
                out.finish(finish);
                kind::FINISH
            }
        };
        let mut bytes = out.0;
        let payload = bytes.len().checked_sub(HEADER).filter(|length| *length <= PAYLOAD_MAX)?;
        let length = u32::try_from(payload).ok()?.to_le_bytes();
        let header = length.into_iter().chain(stream.to_le_bytes()).chain([kind]);
        bytes.splice(..HEADER, header);
        Some(bytes)
    }

    /// The generation in a greeting, which this message must be.
    pub(crate) fn greeting(&self) -> Result<Generation, Malformed> {
        if let Self::Hello(generation) = self {
            return Ok(*generation);
        }
        Err(Malformed::Unexpected("something before the greeting"))
    }

    /// The message in `frame`.
    pub(crate) fn decode(frame: Frame) -> Result<Self, Malformed> {
        let mut input = Decoder(&frame.payload);
        let message = match frame.kind {
            kind::HELLO => {
                if input.take(MAGIC.len())? != MAGIC {
                    return Err(Malformed::Unexpected("the greeting of something else"));
                }
                Self::Hello(Generation(input.u32()?))
            }
            kind::START => Self::Start(input.start()?),
            kind::CLOSE => Self::Close,
            kind::EXEC..=kind::PING | kind::LISTEN | kind::ACCEPT => {
                Self::Request(input.request(frame.kind)?)
            }
            kind::INPUT => return Ok(Self::Input(frame.payload)),
            kind::INPUT_END => Self::InputEnd,
            kind::STOP => Self::Stop,
            kind::CREDIT => Self::Credit(input.u32()?),
            kind::STDOUT => return Ok(Self::Output(Stream::Stdout, frame.payload)),
            kind::STDERR => return Ok(Self::Output(Stream::Stderr, frame.payload)),
            kind::OPENED => Self::Opened,
            kind::OUTPUT_END => Self::OutputEnd,
            kind::FINISH => Self::Finish(input.finish()?),
            kind::RESIZE => Self::Resize(input.size()?),
            unknown => return Err(Malformed::UnknownKind(unknown)),
        };
        input.end()?;
        Ok(message)
    }
}

impl Encoder {
    fn start(&mut self, start: &Start) {
        let Parameters { uid, gid, folder, is_root, gives, has_setup, has_program } =
            &start.parameters;
        self.u32(*uid);
        self.u32(*gid);
        self.text(folder.as_os_str().as_bytes());
        for flag in [is_root, gives, has_setup, has_program] {
            self.u8(u8::from(*flag));
        }
        self.u64(u64::try_from(start.clock.as_nanos()).unwrap_or(u64::MAX));
        self.0.extend(start.seed.0);
    }

    fn size(&mut self, size: WindowSize) {
        self.u16(size.rows);
        self.u16(size.columns);
    }

    fn request(&mut self, request: &Request) -> u8 {
        match request {
            Request::Exec { argv, folder, environment, timeout, screen } => {
                self.count(argv.len());
                for word in argv {
                    self.text(word.as_bytes());
                }
                self.optional(folder.as_ref(), |out, folder| {
                    out.text(folder.as_os_str().as_bytes());
                });
                self.optional(environment.as_ref(), |out, environment| {
                    out.count(environment.len());
                    for (name, value) in environment {
                        out.text(name.as_bytes());
                        out.text(value.as_bytes());
                    }
                });
                self.optional(*timeout, |out, timeout| {
                    out.u64(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
                });
                self.optional(screen.as_ref(), |out, screen| {
                    out.text(screen.name.as_bytes());
                    out.size(screen.size);
                });
                kind::EXEC
            }
            Request::Read { path, max_bytes } => {
                self.text(path.as_os_str().as_bytes());
                self.u64(*max_bytes);
                kind::READ
            }
            Request::Write { path, length } => {
                self.text(path.as_os_str().as_bytes());
                self.optional(*length, Self::u64);
                kind::WRITE
            }
            Request::List { path } => {
                self.text(path.as_os_str().as_bytes());
                kind::LIST
            }
            Request::Search { pattern, path, max } => {
                self.text(pattern.as_bytes());
                self.text(path.as_os_str().as_bytes());
                self.u32(*max);
                kind::SEARCH
            }
            Request::Ping => kind::PING,
            Request::Listen => kind::LISTEN,
            Request::Accept => kind::ACCEPT,
        }
    }

    fn finish(&mut self, finish: &Finish) {
        match finish {
            Finish::Exited(status) => {
                self.u8(0);
                self.u8(*status);
            }
            Finish::Killed(signal) => {
                self.u8(1);
                self.u32(signal.cast_unsigned());
            }
            Finish::TimedOut => self.u8(2),
            Finish::Stopped => self.u8(3),
            Finish::Done => self.u8(4),
            Finish::Refused { errno, text } => {
                self.u8(5);
                self.u32(errno.cast_unsigned());
                self.text(text.as_bytes());
            }
        }
    }
}

impl Decoder<'_> {
    fn start(&mut self) -> Result<Start, Malformed> {
        let parameters = Parameters {
            uid: self.u32()?,
            gid: self.u32()?,
            folder: self.path()?,
            is_root: self.flag()?,
            gives: self.flag()?,
            has_setup: self.flag()?,
            has_program: self.flag()?,
        };
        let clock = Duration::from_nanos(self.u64()?);
        Ok(Start { parameters, clock, seed: Seed(self.array()?) })
    }

    fn size(&mut self) -> Result<WindowSize, Malformed> {
        Ok(WindowSize { rows: self.u16()?, columns: self.u16()? })
    }

    fn request(&mut self, kind: u8) -> Result<Request, Malformed> {
        Ok(match kind {
            kind::EXEC => Request::Exec {
                argv: self.list(Self::os_string)?,
                folder: self.optional(Self::path)?,
                environment: self.optional(|input| {
                    input.list(|input| Ok((input.os_string()?, input.os_string()?)))
                })?,
                timeout: self.optional(Self::u64)?.map(Duration::from_millis),
                screen: self.optional(|input| {
                    Ok(Screen { name: input.os_string()?, size: input.size()? })
                })?,
            },
            kind::READ => Request::Read { path: self.path()?, max_bytes: self.u64()? },
            kind::WRITE => Request::Write { path: self.path()?, length: self.optional(Self::u64)? },
            kind::LIST => Request::List { path: self.path()? },
            kind::SEARCH => {
                Request::Search { pattern: self.string()?, path: self.path()?, max: self.u32()? }
            }
            kind::PING => Request::Ping,
            kind::LISTEN => Request::Listen,
            kind::ACCEPT => Request::Accept,
            unknown => return Err(Malformed::UnknownKind(unknown)),
        })
    }

    fn finish(&mut self) -> Result<Finish, Malformed> {
        Ok(match self.u8()? {
            0 => Finish::Exited(self.u8()?),
            1 => Finish::Killed(self.u32()?.cast_signed()),
            2 => Finish::TimedOut,
            3 => Finish::Stopped,
            4 => Finish::Done,
            5 => Finish::Refused { errno: self.u32()?.cast_signed(), text: self.string()? },
            _ => return Err(Malformed::Unexpected("an end of a kind that there is not")),
        })
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Malformed::Unexpected("bytes after the end of a message"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::os::unix::ffi::OsStringExt as _;

    use super::*;
    use crate::frame;
    use crate::start::SEED_BYTES;

    fn any_os() -> impl Strategy<Value = OsString> {
        proptest::collection::vec(1..=255_u8, 0..6).prop_map(OsString::from_vec)
    }

    fn any_size() -> impl Strategy<Value = WindowSize> {
        any::<(u16, u16)>().prop_map(|(rows, columns)| WindowSize { rows, columns })
    }

    fn any_request() -> impl Strategy<Value = Request> {
        let path = || any_os().prop_map(PathBuf::from);
        let environment = proptest::collection::vec((any_os(), any_os()), 0..3);
        let exec = (
            proptest::collection::vec(any_os(), 0..4),
            proptest::option::of(path()),
            proptest::option::of(environment),
            proptest::option::of(any::<u64>()),
            proptest::option::of((any_os(), any_size())),
        );
        prop_oneof![
            exec.prop_map(|(argv, folder, environment, timeout, screen)| Request::Exec {
                argv,
                folder,
                environment,
                timeout: timeout.map(Duration::from_millis),
                screen: screen.map(|(name, size)| Screen { name, size }),
            }),
            (path(), any::<u64>()).prop_map(|(path, max_bytes)| Request::Read { path, max_bytes }),
            (path(), proptest::option::of(any::<u64>()))
                .prop_map(|(path, length)| Request::Write { path, length }),
            path().prop_map(|path| Request::List { path }),
            ("\\PC{0,5}", path(), any::<u32>()).prop_map(|(pattern, path, max)| Request::Search {
                pattern,
                path,
                max
            }),
            Just(Request::Ping),
            Just(Request::Listen),
            Just(Request::Accept),
        ]
    }

    fn any_start() -> impl Strategy<Value = Start> {
        let flags = any::<(bool, bool, bool, bool)>();
        let seed = proptest::collection::vec(any::<u8>(), SEED_BYTES);
        (any::<(u32, u32, u64)>(), any_os(), flags, seed).prop_map(
            |((uid, gid, clock), folder, flags, seed)| {
                let folder = folder.into();
                let (is_root, gives, has_setup, has_program) = flags;
                Start {
                    parameters: Parameters {
                        uid,
                        gid,
                        folder,
                        is_root,
                        gives,
                        has_setup,
                        has_program,
                    },
                    clock: Duration::from_nanos(clock),
                    seed: Seed(seed.try_into().unwrap()),
                }
            },
        )
    }

    fn any_finish() -> impl Strategy<Value = Finish> {
        prop_oneof![
            any::<u8>().prop_map(Finish::Exited),
            any::<i32>().prop_map(Finish::Killed),
            Just(Finish::TimedOut),
            Just(Finish::Stopped),
            Just(Finish::Done),
            (any::<i32>(), "\\PC{0,5}").prop_map(|(errno, text)| Finish::Refused { errno, text }),
        ]
    }

    fn any_message() -> impl Strategy<Value = Message> {
        let data = || proptest::collection::vec(any::<u8>(), 0..20);
        prop_oneof![
            any::<u32>().prop_map(|number| Message::Hello(Generation(number))),
            any_start().prop_map(Message::Start),
            Just(Message::Close),
            any_request().prop_map(Message::Request),
            data().prop_map(Message::Input),
            Just(Message::InputEnd),
            any_size().prop_map(Message::Resize),
            Just(Message::Stop),
            any::<u32>().prop_map(Message::Credit),
            data().prop_map(|data| Message::Output(Stream::Stdout, data)),
            data().prop_map(|data| Message::Output(Stream::Stderr, data)),
            Just(Message::Opened),
            Just(Message::OutputEnd),
            any_finish().prop_map(Message::Finish),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(message in any_message(), stream: u32) {
            let bytes = message.encode(stream).unwrap();
            let mut rest = bytes.as_slice();
            let frame = frame::read(&mut rest).unwrap().unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(frame.stream, stream);
            prop_assert_eq!(Message::decode(frame).unwrap(), message);
        }

        #[test]
        fn no_payload_makes_decoding_panic(kind in 0..30_u8, payload: Vec<u8>) {
            let again = Message::decode(Frame { stream: 1, kind, payload: payload.clone() });
            // What is accepted has exactly one form.
            if let Ok(message) = again {
                let bytes = message.encode(1).unwrap();
                prop_assert_eq!(bytes.get(HEADER..).unwrap(), payload.as_slice());
            }
        }

        #[test]
        fn a_message_cut_short_is_an_error(message in any_message(), cut in 0..8_usize) {
            let bytes = message.encode(1).unwrap();
            let frame = frame::read(&mut bytes.as_slice()).unwrap().unwrap();
            let is_data = matches!(message, Message::Input(_) | Message::Output(..));
            if !is_data && cut < frame.payload.len() {
                let payload = frame.payload.split_at(cut).0.to_vec();
                let cut = Message::decode(Frame { payload, ..frame });
                prop_assert!(cut.is_err());
            }
        }
    }

    #[test]
    fn a_count_cannot_ask_for_more_room_than_there_is() {
        let payload = vec![0xff; 12];
        let frame = Frame { stream: 1, kind: kind::EXEC, payload };
        assert_eq!(Message::decode(frame), Err(Malformed::Truncated));
    }

    #[test]
    fn a_request_that_fits_no_frame_is_not_written() {
        let line = OsString::from("x".repeat(PAYLOAD_MAX));
        let request = Request::Exec {
            argv: vec![line],
            folder: None,
            environment: None,
            timeout: None,
            screen: None,
        };
        assert_eq!(Message::Request(request).encode(1), None);
    }
}
