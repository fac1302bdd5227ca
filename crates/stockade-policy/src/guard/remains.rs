//! What a run left behind that may not stay: judged at its end, by what is there then.
//!
//! While it runs every call is judged. At the end all that was noted on the way is looked at once
//! more, for what no call shows: a folder on the way of a `.git` file that became a link, a name
//! that came into being in spite of all. Nothing here depends on how it came about.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::{COMMONDIR, Guard, Kind, Tree, git, leads};
use crate::{git_config, git_index};

/// What is noted of a run while it lives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Noted {
    /// A folder that the run made a repository.
    Repository(PathBuf),
    /// A `.git` file that the run wrote.
    GitFile(PathBuf),
    /// An index that the run wrote.
    Index(PathBuf),
    /// A name that was refused, and that nothing had then.
    Absent(PathBuf),
}

/// Something that may not stay where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remains {
    /// What is to be taken away.
    pub path: PathBuf,
    /// Why.
    pub why: &'static str,
}

const HOOKS: &str = "git would run what is in it";
const CONFIG: &str = "git would obey what it says";
const LEADS: &str = "git would take configuration and hooks from where it leads";
const OUT: &str = "git would write to names in it that lie elsewhere";
const MADE: &str = "a protected name that nothing had when it was refused";

impl Guard {
    /// What of `noted` may not stay.
    pub fn remains(&self, tree: &dyn Tree, noted: &BTreeSet<Noted>) -> Vec<Remains> {
        let mut found: Vec<Remains> = Vec::new();
        for note in noted {
            match note {
                Noted::Repository(folder) => repository(tree, folder, &mut found),
                Noted::GitFile(path) => {
                    if tree.kind(path).is_some() && !self.may_lead(tree, path, noted) {
                        found.push(Remains { path: path.clone(), why: LEADS });
                    }
                }
                Noted::Index(path) => {
                    if path.parent().is_some_and(|folder| git::is_git_folder(tree, folder)) {
                        index(tree, path, &mut found);
                    }
                }
                Noted::Absent(path) => {
                    if tree.kind(path).is_some() && !is_harmless(tree, path) {
                        found.push(Remains { path: path.clone(), why: MADE });
                    }
                }
            }
        }
        found.retain(|remains| self.roots.iter().any(|root| remains.path.starts_with(root)));
        found.sort_by(|one, other| one.path.cmp(&other.path));
        found.dedup_by(|one, other| one.path.starts_with(&other.path));
        found
    }

    /// Whether what has the name `.git` is a folder, or a file that leads where it may.
    fn may_lead(&self, tree: &dyn Tree, path: &Path, noted: &BTreeSet<Noted>) -> bool {
        match tree.kind(path) {
            None | Some(Kind::Folder) => return true,
            Some(Kind::Other) => return false,
            Some(Kind::File) => {}
        }
        let folder = path.parent().unwrap_or(path);
        let text = tree.text(path);
        let Some(leads) = text.and_then(|text| leads::lead(folder, &text, b"gitdir: ")) else {
            // Git does not understand it either.
            return true;
        };
        let within = |root: &&crate::AbsPath| leads.starts_with(root.as_path());
        let Some(root) = self.roots.iter().find(within) else { return false };
        // A link on the way leads to what nobody judged.
        for above in leads.ancestors().take_while(|above| *above != root.as_path()) {
            if tree.kind(above) == Some(Kind::Other) {
                return false;
            }
        }
        if tree.kind(&leads).is_none() || !git::is_git_folder(tree, &leads) {
            return true;
        }
        noted.contains(&Noted::Repository(leads.clone())) || Self::is_its_own(tree, path, &leads)
    }

    /// A submodule's place in the repository around it, or a worktree that names this file.
    fn is_its_own(tree: &dyn Tree, path: &Path, leads: &Path) -> bool {
        let linked = tree.text(&leads.join("commondir"));
        linked.is_none_or(|text| text == COMMONDIR) && Self::belongs_to(tree, path, leads)
    }
}

/// What git would obey in a folder that the run made a repository.
fn repository(tree: &dyn Tree, folder: &Path, found: &mut Vec<Remains>) {
    if !git::is_git_folder(tree, folder) {
        return;
    }
    let mut hold = |name: &str, why| found.push(Remains { path: folder.join(name), why });
    for name in ["config", "config.worktree"] {
        let path = folder.join(name);
        let is_harmless =
            || tree.text(&path).is_some_and(|text| git_config::check_new(&text, folder).is_ok());
        if tree.kind(&path).is_some() && !is_harmless() {
            hold(name, CONFIG);
        }
    }
    if tree.kind(&folder.join("hooks")).is_some() && !git::has_samples_only(tree, folder) {
        hold("hooks", HOOKS);
    }
    for name in ["info/attributes", "info/grafts"] {
        if tree.kind(&folder.join(name)).is_some() {
            hold(name, CONFIG);
        }
    }
    for name in tree.names(folder).unwrap_or_default() {
        if git_index::is_one(&name) {
            index(tree, &folder.join(OsStr::from_bytes(&name)), found);
        }
    }
    let mut hold = |name: &str, why| found.push(Remains { path: folder.join(name), why });
    let commondir = folder.join("commondir");
    if tree.kind(&commondir).is_some() && tree.text(&commondir).as_deref() != Some(COMMONDIR) {
        hold("commondir", LEADS);
    }
}

