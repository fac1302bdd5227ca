//! Taking the result out of a machine whose every answer may be a lie.
//!
//! A git inside makes the diff, with an index of its own; here it is text, and what it says is
//! believed as far as [`take_in`] can check it against the user's own commit. What an honest
//! git could not put into it is told, and so is what this side leaves out.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use stockade_guest::{CallError, Client, End, Exec, Stream};

use crate::ended::{NAMED, not_in_diff, with_causes};
use crate::git::{Cloned, ObjectId};
use crate::patch::{FILE_MAX, GUEST_DIFF, IntakeError, TEXT_MAX, Told, take_in, take_in_commits};
use crate::record::{Changes, LeftOut};

/// What one command in the machine has for its part of the diff.
const PATIENCE: Duration = Duration::from_mins(5);
/// How much of a list of names is taken, in bytes.
const NAMES_MAX: usize = 64 << 20;
/// How much of what git says about a failure is kept, in bytes.
const WORDS_MAX: usize = 400;
/// Commits that a branch may have; of more, one is made.
const COMMITS_MAX: usize = 100;
/// What a list of commits, or the words of one, may be long, in bytes.
const LIST_MAX: usize = 1 << 20;
/// What is said of other commits.
const NO_LINE: &str = "its commits are no line from the base on: a branch has one of all";
/// Large files that are named one by one; beyond this somebody plays with us.
const LARGE_MAX: usize = 1000;

/// Of every git: nothing that the repository's own configuration could change about the text.
const SETTINGS: [&str; 9] = [
    "i18n.logOutputEncoding=UTF-8",
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.attributesFile=/dev/null",
    "core.quotePath=true",
    "core.bare=false",
    "diff.suppressBlankEmpty=false",
    "diff.orderFile=/dev/null",
    "advice.addEmbeddedRepo=false",
];

/// The result could not be taken out; the thread has no changes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum HarvestError {
    /// The machine does not answer.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A program in the machine failed.
    #[error("`{program}` failed in the machine: {words}")]
    Failed {
        /// Which.
        program: String,
        /// What it said, in one line: hostile text.
        words: String,
    },
    /// More than is taken.
    #[error("`{program}` in the machine says more than {limit} bytes")]
    TooLong {
        /// Which.
        program: String,
        /// At most.
        limit: usize,
    },
    /// The user does not want to wait for it.
    #[error("the result was given up")]
    Stopped,
    /// It is refused.
    #[error(transparent)]
    Intake(#[from] IntakeError),
}

/// The machine as far as its diff goes.
pub(super) struct Inside<'a> {
    pub(super) client: &'a Client,
    /// Where it has the repository.
    pub(super) folder: &'a Path,
    /// Where the index that the diff is made with lies: [`INDEX`].
    pub(super) index: &'a Path,
    /// The thread's folder on this side.
    pub(super) thread: &'a Path,
    pub(super) stop: &'a dyn Fn() -> bool,
    /// Files that git ignores and that were taken in: nobody misses them in the result.
    pub(super) ignored: u64,
}

/// What a program in the machine answered.
struct Answer {
    status: u8,
    text: Vec<u8>,
    words: String,
}

