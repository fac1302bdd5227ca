use std::os::unix::fs::{PermissionsExt as _, symlink};

use stockade_policy::AbsPath;
use stockade_policy::guard::Guard;

use super::*;

struct Lab {
    _folder: tempfile::TempDir,
    root: PathBuf,
    work: PathBuf,
    id: ThreadId,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().canonicalize().unwrap();
        let (root, work) = (base.join("state"), base.join("work"));
        fs::create_dir_all(&work).unwrap();
        Self { _folder: folder, root, work, id: ThreadId::generate() }
    }

    /// A repository with configuration and hooks that git would obey.
    fn repository(&self, name: &str) -> PathBuf {
        let git = self.work.join(name);
        for folder in ["objects", "refs", "hooks"] {
            fs::create_dir_all(git.join(folder)).unwrap();
        }
        fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        fs::write(git.join("config"), "[core]\n\tfsmonitor = touch owned\n").unwrap();
        fs::write(git.join("hooks/post-checkout"), "touch owned\n").unwrap();
        git
    }

    /// A run that noted this.
    fn noted(&self, noted: &[Noted]) -> Watched {
        let watched = Watched::begin(&self.root, &self.id).unwrap();
        let guard = Guard::from_parts(vec![AbsPath::new(self.work.clone()).unwrap()]);
        let list = stockade_sandbox::Notes { guard, noted: noted.iter().cloned().collect() };
        fs::write(watched.path(), list.write()).unwrap();
        watched
    }
}

#[test]
fn what_git_would_obey_is_moved_and_can_be_put_back() {
    let lab = Lab::new();
    let git = lab.repository("a/.git");
    let settled = lab.noted(&[Noted::Repository(git.clone())]).settle();
    assert!(settled.failed.is_empty(), "{settled:?}");
    assert!(settled.line(&lab.id).unwrap().contains("held back"), "{settled:?}");
    assert!(
        !git.join("config").exists() && !git.join("hooks").exists() && git.join("HEAD").exists()
    );
    let held = list(&lab.root, &lab.id);
    assert_eq!(held.len(), 2);
    assert!(!noted(&lab.root, &lab.id).exists(), "the list is done with");
    for path in [git.join("config"), git.join("hooks")] {
        assert!(release(&lab.root, &lab.id, &path).unwrap());
    }
    assert!(git.join("hooks/post-checkout").exists() && git.join("config").exists());
    assert!(list(&lab.root, &lab.id).is_empty() && !quarantine(&lab.root, &lab.id).exists());
}

#[test]
fn a_run_that_noted_nothing_leaves_its_list_to_the_next() {
    let lab = Lab::new();
    let names = || crate::folder::names(File::open(lab.root.join(NOTED)).unwrap()).unwrap();
    let inode = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let watched = Watched::begin(&lab.root, &lab.id).unwrap();
    let first = inode(&watched.path());
    let settled = watched.settle();
    assert!(settled.held.is_empty() && settled.failed.is_empty());
    assert_eq!(names(), ["spare-0"]);
    assert!(settle_lost(&lab.root).is_empty(), "it is nobody's");
    let again = Watched::begin(&lab.root, &lab.id).unwrap();
    let beside = Watched::begin(&lab.root, &ThreadId::generate()).unwrap();
    assert_eq!((inode(&again.path()), names().len()), (first, 2));
    assert_ne!(inode(&beside.path()), first, "two runs at once have two lists");
    assert!(settle_lost(&lab.root).is_empty() && again.path().exists(), "it lives");
    drop(again);
    settle_lost(&lab.root);
    assert!(!noted(&lab.root, &lab.id).exists(), "who was killed leaves none");
    assert!(!lab.root.join(QUARANTINE).exists());
    let git = lab.repository("a/.git");
    assert_eq!(lab.noted(&[Noted::Repository(git)]).settle().held.len(), 2);
    assert!(!names().iter().any(|name| name == "spare-0"), "one that is written to is gone");
}

#[test]
fn a_lost_run_is_looked_at_by_the_next_and_a_living_one_is_not() {
    let lab = Lab::new();
    let git = lab.repository(".git");
    let watched = lab.noted(&[Noted::Repository(git.clone())]);
    assert!(settle_lost(&lab.root).is_empty() && git.join("config").exists(), "it lives");
    drop(watched);
    let settled = settle_lost(&lab.root);
    assert_eq!((settled.len(), settled[0].1.held.len()), (1, 2));
    assert!(!git.join("config").exists());
    assert!(settle_lost(&lab.root).is_empty(), "once");
}

#[test]
fn no_mode_keeps_it_and_no_link_leads_elsewhere() {
    let lab = Lab::new();
    let git = lab.repository("a/.git");
    fs::set_permissions(git.join("hooks"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::set_permissions(&git, fs::Permissions::from_mode(0o555)).unwrap();
    let other = lab.repository("others/.git");
    symlink(lab.work.join("others"), lab.work.join("link")).unwrap();
    let through = Noted::Repository(lab.work.join("link/.git"));
    let settled = lab.noted(&[Noted::Repository(git.clone()), through]).settle();
    assert_eq!((settled.held.len(), settled.failed.len()), (2, 0), "{settled:?}");
    assert_eq!(fs::metadata(&git).unwrap().permissions().mode() & 0o777, 0o555, "as it was");
    assert!(other.join("config").exists(), "not by a link");
}

#[test]
fn what_has_the_name_by_now_stays_and_so_does_what_is_held() {
    let lab = Lab::new();
    let git = lab.repository("a/.git");
    lab.noted(&[Noted::Repository(git.clone())]).settle();
    fs::write(git.join("config"), "mine").unwrap();
    let error = release(&lab.root, &lab.id, &git.join("config")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read_to_string(git.join("config")).unwrap(), "mine");
    assert_eq!(list(&lab.root, &lab.id).len(), 2);
    assert!(!release(&lab.root, &lab.id, Path::new("/nothing")).unwrap());
}

#[test]
fn from_one_file_system_to_another_it_is_copied() {
    let lab = Lab::new();
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else {
        eprintln!("skipped: no second file system to write to");
        return;
    };
    let git = lab.repository("a/.git");
    symlink("post-checkout", git.join("hooks/post-merge")).unwrap();
    fs::set_permissions(git.join("hooks/post-checkout"), fs::Permissions::from_mode(0o755))
        .unwrap();
    let to = elsewhere.path().canonicalize().unwrap().join("1");
    moving::moved(&git.join("hooks"), &to).unwrap();
    assert!(!git.join("hooks").exists());
    let mode = fs::metadata(to.join("post-checkout")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    assert_eq!(fs::read_link(to.join("post-merge")).unwrap(), Path::new("post-checkout"));
    moving::moved(&to, &git.join("hooks")).unwrap();
    assert!(git.join("hooks/post-merge").exists() && !to.exists());
}