/// An index that git would write by, wherever its names lead.
fn index(tree: &dyn Tree, path: &Path, found: &mut Vec<Remains>) {
    let folder = path.parent().unwrap_or(path);
    // A linked worktree is configured where it belongs.
    let is_linked = tree.kind(&folder.join("commondir")).is_some();
    let config = folder.join(if is_linked { "../../config" } else { "config" });
    let entries = tree.text(&config).and_then(|text| git_config::parse(&text).ok());
    let entries = entries.unwrap_or_default();
    let format = entries.iter().rfind(|entry| entry.name() == "extensions.objectformat");
    let has_long_ids = format.is_some_and(|entry| entry.value.as_deref() == Some(b"sha256"));
    let id = if has_long_ids { 32 } else { 20 };
    let is_harmless = || tree.whole(path).is_some_and(|bytes| git_index::is_harmless(&bytes, id));
    if tree.kind(path).is_some() && !is_harmless() {
        found.push(Remains { path: path.to_owned(), why: OUT });
    }
}

/// A name that was refused before it might be had, and is now what it may be.
fn is_harmless(tree: &dyn Tree, path: &Path) -> bool {
    match tree.kind(path) {
        None => true,
        // Made empty by `mkdir`, or a repository that is judged as one.
        Some(Kind::Folder) => {
            tree.names(path).is_some_and(|names| names.is_empty())
                || path.file_name().is_some_and(|name| name == ".git")
                || path.parent().is_some_and(|above| {
                    path.file_name().is_some_and(|name| name == "hooks")
                        && git::has_samples_only(tree, above)
                })
        }
        Some(Kind::File) => {
            let name = path.file_name().unwrap_or_default();
            let text = || tree.text(path).unwrap_or_default();
            (name == "config" || name == "config.worktree")
                && path.parent().is_some_and(|above| {
                    git::is_git_folder(tree, above) && git_config::check_new(&text(), above).is_ok()
                })
        }
        Some(Kind::Other) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::AbsPath;

    #[derive(Debug, Default)]
    struct Fake(BTreeMap<PathBuf, Option<&'static str>>);

    impl Fake {
        fn of(files: &[(&'static str, &'static str)]) -> Self {
            let mut tree = Self::default();
            for (path, text) in files {
                let path = PathBuf::from(path);
                for above in path.ancestors().skip(1) {
                    tree.0.insert(above.to_owned(), None);
                }
                tree.0.insert(path, Some(text));
            }
            tree
        }
    }

    impl Tree for Fake {
        fn kind(&self, path: &Path) -> Option<Kind> {
            Some(match self.0.get(path)? {
                None => Kind::Folder,
                Some("LINK") => Kind::Other,
                Some(_) => Kind::File,
            })
        }

        fn is_new(&self, _path: &Path) -> bool {
            unreachable!("the end is judged by what is there")
        }

        fn text(&self, path: &Path) -> Option<Vec<u8>> {
            Some(self.0.get(path)?.as_ref()?.as_bytes().to_vec())
        }

        fn names(&self, folder: &Path) -> Option<Vec<Vec<u8>>> {
            (self.kind(folder)? == Kind::Folder).then(|| {
                let inner = self.0.keys().filter(|path| path.parent() == Some(folder));
                let name = |path: &PathBuf| path.file_name().map(|it| it.as_encoded_bytes().into());
                inner.filter_map(name).collect()
            })
        }
    }

    fn guard() -> Guard {
        Guard {
            roots: vec![AbsPath::new("/w").unwrap()],
            tops: vec![],
            unprotected: vec![],
            awaited: vec![],
        }
    }

    /// The paths that may not stay.
    fn held(files: &[(&'static str, &'static str)], noted: &[Noted]) -> Vec<String> {
        let noted = noted.iter().cloned().collect();
        let remains = guard().remains(&Fake::of(files), &noted);
        remains.iter().map(|it| it.path.display().to_string()).collect()
    }

    const BARE: [(&str, &str); 3] =
        [("/w/r/HEAD", "ref: refs/heads/main\n"), ("/w/r/objects/x", ""), ("/w/r/refs/x", "")];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        BARE.iter().chain(more).copied().collect()
    }

    /// Files beside those of a repository, and what of them goes.
    type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

    #[test]
    fn an_index_is_looked_at_where_git_would_look_at_it() {
        let noted = |path: &str| [Noted::Index(path.into())];
        let evil = [("/w/r/index", "DIRC"), ("/w/pages/index", "x")];
        assert_eq!(held(&with(&evil), &noted("/w/r/index")), ["/w/r/index"]);
        assert!(held(&with(&evil), &noted("/w/pages/index")).is_empty(), "no repository");
        assert!(held(&with(&[]), &noted("/w/r/index")).is_empty(), "it is gone");
        let long = "DIRC\0\0\0\u{2}\0\0\0\0.id.of.thirty-two.bytes.........";
        let config =
            "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n";
        assert_eq!(held(&with(&[("/w/r/index", long)]), &noted("/w/r/index")), ["/w/r/index"]);
        let known = with(&[("/w/r/index", long), ("/w/r/config", config)]);
        assert!(held(&known, &noted("/w/r/index")).is_empty());
    }

    #[test]
    fn of_a_repository_only_what_git_would_obey_goes() {
        #[rustfmt::skip]
        const CASES: &[Case] = &[
            (&[("/w/r/config", "[core]\n\tbare = true\n"), ("/w/r/hooks/a.sample", "")], &[]),
            (&[("/w/r/config", "[core]\n\tfsmonitor = x\n")],  &["/w/r/config"]),
            (&[("/w/r/config", "[alias]\n\tst = !x\n")],       &["/w/r/config"]),
            (&[("/w/r/config", "[includeIf \"gitdir:/w/\"]\n\tpath = x\n")], &["/w/r/config"]),
            (&[("/w/r/hooks/post-checkout", "")],              &["/w/r/hooks"]),
            (&[("/w/r/index", "DIRC\0\0\0\u{2}\0\0\0\0.id.of.twenty.bytes.")], &[]),
            (&[("/w/r/index", "DIRC"), ("/w/r/sharedindex.1", "x")], &["/w/r/index", "/w/r/sharedindex.1"]),
            (&[("/w/r/index", "LINK")],                        &["/w/r/index"]),
            (&[("/w/r/hooks", "LINK")],                        &["/w/r/hooks"]),
            (&[("/w/r/config", "LINK")],                       &["/w/r/config"]),
            (&[("/w/r/info/attributes", "* filter=x\n")],      &["/w/r/info/attributes"]),
            (&[("/w/r/commondir", "/elsewhere\n")],            &["/w/r/commondir"]),
        ];
        let noted = [Noted::Repository("/w/r".into())];
        for (files, expected) in CASES {
            assert_eq!(held(&with(files), &noted), *expected, "{files:?}");
        }
        assert!(
            held(&[("/w/r/config", "[alias]\n\tst = !x\n")], &noted).is_empty(),
            "no repository"
        );
    }

    #[test]
    fn a_git_file_stays_that_leads_where_it_may() {
        let file = |text| ("/w/d/.git", text);
        let noted = [Noted::GitFile("/w/d/.git".into())];
        let held = |files: &[_], more: Option<Noted>| {
            !held(files, &noted.iter().cloned().chain(more).collect::<Vec<_>>()).is_empty()
        };
        assert!(!held(&with(&[file("gitdir: ../r\n")]), Some(Noted::Repository("/w/r".into()))));
        assert!(held(&with(&[file("gitdir: ../r\n")]), None), "not one that the run made");
        assert!(held(&[file("gitdir: /home/r\n")], None), "out of the roots");
        assert!(held(&[file("gitdir: ../l/r\n"), ("/w/l", "LINK")], None), "by a link");
        assert!(held(&[file("LINK")], None), "a link itself");
        assert!(!held(&[file("gitdir: ../nothing\n")], None));
        let own = [
            ("/w/.git/worktrees/d/HEAD", ""),
            ("/w/.git/worktrees/d/commondir", "../..\n"),
            ("/w/.git/worktrees/d/gitdir", "/w/d/.git\n"),
            file("gitdir: ../.git/worktrees/d\n"),
        ];
        assert!(!held(&own, None));
        let [head, _, gitdir, lead] = own;
        let other = [head, gitdir, lead, ("/w/.git/worktrees/d/commondir", "/w/evil\n")];
        assert!(held(&other, None), "its common part is another");
    }

    #[test]
    fn a_refused_name_goes_when_it_is_there_after_all() {
        let noted = |path: &str| [Noted::Absent(path.into())];
        assert_eq!(held(&[("/w/.mcp.json", "{}")], &noted("/w/.mcp.json")), ["/w/.mcp.json"]);
        assert!(held(&[("/w/other", "")], &noted("/w/.mcp.json")).is_empty());
        assert!(held(&[("/etc/x", "")], &noted("/etc/x")).is_empty(), "out of the roots");
        let config = with(&[("/w/r/config", "[core]\n\tbare = true\n")]);
        assert!(held(&config, &noted("/w/r/config")).is_empty(), "and is harmless by now");
        let both = [("/w/.vscode/settings.json", "{}")];
        let noted =
            [Noted::Absent("/w/.vscode".into()), Noted::Absent("/w/.vscode/settings.json".into())];
        assert_eq!(held(&both, &noted), ["/w/.vscode"], "once, with all that is in it");
    }
}
