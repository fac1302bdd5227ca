//! Questions from inside, seen from both sides: a call that waits while somebody outside decides.
//!
//! PID 1 sends each question with one end of a socket pair of its own. The answer comes back on the
//! other, and whoever closes theirs first has given up: a caller that is gone takes its question
//! along. Whoever holds the outer end decides; nothing in here knows a rule or a person.
//!
//! Invariants: with nobody to answer a denial stays what it is, and most of them ask nobody at all; a
//! call that waits ends with its caller, or with a signal for it.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::control;

/// Questions of one sandbox that wait at one time; the next is a denial.
const OPEN_MAX: usize = 32;
/// How long nobody is asked when nobody was there.
const QUIET: Duration = Duration::from_millis(250);
/// How often a caller is looked at that waits.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Longest question, in bytes. What is longer could not be shown whole.
const QUESTION_MAX: usize = 7000;

const WRITE: u8 = b'w';
const EXECUTE: u8 = b'x';
const MAKE_FOLDER: u8 = b'd';
const MAKE_PIPE: u8 = b'p';
const REMOVE: u8 = b'r';
const RENAME: u8 = b'm';
const MODE: u8 = b'o';
const TIMES: u8 = b't';
const OWNER: u8 = b'g';
const SYMLINK: u8 = b's';
const LINK: u8 = b'l';
const TRUNCATE: u8 = b'c';
const ATTRIBUTE: u8 = b'a';

/// What a call wants that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// To open a file for writing that the view shows read-only.
    Write {
        /// Where the call would land: absolute, without links.
        path: PathBuf,
        /// Those of `open(2)`.
        flags: i32,
        /// Of a file that is made, without what the caller's umask takes.
        mode: u32,
    },
    /// To give, take or change a name that the view shows read-only.
    Change(Change),
    /// To execute a program that a rule asks about.
    Execute {
        /// The file by the name that the caller gave.
        asked: String,
        /// The same without links.
        file: String,
        /// The words, from `argv[0]`.
        argv: Vec<String>,
    },
}

/// What a call does to names. The paths are where it would land: absolute, without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `mkdir(2)`.
    MakeFolder {
        /// The folder.
        path: PathBuf,
        /// Its mode, without what the caller's umask takes.
        mode: u32,
    },
    /// `mkfifo(3)`.
    MakePipe {
        /// The pipe.
        path: PathBuf,
        /// Its mode, without what the caller's umask takes.
        mode: u32,
    },
    /// `unlink(2)`, `rmdir(2)`.
    Remove {
        /// What goes.
        path: PathBuf,
        /// Whether it has to be a folder.
        is_folder: bool,
    },
    /// `rename(2)`.
    Rename {
        /// What it is called.
        from: PathBuf,
        /// What it shall be called.
        to: PathBuf,
        /// Whether nothing may be replaced.
        is_careful: bool,
    },
    /// `chmod(2)`.
    Mode {
        /// Whose.
        path: PathBuf,
        /// The permissions.
        mode: u32,
    },
    /// `utimensat(2)`.
    Times {
        /// Whose.
        path: PathBuf,
        /// Seconds and nanoseconds of the last access, then of the last change; the latter may say `now`
        /// or `leave it`.
        times: [i64; 4],
    },
    /// `chown(2)`.
    Owner {
        /// Whose.
        path: PathBuf,
        /// The user; none to leave it.
        user: Option<u32>,
        /// The group, likewise.
        group: Option<u32>,
    },
    /// `symlink(2)`.
    Symlink {
        /// The link.
        path: PathBuf,
        /// What it says.
        text: PathBuf,
    },
    /// `link(2)`.
    Link {
        /// What the file is called.
        from: PathBuf,
        /// What it shall be called as well.
        to: PathBuf,
    },
    /// `truncate(2)`.
    Truncate {
        /// The file.
        path: PathBuf,
        /// How long it shall be.
        length: u64,
    },
    /// `setxattr(2)`, `removexattr(2)`.
    Attribute {
        /// Whose.
        path: PathBuf,
        /// The attribute's.
        name: String,
        /// What it shall be; `None` when it goes.
        value: Option<Vec<u8>>,
        /// Those of `setxattr(2)`.
        flags: u32,
    },
}

