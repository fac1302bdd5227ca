//! Git's configuration, strictly: which change of a `.git/config` is harmless.
//!
//! Git runs programs that its configuration names (`core.fsmonitor`, `core.hooksPath`,
//! `diff.x.textconv`, aliases, filters, includes of further files). So what may be written is a
//! list of keys whose values name nothing that runs; everything else is refused by its name.
//! The reader refuses what it does not understand: a text that git reads differently than this
//! must not pass. Source: git-config(1), "CONFIGURATION FILE".

mod parse;
mod switches;

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

pub use parse::{Entry, parse};

use crate::guard::lead;

/// Why a text may not become a repository's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Line number, from 1: nothing that this reader knows.
    Unreadable(usize),
    /// This key may not be set, changed or removed.
    Key(String),
    /// The value of this key is not of the harmless form.
    Value(String),
    /// The address of a remote that was there before would change.
    Url(String),
    /// The text is longer than any configuration.
    TooLong,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(line) => write!(f, "line {line} of git's configuration is unclear"),
            Self::Key(key) => write!(f, "the key `{key}` of git's configuration"),
            Self::Value(key) => write!(f, "the value of `{key}` in git's configuration"),
            Self::Url(key) => write!(f, "`{key}`, the address of a remote that was there before"),
            Self::TooLong => write!(f, "a configuration of more than 256 KiB"),
        }
    }
}

/// Longer than any that people have.
pub const TEXT_MAX: usize = 256 << 10;

/// What the key means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Anybody may set it, to a value of its form.
    Free,
    /// The same, of a closed form: it says how git does something.
    Switch,
    /// Where the work tree of a submodule is.
    Worktree,
    /// A remote's address or what is fetched from it.
    Remote,
    /// What a repository is made with: free in one that the run made.
    Made,
    /// Everything else.
    Fixed,
}

/// Keys of `[remote "x"]` that say where, what and how much.
const REMOTE_KEYS: [&str; 13] = [
    "url",
    "pushurl",
    "fetch",
    "push",
    "tagopt",
    "prune",
    "prunetags",
    "promisor",
    "partialclonefilter",
    "mirror",
    "skipdefaultupdate",
    "skipfetchall",
    "followremotehead",
];
const BRANCH_KEYS: [&str; 5] = ["remote", "merge", "rebase", "pushremote", "description"];
const USER_KEYS: [&str; 3] = ["name", "email", "useconfigonly"];

/// `section.key` of what `git init` and `git clone` write, and of what tests set in repositories
/// of their own: none names a program or a file that is run or read.
const MADE_KEYS: [&str; 11] = [
    "core.repositoryformatversion",
    "core.bare",
    "core.sharedrepository",
    "extensions.objectformat",
    "extensions.refstorage",
    "extensions.partialclone",
    "extensions.relativeworktrees",
    "commit.gpgsign",
    "tag.gpgsign",
    "init.defaultbranch",
    "receive.denycurrentbranch",
];

fn family(entry: &Entry) -> Family {
    let key = entry.key.as_str();
    match (entry.section.as_str(), entry.subsection.as_deref()) {
        ("user", None) if USER_KEYS.contains(&key) => Family::Free,
        ("branch", Some(_)) if BRANCH_KEYS.contains(&key) => Family::Free,
        ("remote", Some(_)) if REMOTE_KEYS.contains(&key) => Family::Remote,
        ("submodule", Some(_)) if matches!(key, "url" | "active" | "branch") => Family::Remote,
        ("submodule", None) if key == "active" => Family::Made,
        ("core", None) if key == "worktree" => Family::Worktree,
        (section, None) if switches::is_switch(section, key) => Family::Switch,
        (section, None) if MADE_KEYS.contains(&format!("{section}.{key}").as_str()) => Family::Made,
        _ => Family::Fixed,
    }
}

/// Whether `text` may be the configuration of `folder`, a repository that the run itself made.
///
/// # Errors
///
/// The first key that may not.
pub fn check_new(text: &[u8], folder: &Path) -> Result<(), Refusal> {
    check_change(&Change { before: b"", current: b"", new: text, is_new: true, folder })
}

/// A change of one configuration.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    /// The text when the run first touched it.
    pub before: &'a [u8],
    /// The text now.
    pub current: &'a [u8],
    /// The text that is wanted.
    pub new: &'a [u8],
    /// Whether the run made the repository.
    pub is_new: bool,
    /// The git directory that it is, or will be, the configuration of.
    pub folder: &'a Path,
}

