//! Modes, times, links and folders outside, asked about and changed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use super::{Client, end, start};
use crate::{Home, also_as_ordinary_user, text};

/// What each thing that is done comes to is printed.
const DO: &str = r#"
import errno, os, struct
out = "../outside/"
def do(name, call, *words):
    try:
        call(*words)
        print(name, "done")
    except OSError as error:
        print(name, errno.errorcode[error.errno])
"#;

const CHANGES: &str = r#"
do("mode", os.chmod, out + "file", 0o705)
do("times", os.utime, out + "file", (7, 7))
do("symlink", os.symlink, "../.ssh/id", out + "way")
do("link", os.link, out + "file", out + "second")
do("folder", os.rename, out + "full", out + "moved")
do("way", os.rename, out + "way", out + "way2")
do("unlink", os.unlink, out + "way2")
do("cut", os.truncate, out + "file", 2)
do("attribute", os.setxattr, out + "file", "user.x", b"\0y")
do("no attribute", os.removexattr, out + "file", "user.x")
do("owner", os.chown, out + "file", os.getuid(), os.getgid())
do("acl", os.setxattr, out + "file", "system.posix_acl_access", b"x")
do("pipe", os.mkfifo, out + "pipe", 0o620)
do("no pipe", os.unlink, out + "pipe")
do("group", os.chmod, out + "moved", 0o2750)
do("sticky", os.chmod, out + "moved", 0o1755)
do("set-uid", os.chmod, out + "file", 0o4755)
do("set-gid", os.chmod, out + "file", 0o2755)
do("device", os.mknod, out + "device", 0o20600, os.makedev(1, 3))
do("secret", os.chmod, "../.ssh/id", 0o777)
do("ssh", os.rename, "../.ssh", "../ssh")
do("project", os.rename, "../work", "../work2")
do("config", os.rename, "../.config", "../config")
do("in", os.link, out + "file", "in")
do("out", os.link, "src", out + "src")
do("protected", os.symlink, "x", out + ".git/hooks")
do("etc", os.chmod, "/etc/passwd", 0o666)
"#;

/// What goes with the rest, where that is open.
const SMALL: &str = r#"
unset = 0xffffffff
entries = (1, 6, unset), (2, 4, 7), (4, 4, unset), (16, 4, unset), (32, 0, unset)
acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
do("own", os.chown, out + "file", os.getuid(), os.getgid())
do("link", os.lchown, out + "way", os.getuid(), -1)
do("list", os.setxattr, out + "file", "system.posix_acl_access", acl)
do("other", os.chown, out + "file", os.getuid() + 1, -1)
do("full", os.rmdir, out + "moved")
"#;

/// What was asked about before `action` is done by now.
fn has_been_done(action: &str, outside: &Path) {
    let mode = |name: &str| fs::symlink_metadata(outside.join(name)).unwrap().mode();
    if action.starts_with("remove pipe ") {
        assert_eq!(mode("pipe"), 0o10_600, "by the umask");
    } else if action.ends_with(" to 1755") {
        assert_eq!(mode("moved") & 0o7777, 0o2750);
    }
}

/// What came of modes and pipes.
fn is_left(said: &str, outside: &Path) {
    let moved = fs::metadata(outside.join("moved")).unwrap().mode();
    assert!(moved & 0o7777 == 0o1755 && !outside.join("pipe").exists());
    for name in ["set-uid", "set-gid", "device"] {
        assert!(said.contains(&format!("{name} E")), "{said}");
    }
}