impl Change {
    /// The same with a mode that `umask` has cut.
    pub(crate) fn cut(self, umask: u32) -> Self {
        match self {
            Self::MakeFolder { path, mode } => Self::MakeFolder { path, mode: mode & !umask },
            Self::MakePipe { path, mode } => Self::MakePipe { path, mode: mode & !umask },
            other @ (Self::Remove { .. }
            | Self::Rename { .. }
            | Self::Mode { .. }
            | Self::Times { .. }
            | Self::Owner { .. }
            | Self::Symlink { .. }
            | Self::Link { .. }
            | Self::Truncate { .. }
            | Self::Attribute { .. }) => other,
        }
    }
}

/// The end that is outside.
#[derive(Debug)]
pub struct Asks {
    channel: OwnedFd,
}

/// One call that waits.
#[derive(Debug)]
pub struct Question {
    /// What it wants.
    pub wanted: Wanted,
    /// The command line of its process, cut; as hostile as its name.
    pub program: String,
    reply: OwnedFd,
}

/// What becomes of a call that waits.
#[derive(Debug)]
pub enum Reply {
    /// Nobody is there: it is denied, and so is what comes in the next moment.
    Nobody,
    /// This is not asked about: it is denied.
    Unasked,
    /// It goes on, or what it wanted has been done.
    Yes,
    /// It gets this file.
    File(OwnedFd),
    /// It was allowed, and fails with this error number.
    Failed(i32),
    /// It is denied, in these words.
    No(String),
}

impl Asks {
    /// Both ends: this one, and the sandbox's.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (channel, inside) = control::pair()?;
        Ok((Self { channel }, inside))
    }

    /// Readable when there is a question, or the sandbox is gone.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Whether the sandbox is gone.
    pub(crate) fn is_over(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.channel, PollFlags::empty())];
        // A hang-up is told without being asked for.
        !matches!(poll(&mut fds, Some(&now)), Ok(0))
    }

    /// Waits for the next question; `Ok(None)` when the sandbox is gone.
    ///
    /// # Errors
    ///
    /// When the other end says what it never would.
    pub fn next(&self) -> io::Result<Option<Question>> {
        let (packet, descriptors) = control::receive(&self.channel)?;
        if packet.is_empty() {
            return Ok(None);
        }
        let reply = descriptors.into_iter().next().ok_or_else(malformed)?;
        let (wanted, program) = decode(&packet).ok_or_else(malformed)?;
        Ok(Some(Question { wanted, program, reply }))
    }
}

impl Question {
    /// Whether the call still waits.
    pub fn is_wanted(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let mut fds = [PollFd::new(&self.reply, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&now)), Ok(0))
    }

    /// Answers. A call that is gone needs none.
    pub fn answer(self, reply: Reply) {
        let (packet, file) = match reply {
            Reply::Nobody => (b"0".to_vec(), None),
            Reply::Unasked => (b"u".to_vec(), None),
            Reply::Yes => (b"y".to_vec(), None),
            Reply::File(file) => (b"f".to_vec(), Some(file)),
            Reply::Failed(errno) => (format!("e{errno}").into_bytes(), None),
            Reply::No(word) => ([b"n", word.as_bytes()].concat(), None),
        };
        let packet = packet.get(..packet.len().min(QUESTION_MAX)).unwrap_or_default();
        control::send(&self.reply, packet, file.as_slice()).ok();
    }
}

/// The end that is inside, for PID 1.
#[derive(Debug)]
pub(crate) struct Asker {
    channel: OwnedFd,
    quiet_until: Mutex<Option<Instant>>,
    open: Arc<AtomicUsize>,
}

/// A question that was sent.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    asker: &'a Asker,
    reply: OwnedFd,
}

impl Asker {
    pub(crate) fn new(channel: OwnedFd) -> Self {
        Self { channel, quiet_until: Mutex::default(), open: Arc::default() }
    }

    /// Whether somebody may be there to answer one more. Costs no call.
    pub(crate) fn is_worth_it(&self) -> bool {
        let quiet = *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
        self.open.load(Ordering::Relaxed) < OPEN_MAX
            && quiet.is_none_or(|until| Instant::now() >= until)
    }

