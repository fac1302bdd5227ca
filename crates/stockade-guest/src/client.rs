//! The host's side: calls into a place whose answers are not to be believed.

use std::cell::Cell;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::codec::Decoder;
use crate::frame::Malformed;
use crate::link::{Call, Channel, GRACE, Input};
use crate::message::{Finish, Request, Screen, Stream, WindowSize};
use crate::outlet::Outlet;
use crate::typing::Typing;
use crate::version::Generation;

/// How long [`Client::connect`] waits for the greeting of the other side.
const GREETING: Duration = Duration::from_secs(10);

/// How long a call that is not a command may go without any answer.
const PATIENCE: Duration = Duration::from_mins(2);

/// The most that an answer which is kept whole may have, in bytes.
const ANSWER_MAX: usize = 32 * 1024 * 1024;

/// A command to be run in the place.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// Program and arguments; a program without a slash is looked for in the `PATH`.
    pub argv: Vec<OsString>,
    /// Working folder; relative to the place's own, which is also what `None` means.
    pub folder: Option<PathBuf>,
    /// The whole environment; `None` inherits that of the place.
    pub environment: Option<Vec<(OsString, OsString)>>,
    /// What the command reads from its standard input, which then ends.
    pub stdin: Vec<u8>,
    /// What it reads instead, as it comes.
    pub input: Option<Arc<Typing>>,
    /// After this long the command and its group are killed.
    pub timeout: Option<Duration>,
    /// A terminal that is all three of its standard streams; what it reads is typed, not `stdin`.
    pub terminal: Option<Terminal>,
}

/// A terminal for a command.
#[derive(Debug, Clone)]
pub struct Terminal {
    /// What kind of terminal it is, as the command's `TERM`.
    pub name: OsString,
    /// Its size at the start.
    pub size: WindowSize,
    /// What is done at it from then on.
    pub typing: Arc<Typing>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It exited with this status.
    Exited(u8),
    /// This signal ended it.
    Killed(i32),
    /// Its time was over; it was killed with its group.
    TimedOut,
    /// The caller asked to stop; it was killed with its group.
    Stopped,
}

/// What came of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecOutcome {
    /// How it ended.
    pub end: End,
}

/// What a name in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link, not followed.
    Link,
    /// A device, socket or pipe.
    Other,
}

/// One name in a folder. It comes from the place: any bytes but `/` and NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name alone.
    pub name: OsString,
    /// What it is.
    pub kind: EntryKind,
    /// Its size.
    pub bytes: u64,
}

/// One line that a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file, as reached from the path that was searched.
    pub path: PathBuf,
    /// Number of the line, from 1.
    pub line: u64,
    /// The line, without its end; cut when it is long.
    pub text: Vec<u8>,
}

