//! Which folders and files may be written.
//!
//! The rule (DESIGN §4): entries inside the workspace replace it, entries outside are added to
//! it. A project's own entries are intersected with what the user's layers allow, so that they
//! can only narrow; flags come after that and obey the same rule.
//!
//! What is protected *inside* a root is decided in `locate` and `git`; what is refused *as* a
//! root is decided here.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::names::is_protected;

use crate::diagnose::ConfigError;
use crate::env::{Env, Homes, normalized};
use crate::git::is_repository;
use crate::locate::{canonical, sort};
use crate::own::Own;

/// One entry as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) path: PathBuf,
    /// `file:line` or a flag.
    pub(crate) place: String,
    /// What a relative path starts from.
    pub(crate) base: PathBuf,
}

/// What roots are measured against.
#[derive(Debug)]
pub(crate) struct Ground<'a> {
    pub(crate) env: &'a Env,
    pub(crate) homes: &'a Homes,
    pub(crate) workspace: &'a Path,
    pub(crate) hidden: &'a [PathBuf],
    pub(crate) own: &'a Own,
}

/// What the writable roots come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Roots {
    /// Canonical, existing.
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) warnings: Vec<String>,
}

/// The entries of one layer, resolved.
#[derive(Debug, Default)]
struct Entries {
    inside: Vec<PathBuf>,
    outside: Vec<PathBuf>,
    /// Whether an entry, also one that is missing, lies inside the workspace.
    narrows: bool,
}

impl Entries {
    fn paths(mut self, workspace: &Path) -> Vec<PathBuf> {
        if !self.narrows {
            self.inside.push(workspace.to_owned());
        }
        self.inside.append(&mut self.outside);
        self.inside
    }
}

/// Private folders that every run has; the host's own are never a root.
pub(crate) const PRIVATE: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Folders of the system that no task may be given whole.
const SYSTEM: [&str; 13] = [
    "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys",
    "/usr", "/var",
];

/// File systems of the kernel: nothing in them is a task's.
const KERNEL: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Applies the rule to what the user's layers, the project's own file and the flags say. An
/// empty list says nothing. What the user has answered to questions is added to all of it, and
/// narrows nothing.
///
/// # Errors
///
/// Names the entry of a user's file or flag that is protected, secret, or holds home. Such an
/// entry of a project's file is a widening, and ignored with a warning.
pub(crate) fn roots(
    ground: &Ground<'_>,
    (user, answered): (&[Wanted], &[Wanted]),
    project: &[Wanted],
    flags: &[Wanted],
) -> Result<Roots, ConfigError> {
    let mut roots = Roots::default();
    if project.is_empty() {
        let all: Vec<Wanted> = user.iter().chain(flags).cloned().collect();
        let entries = ground.entries(&all, &mut roots.warnings)?;
        roots.paths = entries.paths(ground.workspace);
    } else {
        let allowed = ground.entries(user, &mut roots.warnings)?.paths(ground.workspace);
        let kept = ground.project_entries(project, &allowed, &mut roots.warnings);
        let narrowed = intersection(&allowed, &kept.paths(ground.workspace));
        let flags = ground.entries(flags, &mut roots.warnings)?;
        roots.paths = with_flags(ground.workspace, narrowed, flags);
    }
    let mut still = Vec::new();
    for entry in answered {
        // What runs inside may have put a link there since a person was asked.
        if canonical(&entry.path).is_some_and(|found| found != entry.path) {
            roots.warnings.push(ignored(entry, "it leads elsewhere by now"));
        } else {
            still.push(entry.clone());
        }
    }
    let Entries { inside, outside, .. } = ground.entries(&still, &mut roots.warnings)?;
    for path in inside.into_iter().chain(outside) {
        if !roots.paths.iter().any(|root| path.starts_with(root)) {
            roots.paths.push(path);
        }
    }
    sort(&mut roots.paths);
    Ok(roots)
}

/// What two lists of roots both allow.
fn intersection(user: &[PathBuf], project: &[PathBuf]) -> Vec<PathBuf> {
    let mut both = Vec::new();
    for wanted in project {
        for allowed in user {
            if wanted.starts_with(allowed) {
                both.push(wanted.clone());
            } else if allowed.starts_with(wanted) {
                both.push(allowed.clone());
            }
        }
    }
    both
}

/// Flags narrow a workspace that nothing has narrowed yet, and are added to one that is.
fn with_flags(workspace: &Path, below: Vec<PathBuf>, flags: Entries) -> Vec<PathBuf> {
    let mut paths = below;
    if flags.narrows {
        paths.retain(|path| path != workspace);
    }
    paths.extend(flags.inside);
    paths.extend(flags.outside);
    paths
}

