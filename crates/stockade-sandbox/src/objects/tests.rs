use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pack::apply;
use super::{Entry, Format, Kind, Moment, Past};

const LATER: Moment = (i64::MAX, 0);

struct Repository(tempfile::TempDir);

impl Repository {
    fn new(format: &str) -> Self {
        let new = Self(tempfile::tempdir().unwrap());
        new.git(&["init", "-q", "-b", "main", &format!("--object-format={format}")]);
        new
    }

    fn top(&self) -> &Path {
        self.0.path()
    }

    fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=n", "-c", "user.email=e", "-c", "gc.auto=0"]).args(arguments);
        git.current_dir(self.top()).env("GIT_CONFIG_GLOBAL", "/dev/null");
        let output = git.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn commit(&self, path: &str, text: &str) {
        let path = self.top().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", text.get(..1).unwrap_or("-")]);
    }

    /// What commits from before `since` have at `path`.
    fn versions(&self, path: &str, since: Moment) -> Vec<Option<Entry>> {
        let own = self.top().join(".git");
        let names: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
        let mut found = Vec::new();
        let past = Past::of(&own, &own, since).unwrap();
        past.look(&names, &mut |seen| {
            found.push(seen);
            ControlFlow::Continue(())
        });
        found
    }

    fn now() -> Moment {
        // A tick of the coarse clock, so that what is written next is later.
        rustix::event::poll(
            &mut [],
            Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 20_000_000 }),
        )
        .unwrap();
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        (now.tv_sec, u32::try_from(now.tv_nsec).unwrap())
    }
}

fn has(versions: &[Option<Entry>], format: Format, text: &str) -> bool {
    let id = format.name(Kind::Blob, text.as_bytes());
    versions.iter().flatten().any(|entry| entry.is_file() && entry.id == id)
}

#[test]
fn versions_are_found_loose_and_in_packs_by_both_kinds_of_names() {
    for (format, named) in [("sha1", Format::Sha1), ("sha256", Format::Sha256)] {
        let repository = Repository::new(format);
        // Long enough that git stores what differs.
        let lines: Vec<_> = (0..400).map(|line| format!("line {line}\n")).collect();
        let text = |end: usize| lines.concat() + &end.to_string();
        for end in 0..12 {
            repository.commit("a/.vscode/settings.json", &text(end));
        }
        repository.commit("b", "x");
        repository.git(&["tag", "-a", "-m", "t", "t"]);
        for _ in 0..2 {
            let found = repository.versions("a/.vscode/settings.json", LATER);
            assert!((0..12).all(|end| has(&found, named, &text(end))), "{format}");
            assert!(!has(&found, named, &text(99)));
            assert_eq!(repository.versions("a/nothing", LATER).first(), Some(&None));
            assert!(repository.versions("a", LATER).iter().flatten().all(Entry::is_folder));
            repository.git(&["repack", "-adfq", "--window=20", "--depth=10"]);
            repository.git(&["prune-packed"]);
        }
    }
}

#[test]
fn what_came_later_is_no_version_however_it_came() {
    let repository = Repository::new("sha1");
    repository.commit(".mcp.json", "old");
    let pack = |repository: &Repository| repository.git(&["repack", "-adq"]);
    pack(&repository);
    let since = Repository::now();
    let versions = || repository.versions(".mcp.json", since);
    repository.commit(".mcp.json", "evil");
    assert!(has(&versions(), Format::Sha1, "old") && !has(&versions(), Format::Sha1, "evil"));
    // Its times are set back.
    let evil = repository.git(&["rev-parse", "HEAD"]);
    let (folder, rest) = evil.split_at(2);
    let loose = repository.top().join(".git/objects").join(folder).join(rest);
    let touched = Command::new("touch").args(["-d", "2001-01-01"]).arg(&loose).status().unwrap();
    assert!(touched.success() && !has(&versions(), Format::Sha1, "evil"));
    // A replacement and a graft are not looked at.
    let old = repository.git(&["rev-parse", "HEAD~1"]);
    repository.git(&["replace", &old, &evil]);
    std::fs::create_dir_all(repository.top().join(".git/info")).unwrap();
    std::fs::write(repository.top().join(".git/info/grafts"), format!("{old} {evil}\n")).unwrap();
    assert!(has(&versions(), Format::Sha1, "old") && !has(&versions(), Format::Sha1, "evil"));
    // All in one new pack: nothing is known to be old any more.
    repository.git(&["replace", "-d", &old]);
    std::fs::remove_file(repository.top().join(".git/info/grafts")).unwrap();
    pack(&repository);
    assert!(!has(&versions(), Format::Sha1, "evil"));
}

#[test]
fn an_old_file_with_another_content_is_not_believed() {
    let repository = Repository::new("sha1");
    repository.commit(".mcp.json", "old");
    let since = Repository::now();
    repository.commit(".mcp.json", "evil");
    let [old, evil] = ["HEAD~1", "HEAD"].map(|name| repository.git(&["rev-parse", name]));
    let path = |id: &str| -> PathBuf {
        let (folder, rest) = id.split_at(2);
        repository.top().join(".git/objects").join(folder).join(rest)
    };
    // The old commit's file now has the new one's content.
    let content = std::fs::read(path(&evil)).unwrap();
    std::fs::remove_file(path(&old)).unwrap();
    std::fs::write(path(&old), content).unwrap();
    assert!(repository.versions(".mcp.json", since).is_empty());
    let far = repository.versions(".mcp.json", LATER);
    assert!(has(&far, Format::Sha1, "evil") && !has(&far, Format::Sha1, "old"));
    // A link on the way to the store.
    let objects = repository.top().join(".git/objects");
    std::fs::rename(&objects, repository.top().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(repository.top().join("elsewhere"), &objects).unwrap();
    let own = repository.top().join(".git");
    assert!(Past::of(&own, &own, LATER).is_none());
}

#[test]
fn a_difference_that_leads_out_is_none() {
    let base = b"0123456789";
    assert_eq!(apply(base, &[10, 3, 0x91, 2, 3]).as_deref(), Some(b"234".as_slice()));
    assert_eq!(apply(base, &[10, 2, 2, b'x', b'y']).as_deref(), Some(b"xy".as_slice()));
    for bad in [
        &[10, 3, 0x91, 8, 3][..],
        &[9, 3, 0x91, 2, 3],
        &[10, 3, 0x91, 2],
        &[10, 9, 3, b'x'],
        &[10, 1, 0],
        &[],
    ] {
        assert_eq!(apply(base, bad), None, "{bad:?}");
    }
}
