//! What a set-up leaves, kept for the next thread that would be set up alike.
//!
//! A machine packs it and the next one takes it apart; on this side it is bytes that nobody reads.
//! What cannot be taken along (processes, changes of tracked files or of git's configuration) is
//! looked for: then nothing is kept, which is said.

use std::cell::Cell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::time::Instant;

use stockade_guest::{CallError, End, Exec, SETUP_ARCHIVE, Stream, USER_NAME};
use stockade_vm::Kept;

use super::clone::Source;
use super::setup::SetUp;
use super::{CloudError, FOLDER, Phases, Running};
use crate::ended::with_causes;
use crate::git::trees::list;
use crate::git::{CloneError, Git};
use crate::place::{Place as _, Vm};
use crate::record::PhaseState;
use crate::session::Session;

/// The most that is kept of one set-up, in bytes.
const ARCHIVE_MAX: u64 = 4 << 30;

/// Names of files by which dependencies are chosen, in any folder: what is locked, and what is
/// asked for where nothing is.
const DEPENDENCIES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "Gemfile",
    "Gemfile.lock",
    "Package.resolved",
    "Pipfile",
    "Pipfile.lock",
    "build.gradle",
    "build.gradle.kts",
    "bun.lock",
    "bun.lockb",
    "composer.json",
    "composer.lock",
    "deno.json",
    "deno.lock",
    "environment.yml",
    "flake.lock",
    "flake.nix",
    "go.mod",
    "go.sum",
    "go.work",
    "gradle.lockfile",
    "mix.exs",
    "mix.lock",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "package.json",
    "packages.lock.json",
    "pdm.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "poetry.lock",
    "pom.xml",
    "pubspec.lock",
    "pubspec.yaml",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "stack.yaml.lock",
    "uv.lock",
    "yarn.lock",
    // Where they come from, and which of a language they are for.
    ".npmrc",
    ".nvmrc",
    ".python-version",
    ".tool-versions",
    ".yarnrc.yml",
    "rust-toolchain.toml",
];

/// What of the repository a set-up has no business to change, if it is to be kept: printed before
/// and after it.
const UNCHANGED: &str = "cat .git/config; ls -ln .git/hooks 2>&1; git rev-parse HEAD; \
                         git status --porcelain --untracked-files=no";

/// Lists what is new since the machine came up and writes it as an archive. Processes of the user
/// that are left are what an archive does not hold; of the one that serves, which cannot be traced,
/// the files belong to root (proc(5)).
const PACK: &str = "set -e
for process in /proc/[0-9]*; do
  if test -O \"$process/stat\" && test \"${process#/proc/}\" != $$; then exit 77; fi
done
cd /
list=tmp/.stockade-setup
trap 'rm -f \"/$list\"' EXIT
printf 'home/%s\\0' \"$2\" > $list
find tmp var/tmp dev/shm -mindepth 1 -maxdepth 1 ! -path $list -print0 >> $list
git -C \"$1\" ls-files --others --directory -z > $list.others
sed -z \"s|^|${1#/}/|\" $list.others >> $list
rm -f $list.others
tar --create --blocking-factor=2048 --null --verbatim-files-from --files-from=$list --file=-";

/// The status of [`PACK`] when processes are left.
const PROCESSES: u8 = 77;