/// Whether a configuration may be changed so.
///
/// # Errors
///
/// The first key that may not.
pub fn check_change(change: &Change<'_>) -> Result<(), Refusal> {
    let is_new = change.is_new;
    let (old, new) = (parse(change.before)?, parse(change.new)?);
    // Renaming a remote takes git several steps, in which a branch still names the old one.
    let current = parse(change.current)?;
    let mut known = current.clone();
    known.extend(new.iter().cloned());
    let is_remote_of_old = |entry: &Entry| {
        old.iter().any(|known| {
            known.section == entry.section
                && known.subsection == entry.subsection
                && family(known) == Family::Remote
        })
    };
    let may_change = |entry: &Entry| match family(entry) {
        Family::Free | Family::Switch => true,
        Family::Worktree => is_new || around_module(change.folder).is_some(),
        Family::Remote => is_new || !is_remote_of_old(entry),
        Family::Made => is_new,
        Family::Fixed => false,
    };
    // What may not change is the same, in the same order (an include counts where it stands).
    let fixed = |list: &[Entry]| -> Vec<Entry> {
        list.iter().filter(|entry| !may_change(entry)).cloned().collect()
    };
    let (was, is) = (fixed(&old), fixed(&new));
    if was != is {
        let differs = (0..was.len().max(is.len())).find(|&at| was.get(at) != is.get(at));
        let at = differs.unwrap_or_default();
        // What was added is a better name for it than what it has moved.
        let added = is.get(at).filter(|entry| !was.contains(entry));
        let entry = added.or(was.get(at)).or(is.get(at));
        let Some(entry) = entry else { return Err(Refusal::Unreadable(0)) };
        return Err(match family(entry) {
            Family::Remote => Refusal::Url(entry.name()),
            Family::Free | Family::Switch | Family::Worktree | Family::Made | Family::Fixed => {
                Refusal::Key(entry.name())
            }
        });
    }
    let is_there = |entry: &Entry| old.contains(entry) || current.contains(entry);
    let changed = new.iter().filter(|entry| may_change(entry) && !is_there(entry));
    for entry in changed {
        // A plain `git push` of the user's goes where it went before, or to a place it names.
        let is_followed = |known: &Entry| {
            known.section == "branch"
                && known.subsection == entry.subsection
                && known.key == "remote"
        };
        let remotes = if old.iter().any(is_followed) { &old } else { &known };
        if !has_harmless_value(entry, remotes, change.folder) {
            return Err(Refusal::Value(entry.name()));
        }
    }
    Ok(())
}

fn has_harmless_value(entry: &Entry, all: &[Entry], folder: &Path) -> bool {
    let value = entry.value.as_deref();
    match (entry.section.as_str(), entry.key.as_str()) {
        ("remote" | "submodule", "url" | "pushurl") => value.is_some_and(is_harmless_address),
        ("branch", "remote" | "pushremote") => value.is_some_and(|value| {
            value == b"."
                || all.iter().any(|other| {
                    other.section == "remote" && other.subsection.as_deref() == Some(value)
                })
        }),
        ("core", "worktree") => value.is_some_and(|value| leads_to_submodule(folder, value)),
        (section, key) => {
            family(entry) != Family::Switch || switches::has_its_form(section, key, value)
        }
    }
}

/// The work tree around a submodule's git directory, which lies in `.git/modules` there.
fn around_module(folder: &Path) -> Option<PathBuf> {
    let parts: Vec<&OsStr> = folder.iter().collect();
    let is_outer = |pair: &[&OsStr]| pair == [OsStr::new(".git"), OsStr::new("modules")];
    let outer = parts.windows(2).position(is_outer).filter(|at| at + 2 < parts.len())?;
    Some(parts.iter().take(outer).collect())
}

/// Whether the work tree that a submodule names is a folder of the repository around it, as git
/// writes it. A `git checkout` of the user's writes there: anywhere else that would be a way out.
fn leads_to_submodule(folder: &Path, value: &[u8]) -> bool {
    let Some(top) = around_module(folder).filter(|_| value.starts_with(b"../")) else {
        return false;
    };
    let leads = lead(folder, value, b"");
    let inner = leads.as_deref().and_then(|leads| leads.strip_prefix(&top).ok());
    inner.is_some_and(|inner| {
        !inner.as_os_str().is_empty()
            && !inner.iter().any(|part| part.as_bytes().eq_ignore_ascii_case(b".git"))
    })
}