#[test]
#[ignore = "run by the other test, as each user"]
fn as_this_user() {
    let home = Home::new();
    let outside = home.path("outside").canonicalize().unwrap();
    for folder in ["outside/full/deep", "outside/.git", ".config/gcloud"] {
        fs::create_dir_all(home.path(folder)).unwrap();
    }
    let run = || start(&home, &[], &["python3", "-c", &[DO, CHANGES].concat()]);
    let alone = text(&end(run()));
    for name in ["mode", "times", "symlink", "link", "folder", "cut", "attribute"] {
        assert!(alone.contains(&format!("{name} EROFS\n")), "with nobody there: {alone}");
    }
    let client = Client::of(&home);
    let asked = run();
    let at = |name: &str| outside.join(name).display().to_string();
    for action in [
        format!("change the mode of {} to 705", at("file")),
        format!("make link {} to ../.ssh/id", at("way")),
        format!("name {} also {}", at("file"), at("second")),
        format!("rename folder {} to {}", at("full"), at("moved")),
        format!("rename {} to {}", at("way"), at("way2")),
        format!("remove link {}", at("way2")),
        format!("set the length of {} to 2 bytes", at("file")),
        format!("set the attribute user.x of {}", at("file")),
        format!("remove the attribute user.x of {}", at("file")),
        format!("make pipe {}", at("pipe")),
        format!("remove pipe {}", at("pipe")),
        format!("change the mode of {} to 2750", at("moved")),
        format!("change the mode of {} to 1755", at("moved")),
    ] {
        let question = client.question();
        assert_eq!(question["action"], action.as_str());
        has_been_done(&action, &outside);
        client.answer(&question, &["once"]);
    }
    let said = text(&end(asked));
    let more = client.questions.try_recv();
    assert!(more.is_err() && said.matches(" done\n").count() == 13, "{more:?}: {said}");
    let file = fs::metadata(outside.join("file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.nlink()), (0o705, 2));
    assert_eq!((file.len(), said.contains("owner EROFS")), (2, true), "{said}");
    assert!(said.contains("times EROFS\n") && file.mtime() != 7, "not worth a question");
    assert_eq!(file.ino(), fs::metadata(outside.join("second")).unwrap().ino());
    is_left(&said, &outside);
    assert!(outside.join("moved/deep").is_dir() && !outside.join("way2").is_symlink());
    assert!(home.path(".config/gcloud").is_dir() && home.path(".ssh/id").is_file());

    // Times, owners and access lists change where the rest is open, of links as well; what cannot be
    // done fails as it would without a boundary.
    let words = "chmod 640 ../outside/file && ln -s x ../outside/way && \
                 touch -h -d @7 ../outside/second ../outside/way && python3 -c \"$0\" && echo yes";
    let asked = start(&home, &[], &["sh", "-c", words, &[DO, SMALL].concat()]);
    client.answer(&client.question(), &["thread", "--prefix", "2"]);
    let said = text(&end(asked));
    let file = fs::metadata(outside.join("file")).unwrap();
    assert_eq!((file.mode() & 0o7777, file.mtime()), (0o640, 7), "{said}");
    assert_eq!(fs::symlink_metadata(outside.join("way")).unwrap().mtime(), 7, "{said}");
    let wanted = ["own done", "link done", "list done", "other EPERM", "full ENOTEMPTY", "yes"];
    assert!(wanted.iter().all(|line| said.lines().any(|it| it == *line)), "{said}");
    let mut list = [0; 99];
    let name = "system.posix_acl_access";
    assert_eq!(rustix::fs::getxattr(outside.join("file"), name, &mut list), Ok(44), "{said}");
    assert!(!said.contains("denied") && client.questions.try_recv().is_err(), "{said}");

    // What was asked about is what is changed, or nothing is.
    let asked = start(&home, &[], &["chmod", "777", "../outside/file"]);
    let question = client.question();
    fs::remove_file(outside.join("file")).unwrap();
    symlink(home.path("notes.txt"), outside.join("file")).unwrap();
    client.answer(&question, &["once"]);
    assert!(!end(asked).status.success());
    assert_eq!(fs::metadata(home.path("notes.txt")).unwrap().mode() & 0o111, 0);
}

/// Threat model, C6: "A yes to a waiting call opens the file or host that was asked about …"; issue 6,
/// item 7: modes, times, links and folders.
#[test]
fn modes_links_and_folders_outside_are_asked_about() {
    as_this_user();
    also_as_ordinary_user("asking::changes::as_this_user");
}