/// The channel could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The other side hung up before it had greeted.
    #[error("the place ended before it had answered")]
    Lost,
    /// The other side did not greet in time.
    #[error("the place did not answer within {} s", .0.as_secs())]
    Silent(Duration),
    /// The other side speaks another form of the protocol.
    #[error("the place speaks generation {theirs} of the channel, this is {ours}")]
    Generation {
        /// This side's.
        ours: Generation,
        /// The other side's.
        theirs: Generation,
    },
    /// What came is not this protocol.
    #[error("the place answers something else")]
    Malformed(#[source] Malformed),
    /// No thread could be started for the channel.
    #[error("cannot start a thread for the channel")]
    Thread(#[source] std::io::Error),
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The place did not do it; nothing else has changed.
    #[error("{text}")]
    Refused {
        /// The system's error number, 0 when it has none.
        errno: i32,
        /// The reason, in the place's words: hostile text.
        text: String,
    },
    /// The place is gone, or does not answer any more. Every further call fails the same way.
    #[error("the place is gone")]
    Lost,
    /// The place broke the protocol, and the channel is closed.
    #[error("the place broke the protocol")]
    Malformed(#[source] Malformed),
}

impl From<Malformed> for CallError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// The host's end of a channel. Clones share it; it closes with the last of them.
#[derive(Debug, Clone)]
pub struct Client(Arc<Channel>);

impl Client {
    /// Opens the channel and waits for the greeting of the other side, ten seconds at most.
    ///
    /// # Errors
    ///
    /// [`ChannelError`]; the two halves are then of no further use.
    pub fn connect(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
    ) -> Result<Self, ChannelError> {
        Self::connect_within(reader, writer, GREETING)
    }

    /// As [`connect`](Self::connect), with another limit: a machine that boots takes longer.
    ///
    /// # Errors
    ///
    /// As `connect`.
    pub fn connect_within(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        patience: Duration,
    ) -> Result<Self, ChannelError> {
        Channel::open(reader, writer, patience).map(|channel| Self(Arc::new(channel)))
    }

    /// Runs a command; its output goes to `output` as it comes. `stop` is asked about fifty times
    /// a second while nothing comes.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] when it could not be started; else the place is gone.
    pub fn exec(
        &self,
        exec: &Exec,
        stop: &dyn Fn() -> bool,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<ExecOutcome, CallError> {
        let terminal = exec.terminal.as_ref();
        let request = Request::Exec {
            argv: exec.argv.clone(),
            folder: exec.folder.clone(),
            environment: exec.environment.clone(),
            timeout: exec.timeout,
            screen: terminal.map(|it| Screen { name: it.name.clone(), size: it.size }),
        };
        let typing = terminal.map(|terminal| &terminal.typing).or(exec.input.as_ref());
        let input = typing.map_or(Input::Whole(&exec.stdin), |typing| Input::Typed(typing));
        let patience = exec.timeout.map(|timeout| timeout.saturating_add(GRACE));
        let call = Call { input, patience, is_renewed: false, stop };
        let end = match self.0.call(request, &call, output)? {
            Finish::Exited(status) => End::Exited(status),
            Finish::Killed(signal) => End::Killed(signal),
            Finish::TimedOut => End::TimedOut,
            Finish::Stopped => End::Stopped,
            Finish::Done => return Err(Malformed::Unexpected("a command without an end").into()),
            Finish::Refused { errno, text } => return Err(CallError::Refused { errno, text }),
        };
        Ok(ExecOutcome { end })
    }

    /// The content of a regular file.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`]; `EFBIG` when it has more than `max_bytes`.
    pub fn read_file(&self, path: &Path, max_bytes: u64) -> Result<Vec<u8>, CallError> {
        let request = Request::Read { path: path.to_owned(), max_bytes };
        let max = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        self.answer(request, &[], max)
    }

    /// Gives a file this content in place, so that its mode and its other names stay; makes it and
    /// the folders above it when there is none. `None` deletes it.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`]. After any other error the file may have a part of the content.
    pub fn write_file(&self, path: &Path, content: Option<&[u8]>) -> Result<(), CallError> {
        let length = content.map(|content| content.len() as u64);
        let request = Request::Write { path: path.to_owned(), length };
        self.answer(request, content.unwrap_or_default(), 0).map(drop)
    }

    /// What is in a folder, by name.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`].
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>, CallError> {
        let answer = self.answer(Request::List { path: path.to_owned() }, &[], ANSWER_MAX)?;
        Ok(entries(&answer)?)
    }

    /// Lines that match a regular expression in the files at or below `path`, at most `max` of
    /// them. Binary files, `.git` and what `.gitignore` names are left out.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`], also when the pattern is none.
    pub fn search(&self, pattern: &str, path: &Path, max: usize) -> Result<Vec<Found>, CallError> {
        let request = Request::Search {
            pattern: pattern.to_owned(),
            path: path.to_owned(),
            max: u32::try_from(max).unwrap_or(u32::MAX),
        };
        let answer = self.answer(request, &[], ANSWER_MAX)?;
        let found = found(&answer)?;
        if found.len() > max {
            return Err(Malformed::Unexpected("more lines than were asked for").into());
        }
        Ok(found)
    }

    /// Whether the place answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn ping(&self) -> Result<(), CallError> {
        self.answer(Request::Ping, &[], 0).map(drop)
    }

    /// Lets programs of the place out: each that connects to [`Outlet::port`] of its loopback talks
    /// to a socket that `connect` makes, until the outlet is closed.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] when the place cannot listen, or does so already.
    pub fn outlet(
        &self,
        connect: impl Fn() -> std::io::Result<UnixStream> + Send + Sync + 'static,
    ) -> Result<Outlet, CallError> {
        Outlet::open(self.0.link(), Box::new(connect))
    }

    /// Closes the channel, also for the clones of this client: what runs in the place is ended, and
    /// every call fails from now on.
    pub fn close(&self) {
        self.0.close();
    }

    /// A call whose answer is kept whole.
    fn answer(&self, request: Request, input: &[u8], max: usize) -> Result<Vec<u8>, CallError> {
        let mut answer = Vec::new();
        let is_too_long = Cell::new(false);
        let stop = || is_too_long.get();
        let input = Input::Whole(input);
        let call = Call { input, patience: Some(PATIENCE), is_renewed: true, stop: &stop };
        let finish = self.0.call(request, &call, &mut |_, data| {
            if answer.len() + data.len() > max {
                is_too_long.set(true);
            } else {
                answer.extend_from_slice(data);
            }
        })?;
        match finish {
            _ if is_too_long.get() => {
                Err(Malformed::Unexpected("a longer answer than was asked for").into())
            }
            Finish::Done => Ok(answer),
            Finish::Refused { errno, text } => Err(CallError::Refused { errno, text }),
            Finish::Exited(_) | Finish::Killed(_) | Finish::TimedOut | Finish::Stopped => {
                Err(Malformed::Unexpected("the end of a command").into())
            }
        }
    }
}

/// What a place says is in a folder.
pub(crate) fn entries(answer: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let mut input = Decoder(answer);
    let mut entries = Vec::new();
    while !input.0.is_empty() {
        let kind = match input.u8()? {
            0 => EntryKind::File,
            1 => EntryKind::Folder,
            2 => EntryKind::Link,
            3 => EntryKind::Other,
            _ => return Err(Malformed::Unexpected("an entry of no kind")),
        };
        let bytes = input.u64()?;
        let name = input.text()?;
        if name.is_empty()
            || name == b"."
            || name == b".."
            || name.iter().any(|byte| matches!(byte, b'/' | 0))
        {
            return Err(Malformed::Unexpected("a name that cannot be"));
        }
        entries.push(Entry { name: os_string(name), kind, bytes });
    }
    Ok(entries)
}

/// What a place says that a search found.
pub(crate) fn found(answer: &[u8]) -> Result<Vec<Found>, Malformed> {
    let mut input = Decoder(answer);
    let mut found = Vec::new();
    while !input.0.is_empty() {
        let path = PathBuf::from(input.os_string()?);
        found.push(Found { path, line: input.u64()?, text: input.text()?.to_vec() });
    }
    Ok(found)
}

fn os_string(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}