    /// Sends a question.
    ///
    /// # Errors
    ///
    /// When it is too long to be shown, or nobody listens any more.
    pub(crate) fn put(&self, wanted: &Wanted, program: &str) -> io::Result<Pending<'_>> {
        let packet = encode(wanted, program);
        if packet.len() > QUESTION_MAX {
            return Err(io::Error::from_raw_os_error(libc::E2BIG));
        }
        let (reply, theirs) = control::pair()?;
        control::send(&self.channel, &packet, &[theirs])?;
        self.open.fetch_add(1, Ordering::Relaxed);
        Ok(Pending { asker: self, reply })
    }
}

impl Pending<'_> {
    /// Waits for the answer as long as `goes_on` has no error.
    ///
    /// # Errors
    ///
    /// That of `goes_on`.
    pub(crate) fn wait(self, mut goes_on: impl FnMut() -> io::Result<()>) -> io::Result<Reply> {
        loop {
            let mut fds = [PollFd::new(&self.reply, PollFlags::IN)];
            if matches!(poll(&mut fds, Some(&TURN)), Ok(1..)) {
                break;
            }
            if let Err(error) = goes_on() {
                // What was answered by now counts.
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                if matches!(poll(&mut fds, Some(&now)), Ok(1..)) {
                    break;
                }
                return Err(error);
            }
        }
        let (packet, descriptors) = control::receive(&self.reply)?;
        Ok(match packet.split_first() {
            Some((b'y', _)) => Reply::Yes,
            Some((b'n', word)) => Reply::No(String::from_utf8_lossy(word).into_owned()),
            Some((b'u', _)) => Reply::Unasked,
            Some((b'e', number)) => {
                let number = std::str::from_utf8(number).ok().and_then(|text| text.parse().ok());
                number.map_or(Reply::Unasked, Reply::Failed)
            }
            Some((b'f', _)) => match descriptors.into_iter().next() {
                Some(file) => Reply::File(file),
                None => Reply::Unasked,
            },
            // Whoever decided is gone, or says that nobody is there.
            _ => {
                let mut quiet = self.asker.quiet_until.lock();
                let quiet =
                    quiet.as_deref_mut().map(|until| *until = Instant::now().checked_add(QUIET));
                quiet.ok();
                Reply::Nobody
            }
        })
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.asker.open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed question")
}

/// Two numbers, then texts with a zero byte after each, none of which has one.
fn encode(wanted: &Wanted, program: &str) -> Vec<u8> {
    let (times, value);
    let (kind, numbers, texts) = match wanted {
        Wanted::Write { path, flags, mode } => {
            (WRITE, [*flags, mode.cast_signed()], vec![path.as_os_str().as_bytes()])
        }
        Wanted::Change(Change::Times { path, times: numbers }) => {
            times = numbers.map(|number| number.to_string()).join(" ");
            (TIMES, [0, 0], vec![path.as_os_str().as_bytes(), times.as_bytes()])
        }
        Wanted::Change(Change::Owner { path, user, group }) => {
            let one = |id: &Option<u32>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
            value = format!("{} {}", one(user), one(group));
            (OWNER, [0, 0], vec![path.as_os_str().as_bytes(), value.as_bytes()])
        }
        Wanted::Change(Change::Truncate { path, length }) => {
            value = length.to_string();
            (TRUNCATE, [0, 0], vec![path.as_os_str().as_bytes(), value.as_bytes()])
        }
        Wanted::Change(Change::Attribute { path, name, value: bytes, flags }) => {
            // It may hold any byte.
            let numbers = |bytes: &Vec<u8>| -> Vec<String> {
                bytes.iter().map(|byte| format!(" {byte}")).collect()
            };
            value = bytes.as_ref().map_or_else(|| "-".to_owned(), |all| numbers(all).concat());
            let texts = vec![path.as_os_str().as_bytes(), name.as_bytes(), value.as_bytes()];
            (ATTRIBUTE, [0, flags.cast_signed()], texts)
        }
        Wanted::Change(change) => encode_change(change),
        Wanted::Execute { asked, file, argv } => {
            let texts = [asked, file].into_iter().chain(argv).map(String::as_bytes);
            (EXECUTE, [0, 0], texts.collect())
        }
    };
    let mut packet = vec![kind];
    packet.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    for text in std::iter::once(program.as_bytes()).chain(texts) {
        packet.extend(text.iter().filter(|byte| **byte != 0));
        packet.push(0);
    }
    packet
}