/// Why nothing is kept.
#[derive(Debug, thiserror::Error)]
enum NotKept {
    #[error("it has changed files that git tracks, or git's configuration")]
    Changed,
    #[error("it has left processes that run")]
    Processes,
    #[error("it leaves more than {} MiB", .0 >> 20)]
    TooLarge(u64),
    #[error("it could not be packed: {0}")]
    Tool(String),
    #[error("interrupted")]
    Stopped,
    #[error("the archive cannot be written")]
    Io(#[from] io::Error),
}

impl Running<'_> {
    /// What the result of the set-up depends on beside the machine's system; `None` when nothing
    /// of it is kept.
    pub(super) fn prepared_by(&self) -> Result<Option<String>, CloudError> {
        // A machine that goes on where another ended has files that no commit names.
        let (Some(set_up), false) = (&self.task.setup, matches!(self.source, Source::Again(_)))
        else {
            return Ok(None);
        };
        let clone = self.folder().join("clone");
        let tracked = list(&Git::bare(&clone.join(".git")), &[]);
        let tracked = tracked.map_err(|source| CloneError::Git { top: clone, source })?;
        // One project's set-up is nothing for another, which may have the same files.
        let mut text = format!("{}\n{}\n", self.task.workspace.display(), self.inner.display());
        let SetUp { script, network } = set_up;
        writeln!(text, "{} {script}", script.len()).ok();
        for rule in network.allow.iter().chain(&network.deny) {
            writeln!(text, "{}", rule.entry).ok();
        }
        let named = words(script, &self.inner.to_string_lossy());
        for (path, entry) in &tracked {
            let path = String::from_utf8_lossy(path);
            let name = path.rsplit('/').next().unwrap_or_default();
            if is_of_dependencies(name) || named.iter().any(|word| *word == path) {
                writeln!(text, "{:o} {} {path}", entry.mode, entry.id).ok();
            }
        }
        Ok(Some(text))
    }

