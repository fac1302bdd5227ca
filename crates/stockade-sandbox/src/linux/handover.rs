//! What passes between a caller with threads and the process that it spawns to be the parent of
//! a sandbox.
//!
//! Both ends are the same binary, started a moment apart, so a malformed message is a bug of
//! ours: it ends the run and is never guessed at. Fields are taken apart by name, so that one
//! that is added and not sent does not compile.

use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use stockade_policy::{AbsPath, HostRule, Limits, Mode, Network, Policy, Published};

use crate::{
    Command, Exceeded, Execs, Keeping, Launch, Layer, Outcome, Revive, SetupError, Shared, Stub,
};

/// Longest message: arguments and environment (`execve(2)` takes 6 MiB at most), and the paths of
/// a policy.
const MESSAGE_MAX: usize = 64 << 20;

/// What the spawned process tells.
#[derive(Debug)]
pub(crate) enum News {
    /// What the user should know of the boundary.
    Note(String),
    /// The command runs.
    Started,
    /// The run is over, or nothing of the command has run.
    Ended(Result<Outcome, SetupError>),
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed message: {what}"))
}

/// The sandbox's ends of what leads out of it, as far as it has them.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    /// Of its way to the network.
    pub(crate) way_out: Option<OwnedFd>,
    /// Of what it asks.
    pub(crate) asks: Option<OwnedFd>,
}

/// Bits of the first byte: which ends come after the command's 0–2.
const WAY_OUT: u8 = 1;
const ASKS: u8 = 2;

/// Hands `launch` over, with the descriptors that are to be the command's 0–2 and the ends.
pub(crate) fn send_launch(
    mut to: &UnixStream,
    launch: &Launch,
    stdio: &[OwnedFd; 3],
    Ends { way_out, asks }: &Ends,
) -> io::Result<()> {
    let borrowed: Vec<_> = stdio.iter().chain(way_out).chain(asks).map(OwnedFd::as_fd).collect();
    let which = if way_out.is_some() { WAY_OUT } else { 0 } | if asks.is_some() { ASKS } else { 0 };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(malformed("descriptors"));
    }
    rustix::net::sendmsg(to, &[IoSlice::new(&[which])], &mut control, SendFlags::NOSIGNAL)?;
    to.write_all(&Writer::framed(|writer| writer.launch(launch)))
}

/// A launch, the command's 0–2, and the ends.
pub(crate) type Handed = (Launch, [OwnedFd; 3], Ends);

/// Takes a launch and its descriptors; `revive` makes its judge anew.
pub(crate) fn receive_launch(from: &UnixStream, revive: Revive) -> io::Result<Handed> {
    let mut first = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut first)];
    rustix::net::recvmsg(from, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let [which] = first;
    let mut end = |bit| if which & bit == 0 { None } else { descriptors.pop() };
    // The last first.
    let asks = end(ASKS);
    let way_out = end(WAY_OUT);
    let stdio = descriptors.try_into().map_err(|_found: Vec<OwnedFd>| malformed("descriptors"))?;
    let body = receive_frame(from)?;
    let mut reader = Reader(&body);
    let launch = reader.launch(revive)?;
    reader.end()?;
    Ok((launch, stdio, Ends { way_out, asks }))
}