/// What there is to tell of a change, besides what is written out in words.
fn encode_change(change: &Change) -> (u8, [i32; 2], Vec<&[u8]>) {
    fn one(path: &Path) -> Vec<&[u8]> {
        vec![path.as_os_str().as_bytes()]
    }
    fn two<'a>(one: &'a Path, other: &'a Path) -> Vec<&'a [u8]> {
        [one, other].map(|path| path.as_os_str().as_bytes()).to_vec()
    }
    match change {
        Change::MakeFolder { path, mode } => (MAKE_FOLDER, [0, mode.cast_signed()], one(path)),
        Change::MakePipe { path, mode } => (MAKE_PIPE, [0, mode.cast_signed()], one(path)),
        Change::Remove { path, is_folder } => (REMOVE, [i32::from(*is_folder), 0], one(path)),
        Change::Rename { from, to, is_careful } => {
            (RENAME, [i32::from(*is_careful), 0], two(from, to))
        }
        Change::Mode { path, mode } => (MODE, [0, mode.cast_signed()], one(path)),
        Change::Times { path, .. } => (TIMES, [0, 0], one(path)),
        Change::Owner { path, .. } => (OWNER, [0, 0], one(path)),
        Change::Truncate { path, .. } => (TRUNCATE, [0, 0], one(path)),
        Change::Attribute { path, .. } => (ATTRIBUTE, [0, 0], one(path)),
        Change::Symlink { path, text } => (SYMLINK, [0, 0], two(path, text)),
        Change::Link { from, to } => (LINK, [0, 0], two(from, to)),
    }
}

fn decode(packet: &[u8]) -> Option<(Wanted, String)> {
    let (&kind, rest) = packet.split_first()?;
    let (flags, rest) = rest.split_first_chunk::<4>()?;
    let (mode, rest) = rest.split_first_chunk::<4>()?;
    let mut texts = rest.strip_suffix(&[0])?.split(|byte| *byte == 0);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
    let program = text(texts.next()?);
    let (flags, mode) = (i32::from_le_bytes(*flags), u32::from_le_bytes(*mode));
    let wanted = match kind {
        WRITE => Wanted::Write { path: path(texts.next()?), flags, mode },
        MAKE_FOLDER => Wanted::Change(Change::MakeFolder { path: path(texts.next()?), mode }),
        MAKE_PIPE => Wanted::Change(Change::MakePipe { path: path(texts.next()?), mode }),
        REMOVE => {
            Wanted::Change(Change::Remove { path: path(texts.next()?), is_folder: flags != 0 })
        }
        RENAME => Wanted::Change(Change::Rename {
            from: path(texts.next()?),
            to: path(texts.next()?),
            is_careful: flags != 0,
        }),
        MODE => Wanted::Change(Change::Mode { path: path(texts.next()?), mode }),
        TIMES => {
            let path = path(texts.next()?);
            let numbers = text(texts.next()?);
            let mut numbers = numbers.split(' ').map_while(|number| number.parse().ok());
            let times = [numbers.next()?, numbers.next()?, numbers.next()?, numbers.next()?];
            Wanted::Change(Change::Times { path, times })
        }
        OWNER => {
            let (path, ids) = (path(texts.next()?), text(texts.next()?));
            let (user, group) = ids.split_once(' ')?;
            let one = |id: &str| if id == "-" { Some(None) } else { id.parse().ok().map(Some) };
            Wanted::Change(Change::Owner { path, user: one(user)?, group: one(group)? })
        }
        SYMLINK => {
            Wanted::Change(Change::Symlink { path: path(texts.next()?), text: path(texts.next()?) })
        }
        LINK => Wanted::Change(Change::Link { from: path(texts.next()?), to: path(texts.next()?) }),
        TRUNCATE => {
            let path = path(texts.next()?);
            Wanted::Change(Change::Truncate { path, length: text(texts.next()?).parse().ok()? })
        }
        ATTRIBUTE => {
            let (path, name) = (path(texts.next()?), text(texts.next()?));
            let value = match texts.next()? {
                b"-" => None,
                numbers => Some(bytes(&text(numbers))?),
            };
            Wanted::Change(Change::Attribute { path, name, value, flags: mode })
        }
        EXECUTE => Wanted::Execute {
            asked: text(texts.next()?),
            file: text(texts.next()?),
            argv: texts.map(text).collect(),
        },
        _ => return None,
    };
    Some((wanted, program))
}