impl Ground<'_> {
    fn entries(
        &self,
        wanted: &[Wanted],
        warnings: &mut Vec<String>,
    ) -> Result<Entries, ConfigError> {
        let mut entries = Entries::default();
        for entry in wanted {
            let path = self.env.resolve(&entry.path, &entry.base);
            let Some(found) = canonical(&path) else {
                // An entry that is missing still says that the workspace was to be narrowed.
                entries.narrows |= normalized(&path).starts_with(self.workspace);
                warnings.push(format!(
                    "{}: writable root `{}` does not exist",
                    entry.place,
                    path.display()
                ));
                continue;
            };
            if PRIVATE.iter().any(|private| found == Path::new(private)) {
                warnings.push(format!(
                    "{}: `{}` is private to every run; the host's own is not opened",
                    entry.place,
                    found.display()
                ));
                continue;
            }
            self.refuse(&found, &entry.path, &entry.place)?;
            if found.starts_with(self.workspace) {
                entries.narrows = true;
                entries.inside.push(found);
            } else {
                entries.outside.push(found);
            }
        }
        Ok(entries)
    }

    /// Those entries of the project's file that share something with `allowed`.
    fn project_entries(
        &self,
        wanted: &[Wanted],
        allowed: &[PathBuf],
        warnings: &mut Vec<String>,
    ) -> Entries {
        let mut kept = Entries::default();
        for entry in wanted {
            let mut said = Vec::new();
            let Ok(entries) = self.entries(std::slice::from_ref(entry), &mut said) else {
                warnings.push(ignored(entry, "it can be no root"));
                continue;
            };
            warnings.append(&mut said);
            kept.narrows |= entries.narrows;
            for path in entries.inside.into_iter().chain(entries.outside) {
                if intersection(allowed, std::slice::from_ref(&path)).is_empty() {
                    warnings.push(ignored(entry, "a project file may not widen the roots"));
                } else if path.starts_with(self.workspace) {
                    kept.inside.push(path);
                } else {
                    kept.outside.push(path);
                }
            }
        }
        kept
    }

    /// Refuses what can be no root. `entry` is how it was written.
    fn refuse(&self, found: &Path, entry: &Path, place: &str) -> Result<(), ConfigError> {
        self.refuse_open(found, &format!("{place}: writable root `{}`", entry.display()))
    }

    /// Refuses what an approval cannot open.
    ///
    /// # Errors
    ///
    /// Names the rule and the path, and why nothing may open it.
    pub(crate) fn refuse_grant(
        &self,
        found: &Path,
        entry: &Path,
        place: &str,
    ) -> Result<(), ConfigError> {
        self.refuse_open(found, &format!("{place}: the grant of `{}`", entry.display()))
    }

    fn refuse_open(&self, found: &Path, what: &str) -> Result<(), ConfigError> {
        self.refuse_folder(found, what)?;
        if self.is_protected(found) {
            let why = format!("{what} is refused: it is protected");
            return Err(ConfigError::refused(
                why,
                "protected names stay read-only inside any root",
            ));
        }
        Ok(())
    }

    /// Refuses what can be no state of an agent, such as `CODEX_HOME=$HOME`.
    ///
    /// # Errors
    ///
    /// Names the folder, and why an agent may not have it.
    pub(crate) fn refuse_state(&self, found: &Path) -> Result<(), ConfigError> {
        self.refuse_folder(found, &format!("the agent's state `{}`", found.display()))
    }

    fn refuse_folder(&self, found: &Path, what: &str) -> Result<(), ConfigError> {
        let refuse = |why: &str, hint: String| {
            Err(ConfigError::refused(format!("{what} is refused: {why}"), hint))
        };
        let general = || "name a folder that holds nothing but work".to_owned();
        if self.homes.any_within(found) {
            return refuse("it holds your home", general());
        }
        if self.hidden.iter().any(|secret| found.starts_with(secret)) {
            return refuse("it is secret", general());
        }
        if self.own.holds(found) {
            return refuse("Stockade's own files lie there", general());
        }
        if let Some(missing) = self.own.missing_below(found) {
            let why = "Stockade's own files could be planted in it";
            let hint = format!("make `{}` first, so that it can be protected", missing.display());
            return refuse(why, hint);
        }
        if SYSTEM.iter().any(|system| found == Path::new(system))
            || KERNEL.iter().any(|system| found.starts_with(system))
        {
            return refuse("it belongs to the system", general());
        }
        Ok(())
    }

    /// Whether `path` is a protected name where that name is protected, or lies below one.
    /// What the workspace itself lies below (a worktree in `.claude/worktrees`) does not count.
    fn is_protected(&self, path: &Path) -> bool {
        path.ancestors().take_while(|part| !self.workspace.starts_with(part)).any(|part| {
            let (Some(name), Some(parent)) = (part.file_name(), part.parent()) else {
                return false;
            };
            let name = name.as_bytes();
            if matches!(name, b"hooks" | b"config" | b"info" | b"modules" | b"worktrees")
                && (parent.file_name().is_some_and(|parent| parent == ".git")
                    || is_repository(parent))
            {
                return true;
            }
            let is_top = || parent == self.workspace || parent.join(".git").exists();
            is_protected(name) && is_top()
        })
    }
}

fn ignored(entry: &Wanted, why: &str) -> String {
    format!("{}: ignored: writable root `{}`: {why}", entry.place, entry.path.display())
}
