//! From journals to what each name should be: pure.
//!
//! The journal is read backwards over a tree that begins as what is there. A node is what is there
//! now under some path, a kept file, or nothing; a renamed folder is one node that moves with all
//! that is in it, so nothing is looked at that no line names.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use rustix::fs::FileType;
use stockade_sandbox::keep::{Facts, FileId, How, Op};

/// Something in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Object {
    /// Which of the journals it belongs to.
    pub(crate) journal: usize,
    /// Its number there.
    pub(crate) number: u64,
}

/// What is kept of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeptFile {
    /// What it was.
    pub(crate) facts: Facts,
    /// The file itself.
    pub(crate) link: Option<Object>,
    /// Its content before it was first written to.
    pub(crate) copy: Option<Object>,
    /// Why there is no content.
    pub(crate) not: Option<String>,
    /// Extended attributes that changed: the value that they had, if they had one.
    pub(crate) attributes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl KeptFile {
    pub(crate) fn is_folder(&self) -> bool {
        FileType::from_raw_mode(self.facts.mode) == FileType::Directory
    }
}

/// What a name should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Want {
    /// Nothing.
    Absent,
    /// A kept file; what is there by that name is another one.
    Anew(FileId),
    /// A kept file, which may not have gone after all.
    Kept(FileId),
    /// What has another name now.
    Moved(PathBuf),
    /// What it is, with the content and the mode that it had.
    InPlace(FileId),
}

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The name as it was.
    pub(crate) path: PathBuf,
    /// Where that is now: elsewhere when a folder above was renamed.
    pub(crate) now: PathBuf,
    /// What it should be.
    pub(crate) want: Want,
    /// Whether the folder that it is in is made anew: whatever is there now is another folder's.
    pub(crate) is_fresh: bool,
}

/// A folder in which names came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entered {
    /// Its name as it was.
    pub(crate) path: PathBuf,
    /// Where it is now, unless it is gone.
    pub(crate) now: PathBuf,
    /// Which.
    pub(crate) id: FileId,
}

/// All that is to be taken back.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// A folder before what is in it.
    pub(crate) wanted: Vec<Wanted>,
    /// Folders whose time has changed, a folder before what is in it.
    pub(crate) entered: Vec<Entered>,
    pub(crate) files: HashMap<FileId, KeptFile>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Here(PathBuf),
    Absent,
    Kept { id: FileId, is_anew: bool },
}

#[derive(Debug)]
struct Node {
    what: What,
    /// Whether a line says so, and not only what stands above.
    is_said: bool,
    touched: Option<FileId>,
    entered: Option<FileId>,
    inner: BTreeMap<OsString, Node>,
}

impl Node {
    fn new(what: What, is_said: bool) -> Self {
        Self { what, is_said, touched: None, entered: None, inner: BTreeMap::new() }
    }

    fn at(&mut self, path: &Path) -> &mut Self {
        let mut node = self;
        for part in path.components() {
            let Component::Normal(name) = part else { continue };
            let what = node.default_of(Path::new(name));
            node = node.inner.entry(name.to_owned()).or_insert_with(|| Self::new(what, false));
        }
        node
    }

    fn default_of(&self, name: &Path) -> What {
        match &self.what {
            What::Here(path) => What::Here(path.join(name)),
            What::Absent | What::Kept { .. } => What::Absent,
        }
    }

    /// Of which folder this was the name, when that gets its time back: one that is made anew, too.
    fn timed(&self, files: &HashMap<FileId, KeptFile>) -> Option<FileId> {
        match &self.what {
            What::Here(_) => self.entered,
            What::Absent => None,
            What::Kept { id, .. } => files.get(id).filter(|file| file.is_folder()).map(|_| *id),
        }
    }

