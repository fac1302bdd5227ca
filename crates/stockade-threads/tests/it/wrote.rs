//! What a thread changed, told from what was kept, where there is no repository.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use stockade_policy::AbsPath;
use stockade_sandbox::keep::Keep;
use stockade_threads::ThreadId;
use stockade_threads::store::Store;
use stockade_threads::undo::Segment;
use stockade_threads::wrote::{Look, Wrote, now};

fn folder(path: &Path) -> OwnedFd {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap()
}

fn patch(wrote: &Wrote) -> String {
    let mut patch = Vec::new();
    let mut add = |part: &[u8]| {
        patch.extend(part);
        Ok(())
    };
    wrote.changes.patch(&[], &mut add).unwrap();
    String::from_utf8(patch).unwrap()
}

#[test]
fn no_repository_is_needed_and_nothing_else_is_looked_at() {
    let base = tempfile::tempdir().unwrap();
    let (root, work) = (base.path().join("store"), base.path().join("work"));
    fs::create_dir(&work).unwrap();
    for name in ["written", "gone", "other", "closed"] {
        fs::write(work.join(name), format!("{name}\n")).unwrap();
    }
    let store = Store::open(&root).unwrap();
    let id = ThreadId::generate();
    let look = Look { workspace: &work, hidden: &[], with_ignored: false, earlier: None };
    assert!(now(&store, &id, look).unwrap().is_none(), "nothing was kept");
    let roots = vec![AbsPath::new(work.clone()).unwrap()];
    let segment = Segment::begin(store.root(), &id, roots).unwrap();
    let keep = Keep::open(segment.keeping().store.as_path(), vec![work.clone()]).unwrap();
    let at = folder(&work);
    let file = fs::File::options().write(true).open(work.join("written")).unwrap();
    keep.touches(&file, &work.join("written"), true);
    fs::write(work.join("written"), "more\n").unwrap();
    let begun = keep.loses(&at, b"gone", &work.join("gone"));
    fs::remove_file(work.join("gone")).unwrap();
    keep.ended(&begun, true);
    let begun = keep.bears(&at, b"new", &work.join("new"));
    fs::write(work.join("new"), "new\n").unwrap();
    keep.bore(&begun, &at, b"new", true);
    // One that failed is none.
    let begun = keep.loses(&at, b"other", &work.join("other"));
    keep.ended(&begun, false);
    // While it runs, too.
    let wrote = now(&store, &id, look).unwrap().unwrap();
    let text = patch(&wrote);
    for line in ["-written\n+more\n", "deleted file mode 100644", "+++ b/new\n"] {
        assert!(text.contains(line), "{line} in {text}");
    }
    assert!(!text.contains("other") && !text.contains("closed"), "{text}");
    assert_eq!((wrote.recorded.files, wrote.recorded.root.to_path()), (3, work.clone()));
    // What is hidden from threads is shown to nobody either.
    let hidden = [PathBuf::from(&work).join("new")];
    let without = now(&store, &id, Look { hidden: &hidden, ..look }).unwrap().unwrap();
    assert_eq!(without.recorded.files, 2);
    // A second name of what was removed changes nothing.
    segment.end().unwrap();
    rustix::fs::linkat(CWD, work.join("new"), CWD, work.join("later"), AtFlags::empty()).unwrap();
    assert_eq!(patch(&now(&store, &id, look).unwrap().unwrap()), text);
    drop((wrote, without));
    let kept = root.join("undo").join(id.as_str());
    let names: Vec<_> = fs::read_dir(kept).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with("look-")), "{names:?}");
}