fn receive_frame(mut from: &UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(|_wide| malformed("size"))?;
    if length > MESSAGE_MAX {
        return Err(malformed("size"));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(body)
}

impl News {
    /// Sends the news. `EPIPE` when the other end is gone.
    pub(crate) fn send(&self, mut to: &UnixStream) -> io::Result<()> {
        to.write_all(&Writer::framed(|writer| writer.news(self)))
    }

    /// Takes the next news.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] when the other end is gone.
    pub(crate) fn receive(from: &UnixStream) -> io::Result<Self> {
        let body = receive_frame(from)?;
        let mut reader = Reader(&body);
        let news = reader.news()?;
        reader.end()?;
        Ok(news)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn framed(fill: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self(vec![0; 8]);
        fill(&mut writer);
        let length = (writer.0.len() - 8) as u64;
        if let Some(head) = writer.0.first_chunk_mut::<8>() {
            *head = length.to_le_bytes();
        }
        writer.0
    }

    fn number(&mut self, number: u64) {
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn path(&mut self, path: &Path) {
        self.bytes(path.as_os_str().as_bytes());
    }

    fn list<T>(&mut self, items: &[T], mut each: impl FnMut(&mut Self, &T)) {
        self.number(items.len() as u64);
        for item in items {
            each(self, item);
        }
    }

    fn paths(&mut self, paths: &[AbsPath]) {
        self.list(paths, |writer, path| writer.path(path.as_path()));
    }

    fn time(&mut self, time: Duration) {
        self.number(time.as_secs());
        self.number(time.subsec_nanos().into());
    }

    fn launch(&mut self, launch: &Launch) {
        let Launch { command, policy, layers, caches, execs, notes, keeping, may_degrade } = launch;
        let Command { program, arguments, environment, folder } = command;
        self.bytes(program.as_bytes());
        self.list(arguments, |writer, argument| writer.bytes(argument.as_bytes()));
        self.list(environment, |writer, (name, value)| {
            writer.bytes(name.as_bytes());
            writer.bytes(value.as_bytes());
        });
        self.path(folder);
        self.policy(policy);
        self.list(layers, Self::layer);
        self.list(caches.as_slice(), Self::layer);
        self.list(notes.as_slice(), |writer, path| writer.path(path));
        self.list(keeping.as_slice(), |writer, Keeping { store, roots }| {
            writer.path(store.as_path());
            writer.paths(roots);
        });
        self.number(u64::from(*may_degrade));
        self.list(execs.as_slice(), Self::execs);
    }

    fn execs(&mut self, execs: &Execs) {
        // Whoever has none is refused before: the judge is a function of the other process.
        self.bytes(execs.text().unwrap_or_default());
        self.list(execs.stubs(), |writer, Stub { path, text }| {
            writer.path(path.as_path());
            writer.bytes(text.as_bytes());
        });
    }

    fn layer(&mut self, Layer { at, upper, work }: &Layer) {
        for path in [at, upper, work] {
            self.path(path.as_path());
        }
    }

    fn policy(&mut self, policy: &Policy) {
        let Policy {
            mode,
            workspace,
            home,
            writable,
            protected,
            hidden,
            readable,
            caches,
            tops,
            unprotected,
            awaited,
            network,
            limits,
        } = policy;
        self.bytes(mode.as_str().as_bytes());
        self.path(workspace.as_path());
        self.list(home.as_slice(), |writer, home| writer.path(home.as_path()));
        for paths in [writable, protected, hidden, readable, caches, tops, awaited] {
            self.paths(paths);
        }
        self.list(unprotected, |writer, name| writer.bytes(name.as_bytes()));
        self.network(network);
        let Limits { processes, memory_bytes, open_files, tmp_bytes, tmp_inodes, wall_time } =
            limits;
        self.number((*processes).into());
        self.number(*memory_bytes);
        self.number((*open_files).into());
        self.number(*tmp_bytes);
        self.number(*tmp_inodes);
        self.list(wall_time.as_slice(), |writer, time| writer.time(*time));
    }

    fn network(&mut self, network: &Network) {
        // The sandbox dials nobody, and a log-in may be in it.
        // It judges no request either; it shows whom to trust.
        let Network {
            host_ports,
            published,
            allow,
            deny,
            requests: _,
            authorities,
            private,
            open,
            upstream: _,
            logins: _,
            asks,
            logs_in,
        } = network;
        self.list(host_ports, |writer, port| writer.number((*port).into()));
        self.list(published, |writer, Published { outside, inside }| {
            writer.number((*outside).into());
            writer.number((*inside).into());
        });
        for rules in [allow, deny] {
            self.list(rules, |writer, HostRule { entry, place }| {
                writer.bytes(entry.to_string().as_bytes());
                writer.bytes(place.as_bytes());
            });
        }
        self.list(private, |writer, range| writer.bytes(range.to_string().as_bytes()));
        self.list(open.as_slice(), |writer, place| writer.bytes(place.as_bytes()));
        self.bytes(authorities.as_bytes());
        self.number(u64::from(*asks));
        self.number(u64::from(*logs_in));
    }

    fn news(&mut self, news: &News) {
        match news {
            News::Note(text) => {
                self.0.push(b'n');
                self.bytes(text.as_bytes());
            }
            News::Started => self.0.push(b's'),
            News::Ended(Ok(Outcome::Exited(status))) => self.0.extend([b'x', *status]),
            News::Ended(Ok(Outcome::Killed(signal))) => {
                self.0.push(b'k');
                self.0.extend(signal.to_le_bytes());
            }
            News::Ended(Ok(Outcome::TimedOut(limit))) => {
                self.0.push(b't');
                self.time(*limit);
            }
            News::Ended(Ok(Outcome::OverLimit(Exceeded::Memory { limit, used }))) => {
                self.0.push(b'm');
                self.number(*limit);
                self.number(*used);
            }
            News::Ended(Ok(Outcome::OverLimit(Exceeded::Temporary { limit, used }))) => {
                self.0.push(b'd');
                self.number(*limit);
                self.number(*used);
            }
            News::Ended(Ok(Outcome::OverLimit(Exceeded::OpenFiles { limit }))) => {
                self.0.push(b'o');
                self.number(*limit);
            }
            News::Ended(Ok(Outcome::OverLimit(Exceeded::OfUser(Shared::Descriptors)))) => {
                self.0.push(b'f');
            }
            News::Ended(Ok(Outcome::OverLimit(Exceeded::OfUser(Shared::Watches)))) => {
                self.0.push(b'w');
            }
            News::Ended(Err(error)) => self.error(error),
        }
    }

    fn error(&mut self, error: &SetupError) {
        match error {
            SetupError::Namespaces(cause) => {
                self.0.push(b'N');
                self.cause(cause);
            }
            SetupError::Step { step, subject, source } => {
                self.0.push(b'S');
                self.bytes(step.as_bytes());
                self.path(subject);
                self.cause(source);
            }
            SetupError::Canary { wall } => {
                self.0.push(b'C');
                self.bytes(wall.as_bytes());
            }
            SetupError::Unheld { what } => {
                self.0.push(b'U');
                self.bytes(what.as_bytes());
            }
            SetupError::Lost { how } => {
                self.0.push(b'L');
                self.bytes(how.as_bytes());
            }
            SetupError::NotRun { program, source } => {
                self.0.push(b'R');
                self.path(program);
                self.cause(source);
            }
            SetupError::Host(step, cause) => {
                self.0.push(b'H');
                self.bytes(step.as_bytes());
                self.cause(cause);
            }
        }
    }

    /// The error number, or for an error that has none its words.
    fn cause(&mut self, cause: &io::Error) {
        let number = cause.raw_os_error().unwrap_or(0);
        self.0.extend(number.to_le_bytes());
        self.bytes(if number == 0 { cause.to_string() } else { String::new() }.as_bytes());
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn end(&self) -> io::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed("too long")) }
    }

    fn fixed<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk().ok_or_else(|| malformed("too short"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn number<T: TryFrom<u64>>(&mut self) -> io::Result<T> {
        let number = u64::from_le_bytes(self.fixed()?);
        T::try_from(number).map_err(|_wide| malformed("number"))
    }

    fn bytes(&mut self) -> io::Result<&'a [u8]> {
        let length = self.number()?;
        let (head, rest) = self.0.split_at_checked(length).ok_or_else(|| malformed("too short"))?;
        self.0 = rest;
        Ok(head)
    }

    fn os_string(&mut self) -> io::Result<OsString> {
        Ok(OsString::from_vec(self.bytes()?.to_vec()))
    }

    fn text(&mut self) -> io::Result<String> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_wrong| malformed("text"))
    }

    fn path(&mut self) -> io::Result<PathBuf> {
        self.os_string().map(PathBuf::from)
    }

    fn abs_path(&mut self) -> io::Result<AbsPath> {
        AbsPath::new(self.path()?).map_err(|_relative| malformed("path"))
    }

    fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> io::Result<T>) -> io::Result<Vec<T>> {
        let count: usize = self.number()?;
        (0..count).map(|_| each(self)).collect()
    }

    fn optional<T>(
        &mut self,
        each: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<Option<T>> {
        let mut found = self.list(each)?;
        if found.len() > 1 { Err(malformed("option")) } else { Ok(found.pop()) }
    }

    fn time(&mut self) -> io::Result<Duration> {
        let seconds = self.number()?;
        let nanos: u32 = self.number()?;
        Ok(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanos.into())))
    }

    fn launch(&mut self, revive: Revive) -> io::Result<Launch> {
        let command = Command {
            program: self.os_string()?,
            arguments: self.list(Self::os_string)?,
            environment: self.list(|reader| Ok((reader.os_string()?, reader.os_string()?)))?,
            folder: self.path()?,
        };
        let policy = self.policy()?;
        let layers = self.list(Self::layer)?;
        let caches = self.optional(Self::layer)?;
        let notes = self.optional(Self::path)?;
        let keeping = self.optional(|reader| {
            Ok(Keeping { store: reader.abs_path()?, roots: reader.list(Self::abs_path)? })
        })?;
        let may_degrade = self.number::<u64>()? != 0;
        let execs = self.optional(|reader| reader.execs(revive))?;
        Ok(Launch { command, policy, layers, caches, execs, notes, keeping, may_degrade })
    }

    fn execs(&mut self, revive: Revive) -> io::Result<Execs> {
        let text = self.bytes()?;
        let stubs =
            self.list(|reader| Ok(Stub { path: reader.abs_path()?, text: reader.text()? }))?;
        revive(text, stubs).ok_or_else(|| malformed("rules about what is executed"))
    }

    fn layer(&mut self) -> io::Result<Layer> {
        Ok(Layer { at: self.abs_path()?, upper: self.abs_path()?, work: self.abs_path()? })
    }

    fn policy(&mut self) -> io::Result<Policy> {
        let mode: Mode = self.text()?.parse().map_err(|_unknown| malformed("mode"))?;
        Ok(Policy {
            mode,
            workspace: self.abs_path()?,
            home: self.optional(Self::abs_path)?,
            writable: self.list(Self::abs_path)?,
            protected: self.list(Self::abs_path)?,
            hidden: self.list(Self::abs_path)?,
            readable: self.list(Self::abs_path)?,
            caches: self.list(Self::abs_path)?,
            tops: self.list(Self::abs_path)?,
            awaited: self.list(Self::abs_path)?,
            unprotected: self.list(Self::text)?,
            network: self.network()?,
            limits: Limits {
                processes: self.number()?,
                memory_bytes: self.number()?,
                open_files: self.number()?,
                tmp_bytes: self.number()?,
                tmp_inodes: self.number()?,
                wall_time: self.optional(Self::time)?,
            },
        })
    }

    fn network(&mut self) -> io::Result<Network> {
        let rule = |reader: &mut Self| {
            let entry = reader.text()?.parse().map_err(|_unknown| malformed("host"))?;
            Ok(HostRule { entry, place: reader.text()? })
        };
        Ok(Network {
            host_ports: self.list(Self::number)?,
            published: self.list(|reader| {
                Ok(Published { outside: reader.number()?, inside: reader.number()? })
            })?,
            allow: self.list(rule)?,
            deny: self.list(rule)?,
            private: self
                .list(|reader| reader.text()?.parse().map_err(|_unknown| malformed("range")))?,
            open: self.optional(Self::text)?,
            authorities: self.text()?,
            asks: self.number::<u64>()? != 0,
            logs_in: self.number::<u64>()? != 0,
            ..Network::default()
        })
    }

    fn news(&mut self) -> io::Result<News> {
        let [kind] = self.fixed()?;
        let result = match kind {
            b'n' => return Ok(News::Note(self.text()?)),
            b's' => return Ok(News::Started),
            b'x' => Ok(Outcome::Exited(u8::from_le_bytes(self.fixed()?))),
            b'k' => Ok(Outcome::Killed(i32::from_le_bytes(self.fixed()?))),
            b't' => Ok(Outcome::TimedOut(self.time()?)),
            b'm' => Ok(Outcome::OverLimit(Exceeded::Memory {
                limit: self.number()?,
                used: self.number()?,
            })),
            b'd' => Ok(Outcome::OverLimit(Exceeded::Temporary {
                limit: self.number()?,
                used: self.number()?,
            })),
            b'o' => Ok(Outcome::OverLimit(Exceeded::OpenFiles { limit: self.number()? })),
            b'f' => Ok(Outcome::OverLimit(Exceeded::OfUser(Shared::Descriptors))),
            b'w' => Ok(Outcome::OverLimit(Exceeded::OfUser(Shared::Watches))),
            b'N' => Err(SetupError::Namespaces(self.cause()?)),
            b'S' => Err(SetupError::Step {
                step: self.text()?,
                subject: self.path()?,
                source: self.cause()?,
            }),
            b'C' => Err(SetupError::Canary { wall: self.text()? }),
            b'U' => Err(SetupError::Unheld { what: self.text()? }),
            b'L' => Err(SetupError::Lost { how: self.text()? }),
            b'R' => Err(SetupError::NotRun { program: self.path()?, source: self.cause()? }),
            b'H' => Err(SetupError::Host(self.text()?.into(), self.cause()?)),
            _ => return Err(malformed("kind of news")),
        };
        Ok(News::Ended(result))
    }

    fn cause(&mut self) -> io::Result<io::Error> {
        let number = i32::from_le_bytes(self.fixed()?);
        let text = self.text()?;
        let has_number = number != 0;
        Ok(if has_number { io::Error::from_raw_os_error(number) } else { io::Error::other(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExecRefusal, ExecRequest};

    fn path(bytes: &[u8]) -> PathBuf {
        PathBuf::from(OsString::from_vec(bytes.to_vec()))
    }

    fn network() -> Network {
        let rule = |entry: &str| HostRule { entry: entry.parse().unwrap(), place: "f:1".into() };
        Network {
            host_ports: vec![1, u16::MAX],
            published: vec![Published { outside: 8080, inside: 80 }],
            allow: vec![rule("*.example.org:22"), rule("[2001:db8::/32]:*")],
            deny: vec![rule("bad.example.org")],
            private: vec!["10.0.0.0/8".parse().unwrap()],
            open: Some("f:2".to_owned()),
            authorities: "-----BEGIN".to_owned(),
            asks: true,
            logs_in: true,
            ..Network::default()
        }
    }

    fn launch() -> Launch {
        let absolute = |bytes: &[u8]| AbsPath::new(path(bytes)).unwrap();
        Launch {
            command: Command {
                program: "sh".into(),
                arguments: vec![OsString::from_vec(b"\xff\n\0".to_vec()), OsString::new()],
                environment: vec![("A".into(), "b=c".into())],
                folder: path(b"/w \xfe"),
            },
            policy: Policy {
                mode: Mode::WorkspaceWrite,
                workspace: absolute(b"/w \xfe"),
                home: Some(absolute(b"/h")),
                writable: vec![absolute(b"/w \xfe"), absolute(b"/x\n")],
                protected: vec![absolute(b"/w \xfe/.env")],
                hidden: vec![absolute(b"/h/.ssh")],
                readable: Vec::new(),
                caches: vec![absolute(b"/h/.cargo")],
                tops: vec![absolute(b"/h/w")],
                unprotected: vec![".env".to_owned()],
                awaited: vec![absolute(b"/h/w/hooks")],
                network: network(),
                limits: Limits {
                    wall_time: Some(Duration::from_millis(1500)),
                    ..Limits::for_memory(1 << 40)
                },
            },
            layers: vec![Layer {
                at: absolute(b"/w \xfe"),
                upper: absolute(b"/s/upper"),
                work: absolute(b"/s/work"),
            }],
            caches: Some(Layer {
                at: absolute(b"/h"),
                upper: absolute(b"/c/upper"),
                work: absolute(b"/c/work"),
            }),
            execs: None,
            notes: Some(path(b"/s/\xff")),
            keeping: Some(Keeping {
                store: absolute(b"/s/undo"),
                roots: vec![absolute(b"/w \xfe")],
            }),
            may_degrade: true,
        }
    }

    /// A judge that refuses what it was handed.
    fn revived(text: &[u8], stubs: Vec<Stub>) -> Option<Execs> {
        let file = String::from_utf8(text.to_vec()).ok()?;
        let judge = move |request: &ExecRequest<'_>| {
            let refusal =
                ExecRefusal { line: "no".to_owned(), decided_by: "a rule".to_owned(), asks: false };
            (request.file == file).then_some(refusal)
        };
        Some(Execs::new(judge, stubs).handed(text.to_vec()))
    }

    #[test]
    fn a_judge_is_made_anew_from_what_was_handed() {
        let stub = Stub { path: AbsPath::new("/bin/x").unwrap(), text: "no \n".to_owned() };
        let given = Launch { execs: revived(b"/bin/x", vec![stub.clone()]), ..launch() };
        let bytes = Writer::framed(|writer| writer.launch(&given));
        let execs = Reader(&bytes[8..]).launch(revived).unwrap().execs.unwrap();
        assert_eq!(execs.stubs(), [stub]);
        let refusal = |file| execs.refusal(&ExecRequest { asked: file, file, argv: &[] });
        assert!(refusal("/bin/x").is_some() && refusal("/bin/y").is_none());
        let given = Launch { execs: revived(b"x", Vec::new()), ..launch() };
        let bytes = Writer::framed(|writer| writer.launch(&given));
        assert!(
            Reader(&bytes[8..]).launch(|_, _| None).is_err(),
            "what cannot be read runs nothing"
        );
    }

    #[test]
    fn a_launch_survives_the_wire_whatever_its_bytes() {
        let bytes = Writer::framed(|writer| writer.launch(&launch()));
        let mut reader = Reader(&bytes[8..]);
        assert_eq!(reader.launch(revived).unwrap(), launch());
        reader.end().unwrap();
    }

    #[test]
    fn what_is_cut_short_is_malformed_at_every_length() {
        let bytes = Writer::framed(|writer| writer.launch(&launch()));
        for end in 8..bytes.len() - 1 {
            assert!(Reader(&bytes[8..end]).launch(revived).is_err(), "{end}");
        }
    }

    #[test]
    fn news_and_errors_survive_the_wire_with_their_words() {
        let error = |number| io::Error::from_raw_os_error(number);
        let news = [
            News::Note("weaker".to_owned()),
            News::Started,
            News::Ended(Ok(Outcome::Exited(255))),
            News::Ended(Ok(Outcome::Killed(9))),
            News::Ended(Ok(Outcome::TimedOut(Duration::from_millis(2500)))),
            News::Ended(Ok(Outcome::OverLimit(Exceeded::Memory { limit: 7, used: u64::MAX }))),
            News::Ended(Ok(Outcome::OverLimit(Exceeded::Temporary { limit: 8, used: 1 << 40 }))),
            News::Ended(Ok(Outcome::OverLimit(Exceeded::OpenFiles { limit: 9 }))),
            News::Ended(Ok(Outcome::OverLimit(Exceeded::OfUser(Shared::Descriptors)))),
            News::Ended(Ok(Outcome::OverLimit(Exceeded::OfUser(Shared::Watches)))),
            News::Ended(Err(SetupError::Namespaces(error(1)))),
            News::Ended(Err(SetupError::Step {
                step: "bind".to_owned(),
                subject: path(b"/a\xff"),
                source: error(2),
            })),
            News::Ended(Err(SetupError::Canary { wall: "mounts".to_owned() })),
            News::Ended(Err(SetupError::Unheld { what: "a draft".to_owned() })),
            News::Ended(Err(SetupError::Lost { how: "signal 9".to_owned() })),
            News::Ended(Err(SetupError::NotRun { program: path(b"x"), source: error(13) })),
            News::Ended(Err(SetupError::Host("fork".into(), io::Error::other("no number")))),
        ];
        let (near, far) = UnixStream::pair().unwrap();
        for news in news {
            news.send(&near).unwrap();
            // An error from a number and one that was parsed print the same.
            let expected = format!("{news:?}").replace("Custom", "");
            let found = format!("{:?}", News::receive(&far).unwrap()).replace("Custom", "");
            assert_eq!(found, expected);
        }
        drop(near);
        let end = News::receive(&far).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof);
    }
}
