//! What mounts hold elsewhere, for the second backend, which has none.

use std::path::{Path, PathBuf};

use stockade_policy::Denial;
use stockade_policy::guard::{Act, Denied, Judgement, Tree as _};

use super::{Files, Outside, Stop, Turn, refused};

/// Paths inside writable roots that were there at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fixed {
    /// They stay as they are, and what is in them.
    pub(crate) protected: Vec<PathBuf>,
    /// The folders above them, which keep their names.
    pub(crate) pinned: Vec<PathBuf>,
    /// What cannot be read, with what in it can: the longest path decides.
    pub(crate) hidden: Vec<(PathBuf, bool)>,
}

impl Fixed {
    fn holds(&self, path: &Path) -> bool {
        self.protected.iter().any(|held| path.starts_with(held))
    }

    fn hides(&self, path: &Path) -> bool {
        let around = self.hidden.iter().filter(|(place, _)| path.starts_with(place));
        around.max_by_key(|(place, _)| place.as_os_str().len()).is_some_and(|(_, is)| *is)
    }
}

/// Files of `/proc/PID` that a process writes about itself (`proc_pid(5)`).
const OF_A_PROCESS: [&str; 6] =
    ["comm", "coredump_filter", "mem", "oom_adj", "oom_score_adj", "timerslack_ns"];

/// Whether `inner`, a path below `/proc`, is such a file, of a process or of one of its threads.
fn is_of_a_process(inner: &Path) -> bool {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Option<Vec<&str>> = inner.iter().map(std::ffi::OsStr::to_str).collect();
    // A descriptor is a link there, and what it leads to is judged in its turn.
    let is_own = |rest: &[&str]| match rest {
        [name] => OF_A_PROCESS.contains(name),
        ["fd", number] => is_number(number),
        _ => false,
    };
    match parts.as_deref() {
        Some([process, "task", thread, rest @ ..]) => {
            is_number(process) && is_number(thread) && is_own(rest)
        }
        Some([process, rest @ ..]) => is_number(process) && is_own(rest),
        _ => false,
    }
}

impl Files {
    /// Whether `inner`, a path below `/proc`, is about the machine, which is not read-only there as
    /// in the view.
    pub(super) fn is_machines(&self, inner: &Path) -> bool {
        self.fixed.is_some() && !is_of_a_process(inner)
    }

    /// Whether Landlock gives no right to read what is called `name`.
    pub(super) fn is_hidden(&self, name: &Path) -> bool {
        self.fixed.as_ref().is_some_and(|fixed| fixed.hides(name))
    }

    /// What is ordinary by its name may be fixed by its place.
    pub(super) fn unless_fixed(
        &self,
        turn: &Turn<'_>,
        path: &Path,
        act: &Act<'_>,
    ) -> Result<Judgement, Stop> {
        let Some(fixed) = &self.fixed else { return Ok(Judgement::Ordinary) };
        // The kernel says what a folder that is there already is.
        let is_there = || *act == Act::MakeFolder && self.disk.kind(path).is_some();
        let moves = matches!(act, Act::MoveAway | Act::Remove | Act::MoveHere { .. });
        let is_pinned = moves && fixed.pinned.iter().any(|held| held == path);
        if (fixed.holds(path) && !is_there()) || is_pinned {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let why = if is_pinned { "something protected is in it" } else { "it was there" };
            return Err(refused(turn, path, &Denied { name, why }));
        }
        Ok(Judgement::Ordinary)
    }

    /// Whether mode, owner, times and attributes of `file`, called `name`, may change: the kernel
    /// asks no wall of the second backend's.
    pub(super) fn hold_metadata(
        &self,
        turn: &Turn<'_>,
        file: &std::os::fd::OwnedFd,
        name: &Path,
    ) -> Result<(), Stop> {
        let Some(fixed) = &self.fixed else { return Ok(()) };
        if !name.is_absolute() || (self.is_writable(name) && !fixed.holds(name)) {
            return Ok(());
        }
        // A file of memory has no name; nothing of that name lies in `/`.
        let is_memory = name.to_string_lossy().starts_with("/memfd:");
        if is_memory && rustix::fs::fstat(file)?.st_nlink == 0 {
            return Ok(());
        }
        let alternatives =
            super::outside::alternatives(&self.writable, self.guard.has_roots(), name);
        let (op, target, decided_by) = (turn.op, name.to_owned(), Denial::OUTSIDE.to_owned());
        let denial = Denial { op, target, decided_by, alternatives };
        Err(Stop::Outside(Box::new(Outside { denial, change: None, is_quiet: false })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_hidden_the_nearest_place_decides() {
        let hidden = [("/tmp", true), ("/tmp/own", false), ("/tmp/own/.env", true), ("/w", false)];
        let hidden = hidden.map(|(path, is)| (PathBuf::from(path), is)).to_vec();
        let fixed = Fixed { protected: Vec::new(), pinned: Vec::new(), hidden };
        for (path, is) in [
            ("/tmp", true),
            ("/tmp/x/y", true),
            ("/tmp/own", false),
            ("/tmp/own/a", false),
            ("/tmp/own/.env", true),
            ("/tmpx", false),
            ("/w/.env", false),
        ] {
            assert_eq!(fixed.hides(Path::new(path)), is, "{path}");
        }
    }

    #[test]
    fn of_proc_only_what_is_about_a_process_may_be_written() {
        for own in [
            "12/fd/1",
            "12/task/13/fd/0",
            "12/comm",
            "12/oom_score_adj",
            "12/task/13/comm",
            "12/mem",
        ] {
            assert!(is_of_a_process(Path::new(own)), "{own}");
        }
        let machines = [
            "",
            "sysrq-trigger",
            "sys/kernel/core_pattern",
            "sys/comm",
            "12/uid_map",
            "12/root/comm",
            "12/attr/current",
            "12/task/13/attr/comm",
            "12/fd",
            "12/fd/../sysrq",
            "12/../sysrq-trigger",
            "12",
        ];
        for other in machines {
            assert!(!is_of_a_process(Path::new(other)), "{other}");
        }
    }
}