    fn flatten(&self, path: &Path, now: &Path, found: &mut Plan) {
        let is_fresh = matches!(self.what, What::Kept { is_anew: true, .. });
        for (name, node) in &self.inner {
            let (path, now) = (path.join(name), now.join(name));
            let mut want = |want| {
                let (path, now) = (path.clone(), now.clone());
                found.wanted.push(Wanted { path, now, want, is_fresh });
            };
            let below = match &node.what {
                What::Here(there) => {
                    if *there != now {
                        want(Want::Moved(there.clone()));
                    }
                    if let Some(id) = node.touched {
                        found.wanted.push(Wanted {
                            path: path.clone(),
                            now: there.clone(),
                            want: Want::InPlace(id),
                            is_fresh: false,
                        });
                    }
                    there.clone()
                }
                What::Absent => {
                    if node.is_said {
                        want(Want::Absent);
                    }
                    now.clone()
                }
                What::Kept { id, is_anew } => {
                    want(if *is_anew { Want::Anew(*id) } else { Want::Kept(*id) });
                    now.clone()
                }
            };
            if let Some(id) = node.timed(&found.files) {
                found.entered.push(Entered { path: path.clone(), now: below.clone(), id });
            }
            node.flatten(&path, &below, found);
        }
    }
}

/// Reads the lines of all journals, in the order in which they were written; each with the number
/// of its journal. No line is one that failed.
pub(crate) fn plan(lines: &[(usize, Op)]) -> Plan {
    let mut files: HashMap<FileId, KeptFile> = HashMap::new();
    for (journal, op) in lines {
        if let Op::Kept { id, facts, how } = op {
            keep(&mut files, *id, *facts, how, *journal);
        }
    }
    let mut root = Node::new(What::Here(PathBuf::from("/")), false);
    for (_, op) in lines.iter().rev() {
        match op {
            Op::Kept { .. } | Op::Failed(_) => {}
            Op::Born(path) => *root.at(path) = Node::new(What::Absent, true),
            Op::Linked { from, to, id } => {
                *root.at(to) = Node::new(What::Absent, true);
                if files.get(id).is_some_and(|file| file.copy.is_some()) {
                    root.at(from).touched = Some(*id);
                }
            }
            Op::Gone(path, id) => {
                let node = root.at(path);
                let is_anew = node.what == What::Absent;
                *node = Node::new(What::Kept { id: *id, is_anew }, true);
            }
            Op::Touched(path, id) => root.at(path).touched = Some(*id),
            Op::Entered(path, id) => root.at(path).entered = Some(*id),
            Op::Moved { from, to, .. } => {
                let mut node = std::mem::replace(root.at(to), Node::new(What::Absent, true));
                node.is_said = true;
                *root.at(from) = node;
            }
            Op::Swapped(one, other) => {
                let mut first = std::mem::replace(root.at(one), Node::new(What::Absent, true));
                first.is_said = true;
                let mut second = std::mem::replace(root.at(other), first);
                second.is_said = true;
                *root.at(one) = second;
            }
        }
    }
    let mut plan = Plan { files, ..Plan::default() };
    root.flatten(Path::new("/"), Path::new("/"), &mut plan);
    plan
}

