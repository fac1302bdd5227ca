//! The one place where the `git` program is run.
//!
//! Every call has a fixed environment, no configuration but ours, and a repository that we
//! made; the user's own is named to git as a store of objects only. (Two questions need its
//! configuration, `repository`: they run nothing that it names.) So no hook, filter, fsmonitor,
//! textconv, external diff, credential helper or remote can run, whatever a file says.

mod branch;
mod clone;
mod ignored;
mod objects;
mod repository;
mod snapshot;
pub(crate) mod trees;

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::str::FromStr;

pub(crate) use branch::{Identity, Pushed, give_commits, identity};
pub(crate) use clone::clone_commit;
pub use clone::{CloneError, Cloned, clone_head};
pub(crate) use ignored::{copy_ignores, ignored};
pub(crate) use objects::Objects;
pub use repository::Repository;
pub(crate) use snapshot::{COUNT_MAX, FILE_MAX, TOTAL_MAX};
pub use snapshot::{LocalChanges, SnapshotError};

use serde::{Deserialize, Serialize};
use stockade_agents::programs;

/// What an answer may be long, in bytes, unless the caller streams it.
const OUTPUT_MAX: u64 = 256 << 20;

/// How much of what git says about a failure is kept, in bytes.
const WORDS_MAX: u64 = 4 << 10;

/// The tree without files, which git knows without storing it: attributes are taken from it.
const EMPTY_TREE: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";
const EMPTY_TREE_SHA256: &str = "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321";

/// Settings of every call; what stands later on the command line wins.
const SETTINGS: [&str; 20] = [
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.untrackedCache=false",
    "core.attributesFile=/dev/null",
    "core.excludesFile=/dev/null",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.symlinks=true",
    "core.safecrlf=false",
    "core.quotePath=true",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.askPass=false",
    "credential.helper=",
    "protocol.allow=never",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    // Whose the files are is decided before; here it is only in the way of root.
    "safe.directory=*",
];

const ENVIRONMENT: [(&str, &str); 14] = [
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_SYSTEM", "/dev/null"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_LITERAL_PATHSPECS", "1"),
    ("GIT_ALLOW_PROTOCOL", "none"),
    ("GIT_ASKPASS", "false"),
    ("GIT_PAGER", "cat"),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
];

/// Git could not do what was asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// The program cannot be started.
    #[error("cannot run `git`")]
    Start(#[source] io::Error),
    /// It ended with an error.
    #[error("`git {verb}` failed: {words}")]
    Failed {
        /// Its verb.
        verb: String,
        /// The end of what it said.
        words: String,
    },
    /// Its answer is longer than anything honest.
    #[error("`git {verb}` says more than {limit} bytes")]
    TooLong {
        /// Its verb.
        verb: String,
        /// The limit.
        limit: u64,
    },
    /// Its answer is not what it documents.
    #[error("`git {verb}` gave an answer that cannot be read")]
    Answer {
        /// Its verb.
        verb: String,
    },
    /// A pipe to it, or a file for it, failed.
    #[error("cannot work with `git {verb}`")]
    Io {
        /// Its verb.
        verb: String,
        /// The system call's error.
        source: io::Error,
    },
}

impl GitError {
    fn io(verb: &str) -> impl Fn(io::Error) -> Self {
        let verb = verb.to_owned();
        move |source| Self::Io { verb: verb.clone(), source }
    }

    pub(crate) fn answer(verb: &str) -> Self {
        Self::Answer { verb: verb.to_owned() }
    }

    /// What the user can do about it, if anything.
    pub fn hint(&self) -> Option<&'static str> {
        matches!(self, Self::Start(_)).then_some("install git (Debian: `apt-get install git`)")
    }
}

/// The name of an object: hexadecimal, 40 digits (SHA-1) or 64 (SHA-256).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

impl ObjectId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for "nothing" in a diff.
    pub(crate) fn is_zero(&self) -> bool {
        self.0.bytes().all(|digit| digit == b'0')
    }
}

impl FromStr for ObjectId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if is_hex && matches!(text.len(), 40 | 64) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("`{text}` is no object's name"))
        }
    }
}

