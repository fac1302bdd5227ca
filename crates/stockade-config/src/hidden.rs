//! What cannot be read: the built-in table, the user's lists, the project's and the flags'.
//!
//! Who may open again what: the user's `readable` opens the built-in table and the user's own
//! `hidden`; nothing opens what the project or a flag hides; an agent's state is open to that
//! agent, and no other secret becomes one by being called state.

use std::ffi::OsStr;
use std::fs;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::names;
use stockade_policy::reading::{SYSTEM_AT_TOP, SYSTEM_IN_VAR, TOOLCHAINS_IN_HOME};
use stockade_policy::secrets::Secret;

use crate::aliases::aliases;
use crate::diagnose::ConfigError;
use crate::env::{Env, Homes, normalized};
use crate::locate::{canonical, is_within, sort};
use crate::requirements::reopened;
use crate::schema::{Placed, Settings, ignored};
use crate::secrets::{self, expand, is_pattern};

/// All that bears on it.
pub(crate) struct Question<'a> {
    pub(crate) env: &'a Env,
    pub(crate) homes: &'a Homes,
    pub(crate) workspace: &'a Path,
    pub(crate) settings: &'a Settings,
    /// `--hide`.
    pub(crate) flags: &'a [PathBuf],
    /// The agent's own state, canonical.
    pub(crate) state: &'a [PathBuf],
}

/// Canonical, existing paths, sorted.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hidden {
    pub(crate) paths: Vec<PathBuf>,
    /// What is not shown because reads are an allow-list; no secrets, and roots may lie in them.
    pub(crate) closed: Vec<PathBuf>,
    /// Inside hidden ones.
    pub(crate) readable: Vec<PathBuf>,
    /// Those of `paths` that are the state of agents.
    pub(crate) agents: Vec<PathBuf>,
    pub(crate) warnings: Vec<String>,
}

impl Hidden {
    /// Those that are not the state of agents.
    pub(crate) fn except_agents(&self) -> Vec<PathBuf> {
        let is_agent = |path: &&PathBuf| {
            self.agents.binary_search_by(|agent| agent.as_os_str().cmp(path.as_os_str())).is_ok()
        };
        self.paths.iter().filter(|path| !is_agent(path)).cloned().collect()
    }
}

/// Finds them.
///
/// # Errors
///
/// When the workspace lies in one of them.
pub(crate) fn resolve(question: &Question<'_>) -> Result<Hidden, ConfigError> {
    let mut result = Hidden::default();
    let readable = question.readable(&mut result.warnings);
    let is_open = |path: &Path| readable.iter().any(|open| is_within(path, open));
    let built_in = secrets::built_in(question.homes, question.env.uid);
    for found in built_in {
        if is_open(&found.path) || question.is_own_state(&found) {
            continue;
        }
        if found.kind == Secret::AgentState {
            result.agents.push(found.path.clone());
        }
        result.paths.push(found.path);
    }
    // The table has its usual place; `XDG_STATE_HOME` may have moved it.
    let record = question.env.state_folder().and_then(|folder| canonical(&folder));
    result.paths.extend(record.filter(|path| !is_open(path)));
    let listed = question.listed(&question.settings.hidden, &mut result.warnings);
    result.paths.extend(listed.into_iter().filter(|path| !is_open(path)));
    let theirs = question.within_reach(&question.settings.project_hidden, &mut result.warnings);
    let mut firm = question.listed(&theirs, &mut result.warnings);
    firm.extend(question.flagged(&mut result.warnings));
    // Wherever they lie: what logs in is nobody's inside.
    firm.extend(crate::logins::private_keys(question.env, question.settings));
    firm.extend(question.required(&readable, &mut result.warnings)?);
    let is_firm = |path: &PathBuf| firm.iter().any(|secret| is_within(path, secret));
    result.readable = readable.into_iter().filter(|path| !is_firm(path)).collect();
    result.paths.append(&mut firm);
    let workspace = question.workspace;
    if let Some(secret) = result.paths.iter().find(|secret| is_within(workspace, secret)) {
        return Err(ConfigError::refused(
            format!(
                "`{}` cannot be a workspace: it lies in `{}`, which is hidden",
                workspace.display(),
                secret.display()
            ),
            "work elsewhere, or re-open it with `readable = [...]` in your own configuration",
        ));
    }
    refuse_other_spellings(&result.paths, workspace)?;
    result.paths.extend(question.elsewhere(&result.paths));
    if question.settings.reads_workspace.as_ref().is_some_and(|it| it.value) {
        let (closed, shown) = question.allow_list();
        let is_secret = |path: &PathBuf| result.paths.iter().any(|it| is_within(path, it));
        result.readable.extend(shown.into_iter().filter(|path| !is_secret(path)));
        result.closed = closed;
    }
    let (paths, closed) = (&result.paths, &result.closed);
    let is_in = |path: &PathBuf| paths.iter().chain(closed).any(|it| is_within(path, it));
    result.readable.retain(is_in);
    let lists = [&mut result.paths, &mut result.closed, &mut result.readable, &mut result.agents];
    lists.into_iter().for_each(sort);
    Ok(result)
}