impl Inside<'_> {
    /// Takes the difference between the commit that was cloned and the work tree as it is now.
    /// What a person should know of it besides is in words.
    pub(super) fn harvest(&self, cloned: &Cloned) -> Result<(Changes, Vec<String>), HarvestError> {
        self.take_index(cloned)?;
        let looked = self.look()?;
        let large = match &looked {
            Some(looked) => self.large_of(&looked.paths)?,
            None => self.large()?,
        };
        let added = self.add(looked.as_ref(), &large)?;
        let diff = [&GUEST_DIFF[..], &[cloned.commit.as_str(), "--"]].concat();
        let diff = self.done(&self.git(&diff, Vec::new()), TEXT_MAX)?;
        let ignored = match looked {
            Some(looked) => looked.ignored,
            None => self.ignored()?,
        };
        let mut changes = take_in(&diff, cloned, self.thread)?;
        let mut said = Vec::new();
        match self.commits(cloned) {
            Ok(Some(told)) => match take_in_commits(&told, cloned, self.thread) {
                Ok(commits) => changes.commits = commits,
                Err(error) => {
                    said.push(format!("its commits are not taken: {}", with_causes(&error)));
                }
            },
            Ok(None) => said.push(NO_LINE.to_owned()),
            Err(lost @ (HarvestError::Call(_) | HarvestError::Stopped)) => return Err(lost),
            Err(error) => said.push(format!("its commits are not taken: {}", with_causes(&error))),
        }
        changes.left_out.extend(large.iter().map(|path| LeftOut {
            path: Path::new(OsStr::from_bytes(path)).into(),
            why: "a large file".to_owned(),
        }));
        let mut notes = not_in_diff(&changes, NAMED);
        notes.extend(said);
        if added.status == 1 {
            notes.push(format!("not in the diff, says git in the machine: {}", added.words));
        }
        match ignored.saturating_sub(self.ignored) {
            0 => {}
            count => notes.push(format!("not in the diff: ignored files, {count} of them")),
        }
        Ok((changes, notes))
    }

    /// The machine's own commits; `None` when they are no line from the base on.
    fn commits(&self, cloned: &Cloned) -> Result<Option<Vec<Told>>, HarvestError> {
        let not_base = format!("^{}", cloned.commit);
        let most = format!("--max-count={}", COMMITS_MAX + 1);
        let list = ["rev-list", "--reverse", "--parents", &most, "HEAD", &not_base, "--"];
        let answer = self.run(&self.git(&list, Vec::new()), LIST_MAX)?;
        let line = line_of(&answer.text, &cloned.commit).filter(|_| answer.status == 0);
        let Some(line) = line else { return Ok(None) };
        let (mut told, mut bytes, mut parent) = (Vec::new(), 0, cloned.commit.clone());
        for commit in line {
            let options = GUEST_DIFF.iter().filter(|word| **word != "--cached").copied();
            let words = options.chain([parent.as_str(), commit.as_str(), "--"]);
            let words: Vec<&str> = words.collect();
            let diff = self.done(&self.git(&words, Vec::new()), TEXT_MAX - bytes)?;
            bytes += diff.len();
            let words = ["log", "-1", "--format=%B", "--no-show-signature", commit.as_str(), "--"];
            let message = self.done(&self.git(&words, Vec::new()), LIST_MAX)?;
            told.push(Told { diff, message });
            parent = commit;
        }
        Ok(Some(told))
    }

    /// A copy of the machine's index, which knows what is unchanged; without one, the commit.
    fn take_index(&self, cloned: &Cloned) -> Result<(), HarvestError> {
        let words = ["cp".as_ref(), "--".as_ref(), ".git/index".as_ref(), self.index.as_os_str()];
        if self.run(&self.exec(words.map(OsString::from).into()), 0)?.status == 0 {
            return Ok(());
        }
        self.done(&self.git(&["read-tree", cloned.commit.as_str()], Vec::new()), 0).map(drop)
    }

    /// Looks at the work tree once: a large one costs a walk, and under emulation a long one. `None`: what
    /// git says of it is not for [`add`](Self::add), or more than is taken.
    fn look(&self) -> Result<Option<Looked>, HarvestError> {
        match self.run(&self.git(&LOOK, Vec::new()), NAMES_MAX) {
            Ok(answer) if answer.status == 0 => Ok(Looked::read(&answer.text)),
            Err(lost @ (HarvestError::Call(_) | HarvestError::Stopped)) => Err(lost),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Puts what is different into the index, but for files that are too large.
    fn add(&self, looked: Option<&Looked>, large: &[Vec<u8>]) -> Result<Answer, HarvestError> {
        if let Some(looked) = looked {
            let large: BTreeSet<&Vec<u8>> = large.iter().collect();
            let paths = looked.paths.iter().filter(|path| !large.contains(path));
            let mut all = Vec::new();
            for path in paths {
                all.extend(path.iter().chain(b"\0"));
            }
            let update = ["update-index", "-z", "--add", "--remove", "--replace", "--stdin"];
            let updated = self.run(&self.git(&update, all), 0)?;
            if updated.status == 0 {
                return Ok(updated);
            }
            // Nothing was added: of what can be, all is by the way below.
        }
        let mut paths = b".\0".to_vec();
        for path in large {
            paths.extend([b":(top,exclude,literal)", path.as_slice(), b"\0"].concat());
        }
        let add = ["add", "--all", "--ignore-errors", "--pathspec-from-file=-"];
        let added =
            self.run(&self.git(&[&add[..], &["--pathspec-file-nul"]].concat(), paths), 0)?;
        // 1: some of it could not be added, and the rest was.
        if added.status > 1 { Err(added.failed("git add")) } else { Ok(added) }
    }

    /// How many files git ignores.
    fn ignored(&self) -> Result<u64, HarvestError> {
        let ignored = ["ls-files", "-z", "--others", "--ignored", "--exclude-standard"];
        let ignored = self.done(&self.git(&ignored, Vec::new()), NAMES_MAX)?;
        Ok(fields(&ignored).count() as u64)
    }

    /// Those of `paths` that are files larger than is taken.
    fn large_of(&self, paths: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, HarvestError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let mut all = Vec::new();
        for path in paths {
            all.extend(b"./".iter().chain(path).chain(b"\0"));
        }
        let line =
            format!("exec find \"$@\" -maxdepth 0 -type f -size +{}k -print0", FILE_MAX >> 10);
        let words = ["xargs", "-0", "sh", "-c", &line, "find"].map(OsString::from);
        // What is gone is nothing that is too large.
        let found = self.run(&Exec { stdin: all, ..self.exec(words.into()) }, NAMES_MAX)?.text;
        let found = fields(&found).filter_map(|path| path.strip_prefix(b"./"));
        Ok(found.take(LARGE_MAX).map(<[u8]>::to_vec).collect())
    }

    /// Files that are larger than is taken, without those that git ignores, found without git's look.
    fn large(&self) -> Result<Vec<Vec<u8>>, HarvestError> {
        let size = format!("+{}k", FILE_MAX >> 10);
        let words = ["find", ".", "-path", "./.git", "-prune", "-o", "-type", "f", "-size", &size];
        let mut words: Vec<OsString> = words.map(OsString::from).into();
        words.push("-print0".into());
        // A folder that may not be entered is nothing that git could enter.
        let found = self.run(&self.exec(words), NAMES_MAX)?.text;
        let found: BTreeSet<&[u8]> =
            fields(&found).filter_map(|path| path.strip_prefix(b"./")).collect();
        if found.is_empty() {
            return Ok(Vec::new());
        }
        let listed = ["ls-files", "-z", "--modified", "--others", "--exclude-standard"];
        let listed = self.done(&self.git(&listed, Vec::new()), NAMES_MAX)?;
        let large = fields(&listed).filter(|path| found.contains(path));
        Ok(large.take(LARGE_MAX).map(<[u8]>::to_vec).collect())
    }

    fn git(&self, arguments: &[&str], stdin: Vec<u8>) -> Exec {
        let mut words = vec![OsString::from("git")];
        words.extend(SETTINGS.iter().flat_map(|setting| ["-c".into(), setting.into()]));
        words.extend(arguments.iter().map(OsString::from));
        Exec { stdin, ..self.exec(words) }
    }

    /// A program of the machine's system, with nothing of what the agent may have set.
    fn exec(&self, argv: Vec<OsString>) -> Exec {
        let variable = |name: &str, value: &OsStr| (name.into(), value.to_owned());
        let mut environment: Vec<(OsString, OsString)> =
            ENVIRONMENT.iter().map(|(name, value)| variable(name, value.as_ref())).collect();
        environment.push(variable("GIT_DIR", self.folder.join(".git").as_os_str()));
        environment.push(variable("GIT_WORK_TREE", self.folder.as_os_str()));
        environment.push(variable("GIT_INDEX_FILE", self.index.as_os_str()));
        let (environment, timeout) = (Some(environment), Some(PATIENCE));
        let folder = Some(self.folder.to_owned());
        Exec { argv, environment, timeout, folder, ..Exec::default() }
    }

    /// Runs it; anything but success is an error.
    fn done(&self, exec: &Exec, limit: usize) -> Result<Vec<u8>, HarvestError> {
        let name = program(exec);
        let answer = self.run(exec, limit)?;
        if answer.status == 0 { Ok(answer.text) } else { Err(answer.failed(&name)) }
    }

    /// Runs it, and keeps up to `limit` bytes of its answer; with a limit of 0 there is none.
    fn run(&self, exec: &Exec, limit: usize) -> Result<Answer, HarvestError> {
        let program = program(exec);
        let (mut text, mut words) = (Vec::new(), Vec::new());
        let is_too_long = std::cell::Cell::new(false);
        let stop = || is_too_long.get() || (self.stop)();
        let outcome = self.client.exec(exec, &stop, &mut |stream, bytes| match stream {
            Stream::Stdout if limit == 0 || is_too_long.get() => {}
            Stream::Stdout if text.len() + bytes.len() > limit => is_too_long.set(true),
            Stream::Stdout => text.extend_from_slice(bytes),
            Stream::Stderr => {
                let room = WORDS_MAX.saturating_sub(words.len()).min(bytes.len());
                words.extend_from_slice(bytes.get(..room).unwrap_or_default());
            }
        })?;
        if is_too_long.get() {
            return Err(HarvestError::TooLong { program, limit });
        }
        let words = one_line(&words);
        let words_or = |text: &str| if words.is_empty() { text.to_owned() } else { words.clone() };
        match outcome.end {
            End::Exited(status) => Ok(Answer { status, text, words }),
            End::Killed(signal) => {
                let words = words_or(&format!("signal {signal} ended it"));
                Err(HarvestError::Failed { program, words })
            }
            End::TimedOut => {
                let words = format!("not finished within {} s", PATIENCE.as_secs());
                Err(HarvestError::Failed { program, words })
            }
            End::Stopped => Err(HarvestError::Stopped),
        }
    }
}

/// One look at the work tree, for git's eyes and not a person's. What a submodule has besides its
/// commit is no part of a diff.
const LOOK: [&str; 7] = [
    "status",
    "--porcelain=v2",
    "-z",
    "--untracked-files=all",
    "--ignored=traditional",
    "--ignore-submodules=dirty",
    "--no-renames",
];

/// What git finds in the work tree that the index does not have so.
#[derive(Debug, Default, PartialEq, Eq)]
struct Looked {
    /// What is changed, gone or new.
    paths: Vec<Vec<u8>>,
    /// How many files are ignored.
    ignored: u64,
}

impl Looked {
    /// Reads the second form of `git status --porcelain`. `None`: it is not understood, or there is a
    /// repository in the repository, which not every git adds by its name.
    fn read(text: &[u8]) -> Option<Self> {
        let mut looked = Self::default();
        for line in fields(text) {
            let (kind, rest) = line.split_at_checked(2)?;
            let words = match kind {
                b"1 " => 7,
                b"u " => 9,
                b"? " => 0,
                b"! " => {
                    looked.ignored += 1;
                    continue;
                }
                b"# " => continue,
                _ => return None,
            };
            // As the commit has it, but the work tree is as the index.
            let is_as_indexed = kind == b"1 " && rest.get(1) == Some(&b'.');
            let path = rest.splitn(words + 1, |byte| *byte == b' ').nth(words)?;
            if path.last() == Some(&b'/') {
                return None;
            }
            if !is_as_indexed {
                looked.paths.push(path.to_vec());
            }
        }
        Some(looked)
    }
}

impl Answer {
    fn failed(self, program: &str) -> HarvestError {
        let words =
            if self.words.is_empty() { format!("status {}", self.status) } else { self.words };
        HarvestError::Failed { program: program.to_owned(), words }
    }
}

/// The commits of `rev-list --parents`, when each has the one before as its only parent and the
/// first has `base`, and they are not too many.
fn line_of(answer: &[u8], base: &ObjectId) -> Option<Vec<ObjectId>> {
    let (mut line, mut parent) = (Vec::new(), base.clone());
    for text in str::from_utf8(answer).ok()?.lines() {
        let (commit, its_parent) = text.split_once(' ')?;
        let commit: ObjectId = commit.parse().ok()?;
        (its_parent == parent.as_str() && line.len() < COMMITS_MAX).then_some(())?;
        parent = commit.clone();
        line.push(commit);
    }
    Some(line)
}

/// The index that the diff is made with; the agent's own stays as it is.
pub(super) const INDEX: &str = "/tmp/.stockade-result.index";

const ENVIRONMENT: [(&str, &str); 9] = [
    ("PATH", "/usr/bin:/bin"),
    ("HOME", "/nonexistent"),
    ("LC_ALL", "C"),
    ("TZ", "UTC"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_NO_REPLACE_OBJECTS", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    // A look does not write the index.
    ("GIT_OPTIONAL_LOCKS", "0"),
];

/// `git VERB`, or the program alone.
fn program(exec: &Exec) -> String {
    let words: Vec<_> = exec.argv.iter().map(|word| word.to_string_lossy()).collect();
    match words.as_slice() {
        [git, rest @ ..] if git == "git" => {
            let verb = rest.chunks(2).find(|pair| pair.first().is_none_or(|word| word != "-c"));
            format!("git {}", verb.and_then(<[_]>::first).map_or("", |verb| verb))
        }
        [program, ..] => program.to_string(),
        [] => String::new(),
    }
}

fn fields(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == 0).filter(|field| !field.is_empty())
}

/// Hostile words as one line of plain characters.
fn one_line(words: &[u8]) -> String {
    let text = String::from_utf8_lossy(words);
    let plain = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    plain.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread;

    use stockade_guest::{ServeOptions, serve};

    use super::*;

    /// What a shell does in a repository, and what a machine that has it then tells of it.
    fn told<T>(line: &str, ask: impl FnOnce(&Inside<'_>, &dyn Fn()) -> T) -> T {
        let folder = tempfile::tempdir().unwrap();
        let settings = "export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
                        GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org \
                        GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org;";
        let work = folder.path().join("work");
        fs::create_dir(&work).unwrap();
        let done = Command::new("sh")
            .args(["-ec", &format!("{settings} {line}")])
            .current_dir(&work)
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let (host, place) = UnixStream::pair().unwrap();
        let options = ServeOptions { folder: work.clone() };
        let serving = thread::spawn(move || serve(place.try_clone().unwrap(), place, options));
        let client = Client::connect(host.try_clone().unwrap(), host).unwrap();
        let index = folder.path().join("index");
        let inside = Inside {
            client: &client,
            folder: &work,
            index: &index,
            thread: folder.path(),
            stop: &|| false,
            ignored: 0,
        };
        let answer = ask(&inside, &|| {
            fs::copy(work.join(".git/index"), &index).unwrap();
        });
        drop(client);
        serving.join().unwrap().unwrap();
        answer
    }

    /// The tree that the index stands for.
    fn tree(inside: &Inside<'_>) -> String {
        let tree = inside.done(&inside.git(&["write-tree"], Vec::new()), LIST_MAX).unwrap();
        String::from_utf8(tree).unwrap()
    }

    #[test]
    fn one_look_finds_what_a_walk_finds() {
        let line = "git init -q; printf '*.o\n' > .gitignore; for name in same changed gone mode \
                    staged both link turned conflict -dash 'with space'; do echo $name > \"./$name\"; done; \
                    mkdir -p folder deep/er; echo > folder/file; echo > deep/er/file; \
                    git add -A; git commit -qm one; \
                    git checkout -qb side; echo side > conflict; git commit -qam side; \
                    git checkout -q -; echo other > conflict; git commit -qam other; \
                    ! git merge -q side >/dev/null 2>&1; \
                    echo x > changed; rm gone; chmod +x mode; echo s > staged; echo b > both; \
                    git add staged both; echo bb > both; rm link; ln -s same link; rm turned; \
                    mkdir turned; echo > turned/file; rm -r folder; echo > folder; rm -r deep; \
                    echo > ./-dash; echo y > 'with space'; echo > \"$(printf 'new\\nline')\"; \
                    echo > ':(top)magic'; echo > '*'; mkdir sub; echo > sub/new; echo > sub/a.o; echo > b.o; \
                    echo > meant; git add -N meant";
        told(line, |inside, copy| {
            copy();
            let looked = inside.look().unwrap().unwrap();
            assert_eq!(looked.ignored, 2);
            assert_eq!(looked.ignored, inside.ignored().unwrap());
            assert!(looked.paths.contains(&b"new\nline".to_vec()), "{looked:?}");
            assert!(!looked.paths.contains(&b"staged".to_vec()), "{looked:?}");
            assert_eq!(inside.add(Some(&looked), &[]).unwrap().status, 0);
            let by_look = tree(inside);
            copy();
            assert_eq!(inside.add(None, &[]).unwrap().status, 0);
            assert_eq!(by_look, tree(inside));
            // What is too large stays behind either way.
            let large = [b"changed".to_vec(), b":(top)magic".to_vec()];
            let of = |looked| {
                copy();
                assert_eq!(inside.add(looked, &large).unwrap().status, 0);
                tree(inside)
            };
            assert_eq!(of(Some(&looked)), of(None));
            assert_ne!(of(None), by_look);
        });
    }

    #[test]
    fn what_is_too_large_is_found_among_what_is_different() {
        let line = "git init -q; echo > old; git add -A; git commit -qm one; echo '*.o' > .gitignore; \
                    truncate -s 65M old ./-new ignored.o; echo > small; truncate -s 64M limit";
        told(line, |inside, copy| {
            copy();
            let looked = inside.look().unwrap().unwrap();
            let mut found = inside.large_of(&looked.paths).unwrap();
            found.sort();
            assert_eq!(found, [b"-new".to_vec(), b"old".to_vec()]);
            let mut walked = inside.large().unwrap();
            walked.sort();
            assert_eq!(found, walked);
        });
    }

    #[test]
    fn what_git_cannot_add_by_name_is_left_to_its_walk() {
        let line = "git init -q; echo > a; git add -A; git commit -qm one; git init -q nested; \
                    cd nested; echo > b; git add b; git commit -qm two";
        told(line, |inside, copy| {
            copy();
            assert_eq!(inside.look().unwrap(), None);
            assert_eq!(inside.add(None, &[]).unwrap().status, 0);
            let listed =
                inside.done(&inside.git(&["ls-files", "-s"], Vec::new()), LIST_MAX).unwrap();
            assert!(String::from_utf8(listed).unwrap().contains("160000"));
        });
        told("git init -q; echo > a; git add a; git commit -qm one", |inside, copy| {
            copy();
            // It was there at the look, and there is no such name.
            let looked = Looked { paths: vec![b"a/b/../c".to_vec()], ignored: 0 };
            assert_eq!(inside.add(Some(&looked), &[]).unwrap().status, 0);
        });
        for text in ["1 .M", "x", "3 .M N... 1 2 3 4 5 path\0", "2 R. N... 1 2 3 4 5 R100 a\0b\0"] {
            assert_eq!(Looked::read(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Looked::read(b""), Some(Looked::default()));
    }

    #[test]
    fn a_failure_names_the_program_and_its_words_are_one_plain_line() {
        let exec = |words: &[&str]| Exec {
            argv: words.iter().map(OsString::from).collect(),
            ..Exec::default()
        };
        assert_eq!(program(&exec(&["git", "-c", "a=b", "-c", "c=d", "add", "x"])), "git add");
        assert_eq!(program(&exec(&["cp", "--", "a", "b"])), "cp");
        assert_eq!(one_line(b"fatal: x\nstockade: fine\x1b[2J\n"), "fatal: x stockade: fine [2J");
    }
}