/// The bytes that are written out as numbers.
fn bytes(numbers: &str) -> Option<Vec<u8>> {
    numbers.split_ascii_whitespace().map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &[u8]) -> Wanted {
        let path = OsString::from_vec(path.to_vec()).into();
        Wanted::Write { path, flags: libc::O_RDWR | libc::O_CREAT, mode: 0o640 }
    }

    #[test]
    fn a_question_survives_the_wire() {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let execute = |argv: &[&str]| Wanted::Execute {
            asked: "git".to_owned(),
            file: "/usr/bin/git".to_owned(),
            argv: words(argv),
        };
        let path = |bytes: &[u8]| PathBuf::from(OsString::from_vec(bytes.to_vec()));
        let changes = [
            Change::MakeFolder { path: path(b"/a\xff"), mode: 0o750 },
            Change::MakePipe { path: path(b"/p"), mode: 0o640 },
            Change::Remove { path: path(b"/b"), is_folder: true },
            Change::Rename { from: path(b"/c"), to: path(b"/d e"), is_careful: true },
            Change::Mode { path: path(b"/e"), mode: 0o755 },
            Change::Times { path: path(b"/f"), times: [-1, 1_073_741_823, i64::MAX, 0] },
            Change::Owner { path: path(b"/f"), user: None, group: Some(u32::MAX - 1) },
            Change::Symlink { path: path(b"/g"), text: path(b"../\xff") },
            Change::Link { from: path(b"/h"), to: path(b"/i") },
            Change::Truncate { path: path(b"/j"), length: 1 << 40 },
            Change::Attribute {
                path: path(b"/k"),
                name: "user.x".to_owned(),
                value: Some(b"\0\xff-".to_vec()),
                flags: 1,
            },
            Change::Attribute {
                path: path(b"/l"),
                name: "user.y".to_owned(),
                value: None,
                flags: 0,
            },
        ];
        let changes = changes.into_iter().map(Wanted::Change);
        let others = [write(b"/a\n\xff b"), execute(&["git", "", "push"]), execute(&[])];
        for wanted in others.into_iter().chain(changes) {
            assert_eq!(decode(&encode(&wanted, "sh -c x")), Some((wanted, "sh -c x".to_owned())));
        }
        assert_eq!(decode(b"w"), None);
    }

    #[test]
    fn each_gets_its_own_answer_and_whoever_gives_up_is_seen() {
        let (asks, channel) = Asks::pair().unwrap();
        let asker = Asker::new(channel);
        let first = asker.put(&write(b"/1"), "").unwrap();
        let second = asker.put(&write(b"/2"), "").unwrap();
        let [one, two] = [(); 2].map(|()| asks.next().unwrap().unwrap());
        assert!(one.is_wanted() && two.is_wanted());
        two.answer(Reply::No("second".to_owned()));
        let answer = second.wait(|| Ok(())).unwrap();
        assert!(matches!(answer, Reply::No(word) if word == "second"));
        let gone = first.wait(|| Err(io::ErrorKind::Interrupted.into()));
        assert_eq!(gone.unwrap_err().kind(), io::ErrorKind::Interrupted);
        // A fork of another test may hold a copy of the end that was closed, for a moment.
        let is_gone = || {
            poll(&mut [], Some(&TURN)).ok();
            !one.is_wanted()
        };
        assert!((0..100).any(|_| is_gone()));
    }

    #[test]
    fn a_flood_and_an_empty_room_ask_nobody() {
        let (asks, channel) = Asks::pair().unwrap();
        let asker = Asker::new(channel);
        let open: Vec<_> = (0..OPEN_MAX).map(|_| asker.put(&write(b"/1"), "").unwrap()).collect();
        assert!(!asker.is_worth_it(), "as many as may wait");
        drop(open);
        assert!(asker.is_worth_it());
        let pending = asker.put(&write(b"/2"), "").unwrap();
        while let Some(question) = asks.next().unwrap() {
            let is_last = question.wanted == write(b"/2");
            question.answer(Reply::Nobody);
            if is_last {
                break;
            }
        }
        assert!(matches!(pending.wait(|| Ok(())), Ok(Reply::Nobody)));
        assert!(!asker.is_worth_it(), "nobody was there a moment ago");
        let long = write(&vec![b'a'; QUESTION_MAX]);
        assert!(asker.put(&long, "").is_err(), "what cannot be shown whole");
    }
}