/// Refuses to hide a file in the workspace that has more names than can be covered.
fn refuse_other_spellings(hidden: &[PathBuf], workspace: &Path) -> Result<(), ConfigError> {
    let in_reach = |path: &&PathBuf| path.starts_with(workspace) && is_found_in_any_case(path);
    let Some(file) = hidden.iter().find(in_reach) else { return Ok(()) };
    let what = format!(
        "`{}` cannot be hidden: this file system finds names in any case, and each spelling is \
         another way to it",
        file.display()
    );
    let hint = "work on a file system that tells upper and lower case apart (in WSL one of Linux' \
                own), or hide the folder that it lies in";
    Err(ConfigError::refused(what, hint))
}

/// Whether a file is found by its name with the case swapped as well. A folder is one and the same entry by any.
fn is_found_in_any_case(path: &Path) -> bool {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return false };
    let other = names::in_other_case(name.as_bytes());
    let other = OsStr::from_bytes(&other);
    let number = |path: &Path| {
        let about = fs::symlink_metadata(path).ok().filter(|about| !about.is_dir())?;
        Some((about.dev(), about.ino()))
    };
    let is_there = || number(path).is_some_and(|one| number(&folder.join(other)) == Some(one));
    // A further name of the same file is another matter.
    let is_listed =
        || fs::read_dir(folder).is_ok_and(|all| all.flatten().any(|it| it.file_name() == other));
    other != name && is_there() && !is_listed()
}

/// Reads a file of the kernel's, which has no size, in as few calls as it takes.
fn read_list(path: &str) -> std::io::Result<Vec<u8>> {
    const USUAL: usize = 16 * 1024;
    let mut list = Vec::with_capacity(USUAL);
    fs::File::open(path)?.take(u64::MAX).read_to_end(&mut list)?;
    Ok(list)
}

