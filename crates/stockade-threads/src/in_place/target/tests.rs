use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

/// What somebody does meanwhile.
type Swap = (&'static str, &'static dyn Fn(&Path));

/// Nobody keeps anything.
const NONE: Kept = Kept::nobody();

const WRITE: OFlags = OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::TRUNC);

fn lab() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap();
    fs::create_dir(path.join("in")).unwrap();
    fs::write(path.join("in/file"), "original").unwrap();
    fs::write(path.join("secret"), "secret").unwrap();
    (folder, path)
}

fn open(target: &Target, flags: OFlags) -> io::Result<fs::File> {
    target.open((flags, Mode::from_raw_mode(0o640)), &NONE).map(fs::File::from)
}

#[test]
fn what_was_asked_about_is_opened_and_cut() {
    let (_folder, path) = lab();
    let target = Target::find(&path.join("in/file")).unwrap();
    open(&target, WRITE).unwrap().write_all(b"x").unwrap();
    assert_eq!(fs::read(path.join("in/file")).unwrap(), b"x");
    let new = Target::find(&path.join("in/new")).unwrap();
    assert!(open(&new, OFlags::WRONLY).is_err(), "not asked to make it");
    open(&new, WRITE).unwrap().write_all(b"y").unwrap();
    let mode = fs::metadata(path.join("in/new")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

/// Threat model, C6: "A yes to a waiting call opens the file or host that was asked about …"
#[test]
fn a_swap_between_question_and_answer_wins_nothing() {
    let swaps: [Swap; 5] = [
        ("a link in its place", &|at| {
            fs::remove_file(at.join("in/file")).unwrap();
            symlink("../secret", at.join("in/file")).unwrap();
        }),
        ("another file", &|at| {
            fs::rename(at.join("secret"), at.join("in/file")).unwrap();
        }),
        ("another folder", &|at| {
            fs::rename(at.join("in"), at.join("old")).unwrap();
            fs::create_dir(at.join("in")).unwrap();
        }),
        ("a link for the folder", &|at| {
            fs::rename(at.join("in"), at.join("old")).unwrap();
            symlink("old", at.join("in")).unwrap();
        }),
        ("a further name in its place", &|at| {
            fs::remove_file(at.join("in/file")).unwrap();
            fs::hard_link(at.join("secret"), at.join("in/file")).unwrap();
        }),
    ];
    for (what, swap) in swaps {
        let (_folder, path) = lab();
        let target = Target::find(&path.join("in/file")).unwrap();
        let secret = fs::File::open(path.join("secret")).unwrap();
        swap(&path);
        assert!(open(&target, WRITE).is_err(), "{what}");
        assert_eq!(io::read_to_string(secret).unwrap(), "secret", "{what}");
    }
    let (_folder, path) = lab();
    let target = Target::find(&path.join("in/new")).unwrap();
    symlink("../secret", path.join("in/new")).unwrap();
    assert!(open(&target, WRITE).is_err(), "a link where there was nothing");
    assert_eq!(fs::read(path.join("secret")).unwrap(), b"secret");
}

#[test]
fn links_folders_and_pipes_are_not_asked_about() {
    let (_folder, path) = lab();
    symlink("file", path.join("in/link")).unwrap();
    symlink("in", path.join("way")).unwrap();
    rustix::fs::mknodat(CWD, path.join("in/pipe"), FileType::Fifo, 0o600.into(), 0).unwrap();
    for name in ["in/link", "way/file", "in", "in/pipe", "nowhere/file"] {
        assert!(Target::find(&path.join(name)).is_err(), "{name}");
    }
    assert!(Target::find(&path.join("in/file")).is_ok(), "the control");
}

#[test]
fn names_are_given_and_taken_as_they_were_asked_about() {
    let (_folder, path) = lab();
    let name = |name: &str| Target::name(&path.join(name)).unwrap();
    name("in/made").make_folder(Mode::from_raw_mode(0o751), &NONE).unwrap();
    let mode = fs::metadata(path.join("in/made")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o751);
    name("in/file").rename(&name("in/new"), &NONE).unwrap();
    assert_eq!(fs::read(path.join("in/new")).unwrap(), b"original");
    name("in/new").rename(&name("secret"), &NONE).unwrap();
    assert_eq!(fs::read(path.join("secret")).unwrap(), b"original");
    name("in/made").remove(&NONE).unwrap();
    name("secret").remove(&NONE).unwrap();
    assert!(!path.join("in/made").exists() && !path.join("secret").exists());
    fs::create_dir_all(path.join("full/x")).unwrap();
    assert!(name("full").remove(&NONE).is_err(), "only what is empty");
    assert!(Target::name(&path.join("nowhere/x")).is_err());
}

/// Threat model, C6: "A yes to a waiting call opens the file or host that was asked about …"
#[test]
fn a_swap_before_a_name_is_changed_wins_nothing() {
    let swaps: [Swap; 4] = [
        ("another file", &|at| fs::rename(at.join("secret"), at.join("in/file")).unwrap()),
        ("a link in its place", &|at| {
            fs::remove_file(at.join("in/file")).unwrap();
            symlink("../secret", at.join("in/file")).unwrap();
        }),
        ("another folder", &|at| {
            fs::rename(at.join("in"), at.join("old")).unwrap();
            fs::create_dir(at.join("in")).unwrap();
            fs::rename(at.join("secret"), at.join("in/file")).unwrap();
        }),
        ("a link for the folder", &|at| {
            fs::rename(at.join("in"), at.join("old")).unwrap();
            symlink("old", at.join("in")).unwrap();
        }),
    ];
    for (what, swap) in swaps {
        let (_folder, path) = lab();
        let name = |name: &str| Target::name(&path.join(name)).unwrap();
        let (file, other) = (name("in/file"), name("other"));
        let new = name("in/new");
        swap(&path);
        assert!(file.remove(&NONE).is_err(), "{what}: removed");
        assert!(file.rename(&other, &NONE).is_err(), "{what}: renamed");
        assert!(other.rename(&file, &NONE).is_err(), "{what}: replaced");
        assert!(file.change_mode(Mode::RWXO, &NONE).is_err(), "{what}: its mode");
        assert!(file.link(&other, &NONE).is_err(), "{what}: named again");
        let is_other_folder = what.contains("folder");
        assert_eq!(new.make_folder(Mode::RWXU, &NONE).is_err(), is_other_folder, "{what}: made");
    }
    let (_folder, path) = lab();
    let name = |name: &str| Target::name(&path.join(name)).unwrap();
    let (file, new) = (name("in/file"), name("in/new"));
    fs::write(path.join("in/new"), "meanwhile").unwrap();
    assert!(file.rename(&new, &NONE).is_err() && new.make_folder(Mode::RWXU, &NONE).is_err());
    assert_eq!(fs::read(path.join("in/new")).unwrap(), b"meanwhile");
}