    /// Sets the machine up: by what an earlier set-up has left, or by the script.
    pub(super) fn prepare(
        &self,
        (session, vm): (&Session<'_>, &Vm),
        set_up: &SetUp,
        phases: &mut Phases<'_>,
    ) -> Result<(), CloudError> {
        let kept = vm.kept();
        if let Some(kept) = kept.as_ref().filter(|kept| kept.file().is_some()) {
            let began = Instant::now();
            self.unpack(vm, kept)?;
            phases.note("setup", PhaseState::Skipped, Some(began.elapsed()));
            self.note("set-up: nothing has changed since the last one, whose result is used");
            return Ok(());
        }
        phases.during("setup", || {
            let before = kept.as_ref().map(|_| self.unchanged(vm));
            self.set_up((session, vm), set_up)?;
            let (Some(kept), Some(before)) = (&kept, before) else { return Ok(()) };
            match before.and_then(|before| self.keep(vm, kept, &before)) {
                Ok(()) => Ok(()),
                Err(NotKept::Stopped) => Err(CloudError::Interrupted),
                Err(why) => {
                    let why = with_causes(&why);
                    self.note(&format!(
                        "set-up: its result is not kept for the next thread: {why}"
                    ));
                    Ok(())
                }
            }
        })
    }

    fn unpack(&self, vm: &Vm, kept: &Kept) -> Result<(), CloudError> {
        let words = ["tar", "--extract", "--preserve-permissions", "--blocking-factor=2048"];
        let rest = ["--directory=/", "--file", SETUP_ARCHIVE];
        let argv = words.iter().chain(&rest).map(Into::into).collect();
        match self.run_inside(vm, argv, &mut |_| true) {
            Ok(()) => Ok(()),
            Err(NotKept::Stopped) => Err(CloudError::Interrupted),
            Err(why) => {
                // The next start runs the script.
                let gone = kept.forget().map_or_else(|error| error.to_string(), |()| String::new());
                let why = with_causes(&why);
                let text = format!("what was kept of it is of no use, and removed: {why}{gone}");
                Err(CloudError::SetUp(text))
            }
        }
    }

    /// What is to be the same after the set-up.
    fn unchanged(&self, vm: &Vm) -> Result<Vec<u8>, NotKept> {
        const MAX: usize = 1 << 20;
        let mut text = Vec::new();
        let argv = ["sh", "-c", UNCHANGED].map(Into::into).into();
        self.run_inside(vm, argv, &mut |data| {
            text.extend_from_slice(data);
            text.len() <= MAX
        })?;
        Ok(text)
    }

    fn keep(&self, vm: &Vm, kept: &Kept, before: &[u8]) -> Result<(), NotKept> {
        if self.unchanged(vm)? != before {
            return Err(NotKept::Changed);
        }
        let limit = ARCHIVE_MAX.min(kept.space()?);
        let argv = ["sh", "-c", PACK, "sh", FOLDER, USER_NAME].map(Into::into).into();
        kept.keep(|file: &mut File| {
            let (mut bytes, mut failed) = (0_u64, None);
            let packed = self.run_inside(vm, argv, &mut |data| {
                bytes += data.len() as u64;
                failed = file.write_all(data).err();
                failed.is_none() && bytes <= limit
            });
            match (failed, packed) {
                (Some(error), _) => Err(error.into()),
                _ if bytes > limit => Err(NotKept::TooLarge(limit)),
                (None, packed) => packed.map(drop),
            }
        })
    }

    /// Runs a program of Stockade's own in the machine; `take` has its output, and says whether it
    /// is to go on.
    fn run_inside(
        &self,
        vm: &Vm,
        argv: Vec<std::ffi::OsString>,
        take: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<(), NotKept> {
        let is_enough = Cell::new(false);
        let stop = || is_enough.get() || self.user.wishes.stop.is_requested();
        let mut words = Vec::new();
        let exec = Exec { argv, ..Exec::default() };
        let ended = vm.client().exec(&exec, &stop, &mut |stream, data| match stream {
            Stream::Stdout if !is_enough.get() => is_enough.set(!take(data)),
            Stream::Stderr if words.len() < WORDS_MAX => words.extend_from_slice(data),
            Stream::Stdout | Stream::Stderr => {}
        });
        let said = || {
            let words = String::from_utf8_lossy(&words);
            words.lines().next().unwrap_or("it says nothing").chars().take(200).collect::<String>()
        };
        match ended.map(|outcome| outcome.end) {
            Ok(End::Exited(0)) => Ok(()),
            Ok(End::Exited(PROCESSES)) => Err(NotKept::Processes),
            Ok(End::Stopped) if self.user.wishes.stop.is_requested() => Err(NotKept::Stopped),
            Ok(_) => Err(NotKept::Tool(said())),
            Err(error @ (CallError::Lost | CallError::Malformed(_))) => {
                Err(NotKept::Tool(with_causes(&error)))
            }
            Err(error) => Err(NotKept::Tool(error.to_string())),
        }
    }
}

/// How much of what a program says about a failure is kept, in bytes.
const WORDS_MAX: usize = 4096;

fn is_of_dependencies(name: &str) -> bool {
    let requirements = name.strip_suffix(".txt");
    let is_requirements = requirements.is_some_and(|name| name.starts_with("requirements"));
    DEPENDENCIES.contains(&name) || is_requirements
}

/// Words of a script that may be files of the repository, seen from its top.
fn words(script: &str, inner: &str) -> Vec<String> {
    let is_between = |letter: char| letter.is_whitespace() || "\"';&|()<>=`".contains(letter);
    let words = script.split(is_between).filter(|word| !word.is_empty());
    let from_top = |word: &str| {
        let mut path: Vec<&str> = inner.split('/').filter(|part| !part.is_empty()).collect();
        for part in word.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(path.pop()),
                part => path.push(part),
            }
        }
        path.join("/")
    };
    words.map(from_top).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_script_names_are_found_from_the_top() {
        let words =
            words("set -e; ./scripts/setup.sh \"$HOME\" && pip install -r ../reqs/dev.in", "app");
        for path in ["app/scripts/setup.sh", "reqs/dev.in"] {
            assert!(words.iter().any(|word| word == path), "{path}: {words:?}");
        }
    }

    #[test]
    fn what_chooses_dependencies_is_known_by_its_name() {
        for (name, is_one) in [
            ("Cargo.lock", true),
            ("requirements-dev.txt", true),
            ("requirements.txt", true),
            ("package.json", true),
            ("requirements.md", false),
            ("main.rs", false),
        ] {
            assert_eq!(is_of_dependencies(name), is_one, "{name}");
        }
    }
}