impl Question<'_> {
    /// Whether a path of the table is the running agent's own.
    fn is_own_state(&self, found: &secrets::Found) -> bool {
        found.kind == Secret::AgentState
            && self.state.iter().any(|state| found.path.starts_with(state))
    }

    /// What is closed where reads are an allow-list, and what of it is shown all the same.
    pub(crate) fn allow_list(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let others = |folder: &str, known: &[&str]| -> Vec<PathBuf> {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let theirs = entries.filter(|entry| !known.iter().any(|it| entry.file_name() == *it));
            // A link leads to what is judged by its own path.
            let theirs = theirs.filter(|it| it.file_type().is_ok_and(|kind| !kind.is_symlink()));
            theirs.map(|entry| entry.path()).collect()
        };
        let mut closed = others("/", SYSTEM_AT_TOP);
        closed.extend(others("/var", SYSTEM_IN_VAR));
        closed.extend(self.homes.all.iter().cloned());
        let mut shown: Vec<PathBuf> = Vec::new();
        for home in &self.homes.all {
            let names = TOOLCHAINS_IN_HOME.iter().filter_map(|name| canonical(&home.join(name)));
            shown.extend(names);
        }
        let path = self.env.vars.get(OsStr::new("PATH"));
        for folder in path.iter().flat_map(std::env::split_paths) {
            let Some(folder) = canonical(&folder).filter(|it| !self.homes.any_within(it)) else {
                continue;
            };
            // A toolchain is more than its programs.
            let whole = folder.parent().filter(|_| folder.ends_with("bin"));
            let whole = whole.filter(|it| it.parent().is_some_and(|above| above != Path::new("/")));
            let whole = whole.filter(|it| !self.homes.any_within(it)).map(Path::to_owned);
            shown.push(whole.unwrap_or(folder));
        }
        shown.retain(|path| closed.iter().any(|it| path.starts_with(it)));
        (closed, shown)
    }

    /// What each entry of the layers and flags hides, and where it stands.
    pub(crate) fn origins(&self) -> Vec<(PathBuf, String)> {
        let mut origins = Vec::new();
        let mut said = Vec::new();
        let settings = self.settings;
        let theirs = self.within_reach(&settings.project_hidden, &mut said);
        for entry in settings.hidden.iter().chain(&theirs).chain(&settings.required_hidden) {
            let found = self.listed(std::slice::from_ref(entry), &mut said);
            origins.extend(found.into_iter().map(|path| (path, entry.place.clone())));
        }
        let flagged = self.flagged(&mut said);
        origins.extend(flagged.into_iter().map(|path| (path, "--hide".to_owned())));
        origins
    }

    fn readable(&self, warnings: &mut Vec<String>) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in &self.settings.readable {
            let path = self.env.resolve(Path::new(&entry.value), self.workspace);
            match canonical(&path) {
                Some(path) => found.push(path),
                None => warnings.push(format!(
                    "{}: readable path `{}` does not exist",
                    entry.place, entry.value
                )),
            }
        }
        found
    }

    /// What the machine's requirements hide; a `readable` of a layer that leads into it is
    /// refused.
    fn required(
        &self,
        readable: &[PathBuf],
        warnings: &mut Vec<String>,
    ) -> Result<Vec<PathBuf>, ConfigError> {
        let mut found = Vec::new();
        for entry in &self.settings.required_hidden {
            let paths = self.listed(std::slice::from_ref(entry), warnings);
            let opened = readable.iter().find(|open| paths.iter().any(|it| open.starts_with(it)));
            if let Some(opened) = opened {
                let is_it = |it: &&Placed<String>| {
                    canonical(&self.env.resolve(Path::new(&it.value), self.workspace)).as_ref()
                        == Some(opened)
                };
                let readable = self.settings.readable.iter().find(is_it);
                return Err(reopened(readable.unwrap_or(entry), entry));
            }
            found.extend(paths);
        }
        Ok(found)
    }

    fn listed(&self, entries: &[Placed<String>], warnings: &mut Vec<String>) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in entries {
            let path = Path::new(&entry.value);
            found.extend(self.expanded(path, &entry.place, &[self.workspace], warnings));
        }
        found
    }

    /// Where the same files are seen once more. The workspace is shown, wherever it comes from.
    fn elsewhere(&self, hidden: &[PathBuf]) -> Vec<PathBuf> {
        let Ok(mountinfo) = read_list("/proc/self/mountinfo") else { return Vec::new() };
        let kept = |path: &PathBuf| {
            !self.workspace.starts_with(path) && !self.state.iter().any(|s| s.starts_with(path))
        };
        let found = aliases(hidden, &mountinfo);
        found.iter().filter_map(|path| canonical(path)).filter(kept).collect()
    }

    /// The entries of a project's file without patterns that start outside the workspace: a search
    /// of the whole machine would keep the start waiting.
    fn within_reach(
        &self,
        entries: &[Placed<String>],
        warnings: &mut Vec<String>,
    ) -> Vec<Placed<String>> {
        let mut kept = Vec::new();
        for entry in entries {
            let pattern = self.pattern(Path::new(&entry.value), self.workspace);
            let reaches = normalized(&pattern).starts_with(self.workspace);
            if reaches || !pattern.components().any(|part| is_pattern(part.as_os_str())) {
                kept.push(entry.clone());
            } else {
                let what = "search outside the workspace for what to hide";
                warnings.push(ignored(&entry.place, what));
            }
        }
        kept
    }

    /// A flag is relative to where the user stands; what it would name in the workspace is
    /// hidden too, as nobody means to show that.
    fn flagged(&self, warnings: &mut Vec<String>) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for path in self.flags {
            let bases = [self.env.current.as_path(), self.workspace];
            found.extend(self.expanded(path, "--hide", &bases, warnings));
        }
        found
    }

    fn expanded(
        &self,
        entry: &Path,
        place: &str,
        bases: &[&Path],
        warnings: &mut Vec<String>,
    ) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut closed = 0;
        for base in bases {
            let expansion = expand(&self.pattern(entry, base));
            found.extend(expansion.found);
            closed += expansion.closed;
        }
        let shown = entry.display();
        if found.is_empty() {
            let text = "does not exist now and is not covered";
            warnings.push(format!("{place}: hidden path `{shown}` {text}"));
        }
        if closed > 0 {
            let text =
                format!("{closed} folders cannot be searched, what is in them is not covered");
            warnings.push(format!("{place}: hidden path `{shown}`: {text}"));
        }
        found
    }

    /// A pattern of one name (`*.pem`) is looked for at any depth; with a slash it starts at
    /// the top.
    fn pattern(&self, entry: &Path, base: &Path) -> PathBuf {
        let mut parts = entry.components();
        let is_one_pattern = parts.next().is_some_and(|part| is_pattern(part.as_os_str()))
            && parts.next().is_none()
            && entry.as_os_str() != OsStr::new("**");
        if is_one_pattern { base.join("**").join(entry) } else { self.env.resolve(entry, base) }
    }
}