/// The first line on a file knows what it was; later ones may have what the first has not.
fn keep(
    files: &mut HashMap<FileId, KeptFile>,
    id: FileId,
    facts: Facts,
    how: &How,
    journal: usize,
) {
    let file = files.entry(id).or_insert_with(|| KeptFile {
        facts,
        link: None,
        copy: None,
        not: None,
        attributes: BTreeMap::new(),
    });
    match how {
        How::Link(number) => drop(file.link.get_or_insert(Object { journal, number: *number })),
        How::Copy(number) => drop(file.copy.get_or_insert(Object { journal, number: *number })),
        How::Not(why) => drop(file.not.get_or_insert_with(|| why.clone())),
        How::Attribute(name, value) => {
            file.attributes.entry(name.clone()).or_insert_with(|| value.clone());
        }
        How::Facts => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId { device: 1, inode: 1 };
    const FOLDER: FileId = FileId { device: 1, inode: 2 };

    fn wanted(ops: &[Op]) -> Vec<String> {
        let lines: Vec<_> = ops.iter().map(|op| (0, op.clone())).collect();
        let show = |it: &Wanted| {
            let at = format!("{} ({})", it.path.display(), it.now.display());
            match &it.want {
                Want::Absent => format!("{at} absent"),
                Want::Anew(id) => format!("{at} anew {}", id.inode),
                Want::Kept(id) => format!("{at} kept {}", id.inode),
                Want::Moved(from) => format!("{at} from {}", from.display()),
                Want::InPlace(id) => format!("{at} as before {}", id.inode),
            }
        };
        plan(&lines).wanted.iter().map(show).collect()
    }

    fn moved(from: &str, to: &str) -> Op {
        Op::Moved { from: from.into(), to: to.into(), id: FILE }
    }

    #[test]
    fn a_name_is_what_it_was_before_its_first_line() {
        let born = Op::Born("/w/a".into());
        let gone = Op::Gone("/w/a".into(), FILE);
        let touched = Op::Touched("/w/a".into(), FILE);
        assert_eq!(wanted(std::slice::from_ref(&born)), ["/w/a (/w/a) absent"]);
        assert_eq!(wanted(&[gone.clone(), born.clone()]), ["/w/a (/w/a) anew 1"]);
        assert_eq!(wanted(std::slice::from_ref(&gone)), ["/w/a (/w/a) kept 1"]);
        assert_eq!(wanted(&[born.clone(), gone.clone()]), ["/w/a (/w/a) absent"]);
        assert_eq!(wanted(std::slice::from_ref(&touched)), ["/w/a (/w/a) as before 1"]);
        assert_eq!(wanted(&[touched, gone, born]), ["/w/a (/w/a) anew 1"]);
    }

    #[test]
    fn a_folder_that_moved_takes_what_was_written_in_it_along() {
        let ops = [
            moved("/w/a", "/w/b"),
            Op::Touched("/w/b/x".into(), FILE),
            Op::Born("/w/b/new".into()),
            Op::Gone("/w/b/old".into(), FOLDER),
        ];
        let found = wanted(&ops);
        let expected = [
            "/w/a (/w/a) from /w/b",
            "/w/a/new (/w/b/new) absent",
            "/w/a/old (/w/b/old) kept 2",
            "/w/a/x (/w/b/x) as before 1",
            "/w/b (/w/b) absent",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_folder_whose_time_changed_is_known_by_its_old_name_unless_it_was_made() {
        let entered = |path: &str, id| Op::Entered(path.into(), id);
        let ops = [
            entered("/w", FOLDER),
            moved("/w/a", "/w/b"),
            entered("/w/b", FILE),
            Op::Born("/w/new".into()),
            entered("/w/new", FILE),
        ];
        let lines: Vec<_> = ops.iter().map(|op| (0, op.clone())).collect();
        let found = plan(&lines).entered;
        let of = |path: &str, now: &str, id| Entered { path: path.into(), now: now.into(), id };
        assert_eq!(found, [of("/w", "/w", FOLDER), of("/w/a", "/w/b", FILE)]);
    }

    #[test]
    fn names_that_changed_places_change_back() {
        let round = [moved("/w/a", "/w/t"), moved("/w/b", "/w/a"), moved("/w/t", "/w/b")];
        let expected = ["/w/a (/w/a) from /w/b", "/w/b (/w/b) from /w/a", "/w/t (/w/t) absent"];
        assert_eq!(wanted(&round), expected);
        let swapped = Op::Swapped("/w/a".into(), "/w/b".into());
        assert_eq!(wanted(std::slice::from_ref(&swapped)), expected[..2]);
        assert!(wanted(&[swapped.clone(), swapped]).is_empty());
    }

    #[test]
    fn what_was_written_by_another_new_name_is_restored_by_the_old_one() {
        let facts = Facts { mode: 0o100_644, uid: 0, gid: 0, modified: None, changed: None };
        let ops = [
            Op::Linked { from: "/w/a".into(), to: "/w/b".into(), id: FILE },
            Op::Kept { id: FILE, facts, how: How::Copy(0) },
            Op::Touched("/w/b".into(), FILE),
        ];
        assert_eq!(wanted(&ops), ["/w/a (/w/a) as before 1", "/w/b (/w/b) absent"]);
    }
}