impl TryFrom<String> for ObjectId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0
    }
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Git with a repository to work in.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    folder: PathBuf,
    variables: Vec<(&'static str, OsString)>,
    settings: Vec<OsString>,
    /// Whether the user's own configuration is read: for what `config` and `var` answer.
    is_users: bool,
}

impl Git {
    /// Git in `folder`, which it looks for a repository from: only for questions.
    fn discovering(folder: &Path) -> Self {
        let folder = folder.to_owned();
        Self { folder, variables: Vec::new(), settings: Vec::new(), is_users: false }
    }

    /// Git with a repository that we made, without attributes and without a work tree.
    pub(crate) fn bare(directory: &Path) -> Self {
        Self::discovering(directory)
            .variable("GIT_DIR", directory)
            .variable("GIT_ATTR_SOURCE", attributes_of_none(directory))
    }

    /// With a further environment variable.
    fn variable(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.push((name, value.as_ref().to_owned()));
        self
    }

    /// With a setting of its own.
    fn setting(mut self, name: &str, value: &OsStr) -> Self {
        let mut setting = OsString::from(format!("{name}="));
        setting.push(value);
        self.settings.push(setting);
        self
    }

    /// With objects of another repository to read from.
    pub(crate) fn borrowing(self, objects: &Path) -> Self {
        // A colon would end the path: quoted, as gitformat has it ("environment variables").
        let mut quoted = OsString::from("\"");
        quoted.push(objects);
        quoted.push("\"");
        self.variable("GIT_ALTERNATE_OBJECT_DIRECTORIES", quoted)
    }

    fn command(&self, arguments: &[&OsStr]) -> Command {
        let mut command = Command::new("git");
        command.env_clear();
        command.envs(programs::path().map(|path| ("PATH", path)));
        if !self.is_users {
            command.envs(ENVIRONMENT);
            command.args(SETTINGS.iter().flat_map(|setting| ["-c", setting]));
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        command.args(arguments).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it and gives all that it prints.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Vec<u8>, GitError> {
        self.run_with(arguments, &[])
    }

    /// Runs it with `input`, and gives all that it prints.
    pub(crate) fn run_with<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        input: &[u8],
    ) -> Result<Vec<u8>, GitError> {
        let mut output = Vec::new();
        self.stream(arguments, input, OUTPUT_MAX, &mut |part| {
            output.extend_from_slice(part);
            Ok(())
        })?;
        Ok(output)
    }

    /// Runs it with `input`, and hands on what it prints, up to `limit` bytes.
    pub(crate) fn stream<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        input: &[u8],
        limit: u64,
        output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), GitError> {
        let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        let verb = verb(&arguments);
        let (status, words) = self.finish(&arguments, input, limit, output)?;
        ended(&verb, status, &words)
    }