/// An address of a repository by https, ssh or as a path. Everything else, such as `ext::` and
/// other helpers, is a program that git runs.
fn is_harmless_address(address: &[u8]) -> bool {
    let plain = |text: &[u8]| !text.is_empty() && text.iter().all(|byte| *byte >= 0x20);
    if !plain(address) || address.starts_with(b"-") {
        return false;
    }
    let text = String::from_utf8_lossy(address);
    if let Some((scheme, rest)) = text.split_once("://") {
        let known = ["https", "http", "ssh", "git", "file"].contains(&scheme);
        return known && !rest.starts_with('-') && !rest.contains("@-");
    }
    // `helper::address`; a colon later than a slash is a part of a path.
    let head = text.split('/').next().unwrap_or_default();
    !head.contains("::") && !head.contains("@-")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = false\n[remote \"origin\"]\n\turl = https://example.org/a\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n[branch \"main\"]\n\tremote = origin\n\tmerge = refs/heads/main\n";

    fn add(text: &str) -> Result<(), Refusal> {
        change(OLD, &format!("{OLD}{text}"))
    }

    fn change(before: &str, new: &str) -> Result<(), Refusal> {
        let (before, new) = (before.as_bytes(), new.as_bytes());
        let folder = Path::new("/w/.git");
        check_change(&Change { before, current: before, new, is_new: false, folder })
    }

    #[test]
    fn what_an_honest_task_sets_passes() {
        #[rustfmt::skip]
        const CASES: &[&str] = &[
            "[user]\n\tname = A B\n\temail = a@b\n",
            "[remote \"up\"]\n\turl = git@example.org:a/b.git\n\tfetch = +refs/heads/*:refs/remotes/up/*\n",
            "[remote \"up\"]\n\turl = ../other\n",
            "[branch \"x\"]\n\tremote = origin\n\tmerge = refs/heads/x\n",
            "[branch \"x\"]\n\tremote = .\n\tmerge = refs/heads/main\n\trebase = true\n",
            "# a note\n\n[user] name = x ; end\n",
            "[pull]\n\trebase = true\n[push]\n\tdefault = current\n\tautoSetupRemote\n",
            "[core]\n\tautocrlf = input\n\tuntrackedCache = true\n[merge]\n\tconflictStyle = zdiff3\n",
            "[core]\n\tsparseCheckout = true\n\tsparseCheckoutCone = true\n[index]\n\tsparse = false\n[extensions]\n\tworktreeConfig = true\n",
        ];
        for text in CASES {
            assert_eq!(add(text), Ok(()), "{text}");
        }
        let without = OLD.split("[branch").next().unwrap();
        assert_eq!(change(OLD, without), Ok(()), "branch -D");
    }

    #[test]
    fn what_runs_or_leads_elsewhere_is_refused_by_name() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str)] = &[
            ("[core]\n\tfsmonitor = touch x\n",                    "core.fsmonitor"),
            ("[CORE]\n\tHooksPath = x\n",                          "core.hookspath"),
            ("[include]\n\tpath = x\n",                            "include.path"),
            ("[includeIf \"gitdir:x\"]\n\tpath = x\n",             "includeif.gitdir:x.path"),
            ("[alias]\n\tst = !touch x\n",                         "alias.st"),
            ("[filter \"x\"]\n\tclean = touch x\n",                "filter.x.clean"),
            ("[diff \"x\"]\n\ttextconv = touch x\n",               "diff.x.textconv"),
            ("[remote \"up\"]\n\turl = ext::sh -c x\n",            "remote.up.url"),
            ("[remote \"up\"]\n\turl = -x\n",                      "remote.up.url"),
            ("[remote \"up\"]\n\turl = ssh://-oProxyCommand=x/y\n","remote.up.url"),
            ("[remote \"up\"]\n\tuploadpack = touch x\n",          "remote.up.uploadpack"),
            ("[remote \"up\"]\n\tvcs = x\n",                       "remote.up.vcs"),
            ("[remote \"origin\"]\n\turl = https://evil.example\n","remote.origin.url"),
            ("[remote \"origin\"]\n\tpushurl = https://evil\n",    "remote.origin.pushurl"),
            ("[url \"https://evil/\"]\n\tinsteadOf = https://\n",  "url.https://evil/.insteadof"),
            ("[branch \"x\"]\n\tremote = https://evil.example\n",  "branch.x.remote"),
            ("[remote \"up\"]\n\turl = ../a\n[branch \"main\"]\n\tremote = up\n", "branch.main.remote"),
            ("[remote \"up\"]\n\turl = ../a\n[branch \"main\"]\n\tpushRemote = up\n", "branch.main.pushremote"),
            ("[branch \"x\"]\n\tmergeOptions = x\n",               "branch.x.mergeoptions"),
            ("[user]\n\tsigningKey = x\n",                         "user.signingkey"),
            ("[core]\n\teditor = touch x\n",                       "core.editor"),
            ("[core]\n\tautocrlf = !touch x\n",                    "core.autocrlf"),
            ("[core]\n\tbare = true\n",                            "core.bare"),
            ("[core]\n\tprotectNTFS = false\n",                    "core.protectntfs"),
            ("[commit]\n\tgpgSign = false\n",                      "commit.gpgsign"),
            ("[init]\n\tdefaultBranch = main\n",                   "init.defaultbranch"),
            ("[status]\n\tshowUntrackedFiles = no\n",              "status.showuntrackedfiles"),
            ("[rebase]\n\tinstructionFormat = x\n",                "rebase.instructionformat"),
            ("[core]\n\tworktree = /home\n",                       "core.worktree"),
            ("[credential]\n\thelper = !x\n",                      "credential.helper"),
        ];
        for &(text, name) in CASES {
            let refusal = add(text).expect_err(text).to_string();
            assert!(refusal.contains(name), "{text}: {refusal}");
        }
    }

    #[test]
    fn nothing_that_was_there_is_removed_or_moved() {
        let bare = OLD.replace("\tbare = false\n", "");
        assert_eq!(change(OLD, &bare), Err(Refusal::Key("core.bare".into())));
        let moved = OLD.replace("https://example.org/a", "https://example.org/b");
        assert!(matches!(change(OLD, &moved), Err(Refusal::Url(_))));
        let (first, second) = (
            "[include]\npath = a\n[core]\nbare = no\n",
            "[core]\nbare = no\n[include]\npath = a\n",
        );
        assert!(change(first, second).is_err(), "the order");
        assert_eq!(change(first, first), Ok(()), "unchanged");
    }

    #[test]
    fn a_new_repository_may_say_what_git_writes_and_nothing_that_runs() {
        let made = "[core]\n\trepositoryformatversion = 1\n\tfilemode = true\n\tbare = true\n[extensions]\n\tobjectFormat = sha256\n[commit]\n\tgpgSign = false\n[submodule]\n\tactive = .\n[submodule \"a\"]\n\turl = ../a\n\tactive = true\n";
        let check_new = |text: &[u8]| check_new(text, Path::new("/w/a/.git"));
        assert_eq!(check_new(made.as_bytes()), Ok(()));
        assert!(check_new(b"[core]\n\tfsmonitor = x\n").is_err());
        assert!(check_new(b"[submodule \"a\"]\n\tupdate = !x\n").is_err());
        assert!(check_new(b"[core]\n\tgitProxy = x\n").is_err());
    }

    #[test]
    fn a_work_tree_is_a_submodules_own_and_nobody_elses() {
        #[rustfmt::skip]
        const CASES: &[(&str, &str, bool)] = &[
            ("/w/.git/modules/sub",             "../../../sub",       true),
            ("/w/.git/modules/deps/in",         "../../../../deps/in", true),
            ("/w/.git/modules/a/modules/b",     "../../../../../a/b", true),
            ("/w/.git/modules/sub",             "../../..",           false),
            ("/w/.git/modules/sub",             "../../../.git/x",    false),
            ("/w/.git/modules/sub",             "../../../../x",      false),
            ("/w/.git/modules/sub",             "/w/sub",             false),
            ("/w/.git/modules",                 "../../sub",          false),
            ("/w/a/.git",                       "../../b",            false),
            ("/w/a/.git",                       "../../../home",      false),
            ("/w/a.git",                        "../x",               false),
        ];
        for &(folder, value, expected) in CASES {
            let text = format!("[core]\n\tworktree = {value}\n");
            let is_fine = |is_new| {
                let (new, folder) = (text.as_bytes(), Path::new(folder));
                check_change(&Change { before: b"", current: b"", new, is_new, folder }).is_ok()
            };
            assert_eq!(is_fine(true), expected, "{folder} {value}");
            assert_eq!(is_fine(false), expected, "{folder} {value}, there before");
        }
        let (before, folder) = (b"[core]\n\tworktree = ../../../sub\n", "/w/.git/modules/sub");
        let gone =
            Change { before, current: before, new: b"", is_new: false, folder: Path::new(folder) };
        assert_eq!(check_change(&gone), Ok(()), "deinit");
    }
}