    /// Runs it whatever its exit status, which it gives with all that it prints.
    pub(crate) fn status_of<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
    ) -> Result<(Option<i32>, Vec<u8>), GitError> {
        self.status_with(arguments, &[])
    }

    /// The same with `input`.
    pub(crate) fn status_with<A: AsRef<OsStr>>(
        &self,
        arguments: &[A],
        input: &[u8],
    ) -> Result<(Option<i32>, Vec<u8>), GitError> {
        let arguments: Vec<&OsStr> = arguments.iter().map(AsRef::as_ref).collect();
        let mut output = Vec::new();
        let (status, _) = self.finish(&arguments, input, OUTPUT_MAX, &mut |part| {
            output.extend_from_slice(part);
            Ok(())
        })?;
        Ok((status.code(), output))
    }

    fn finish(
        &self,
        arguments: &[&OsStr],
        input: &[u8],
        limit: u64,
        output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(ExitStatus, String), GitError> {
        let verb = verb(arguments);
        let mut command = self.command(arguments);
        if !input.is_empty() {
            command.stdin(Stdio::piped());
        }
        let mut child = command.spawn().map_err(GitError::Start)?;
        let words = std::thread::scope(|scope| {
            let stdin = child.stdin.take();
            let stderr = child.stderr.take();
            scope.spawn(move || {
                // A git that ends before it has read everything says why.
                stdin.map(|mut stdin| stdin.write_all(input).ok());
            });
            let words = scope.spawn(move || last_words(stderr));
            let passed = pass_on(&mut child, limit, output);
            if passed.is_err() {
                child.kill().ok();
            }
            let words = words.join().unwrap_or_default();
            passed.map(|()| words)
        });
        let status = child.wait().map_err(GitError::io(&verb))?;
        match words {
            Ok(words) => Ok((status, words)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                Err(GitError::TooLong { verb, limit })
            }
            Err(source) => Err(GitError::Io { verb, source }),
        }
    }

    /// Runs it for its exit status alone: whether something is so.
    fn is_true<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Result<Option<Vec<u8>>, GitError> {
        match self.run(arguments) {
            Ok(output) => Ok(Some(output)),
            Err(GitError::Failed { words, .. }) if words.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// The repository of a thread's changes in the folder `thread`, made if it is not there: with names as
/// the user's has them.
pub(crate) fn of_changes(
    thread: &Path,
    repository: Option<&Repository>,
) -> Result<PathBuf, GitError> {
    let directory = thread.join(trees::CHANGES);
    if !directory.exists() {
        init_bare(&directory, repository.map_or("sha1", |repository| &repository.format))?;
    }
    Ok(directory)
}

/// Makes a bare repository with nothing in it but what git needs.
pub(crate) fn init_bare(directory: &Path, format: &str) -> Result<(), GitError> {
    let mut folder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.create(directory).map_err(GitError::io("init"))?;
    let format = format!("--object-format={format}");
    let arguments = ["init", "--quiet", "--bare", "--template=", "-b", "none", &format];
    Git::discovering(directory).variable("GIT_DIR", directory).run(&arguments)?;
    Ok(())
}

/// The empty tree in the repository's format of names.
fn attributes_of_none(directory: &Path) -> &'static str {
    let config = std::fs::read_to_string(directory.join("config")).unwrap_or_default();
    if config.to_ascii_lowercase().contains("objectformat = sha256") {
        EMPTY_TREE_SHA256
    } else {
        EMPTY_TREE
    }
}

fn verb(arguments: &[&OsStr]) -> String {
    arguments.first().map(|verb| verb.to_string_lossy().into_owned()).unwrap_or_default()
}

fn pass_on(
    child: &mut Child,
    limit: u64,
    output: &mut dyn FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let Some(mut stdout) = child.stdout.take() else { return Ok(()) };
    let mut buffer = vec![0; 64 << 10];
    let mut total = 0_u64;
    loop {
        let count = match stdout.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        total += u64::try_from(count).unwrap_or(u64::MAX);
        if total > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        output(buffer.get(..count).unwrap_or_default())?;
    }
}

/// What a program said on its standard error; all is read, so that it is not held up.
fn last_words(stderr: Option<impl Read>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut words = Vec::new();
    stderr.by_ref().take(WORDS_MAX).read_to_end(&mut words).ok();
    io::copy(&mut stderr, &mut io::sink()).ok();
    String::from_utf8_lossy(&words).trim().trim_start_matches("fatal: ").to_owned()
}

fn ended(verb: &str, status: ExitStatus, words: &str) -> Result<(), GitError> {
    if status.success() {
        return Ok(());
    }
    Err(GitError::Failed { verb: verb.to_owned(), words: words.to_owned() })
}

/// The lines of an answer in which NUL ends each.
pub(crate) fn fields(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    answer.split(|byte| *byte == 0).filter(|field| !field.is_empty())
}

/// One line of text.
pub(crate) fn line<'a>(verb: &str, answer: &'a [u8]) -> Result<&'a str, GitError> {
    let text = str::from_utf8(answer).ok().map(str::trim_end);
    text.ok_or_else(|| GitError::answer(verb))
}

/// The name of an object, alone on a line.
pub(crate) fn object(verb: &str, answer: &[u8]) -> Result<ObjectId, GitError> {
    line(verb, answer)?.parse().ok().ok_or_else(|| GitError::answer(verb))
}
