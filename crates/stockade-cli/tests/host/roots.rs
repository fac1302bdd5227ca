//! Writable roots of every shape: they behave, or are refused by name.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::symlink;

use super::{Home, text};

fn add(path: &OsStr) -> [&OsStr; 2] {
    ["--add-dir".as_ref(), path]
}

#[test]
fn roots_inside_narrow_the_workspace_and_roots_outside_are_added() {
    let home = Home::new();
    let outside = home.path("outside");
    let roots = ["-c", "sandbox_workspace_write.writable_roots=['src', 'tests', '~/outside']"];
    let output = home.run(
        &roots.map(OsStr::new),
        "touch src/a tests/b ~/outside/c; touch d; touch .git/e; echo x > .git/config",
    );
    for (path, made) in [
        ("work/src/a", true),
        ("work/tests/b", true),
        ("outside/c", true),
        ("work/d", false),
        ("work/.git/e", true),
    ] {
        assert_eq!(home.path(path).exists(), made, "{path}: {}", text(&output));
    }
    assert!(!fs::read_to_string(home.path("work/.git/config")).unwrap().starts_with('x'));
    home.run(&add(outside.as_os_str()), "touch d ~/outside/f");
    assert!(home.path("work/d").exists() && home.path("outside/f").exists());
}

#[test]
fn strange_names_are_names() {
    let home = Home::new();
    for name in [&b"with space"[..], b"with\nnewline", b"n\xffot utf-8", b"quo'te\"s", b"-dash"] {
        let path = home.path(OsString::from_vec(name.to_vec()));
        fs::create_dir(&path).unwrap();
        let output = home.run(&add(path.as_os_str()), "true");
        assert!(output.status.success(), "{name:?}: {}", text(&output));
        let script = "for d in ~/*; do touch \"$d/made\" 2>/dev/null; done; true";
        home.run(&add(path.as_os_str()), script);
        assert!(path.join("made").exists(), "{name:?}");
        assert!(!home.path("outside/made").exists());
        fs::remove_dir_all(path).unwrap();
    }
}

#[test]
fn a_linked_root_opens_what_it_leads_to() {
    let home = Home::new();
    symlink(home.path("outside"), home.path("way")).unwrap();
    let way = home.path("way");
    let output = home.run(&add(way.as_os_str()), "touch ~/way/a ~/outside/b; rm ~/way; true");
    assert!(
        home.path("outside/a").exists() && home.path("outside/b").exists(),
        "{}",
        text(&output)
    );
    assert!(fs::symlink_metadata(&way).is_ok(), "the link itself is outside");
}

#[test]
fn a_file_may_be_a_root() {
    let home = Home::new();
    let file = home.path("outside/file");
    home.run(&add(file.as_os_str()), "echo changed > ~/outside/file; touch ~/outside/new; true");
    assert_eq!(fs::read_to_string(file).unwrap(), "changed\n");
    assert!(!home.path("outside/new").exists());
}

#[test]
fn a_missing_root_is_named_and_does_not_widen() {
    let home = Home::new();
    let roots = ["-c", "sandbox_workspace_write.writable_roots=['no-such-folder']"];
    let output = home.run(&roots.map(OsStr::new), "touch made");
    assert!(text(&output).contains("no-such-folder"), "{}", text(&output));
    assert!(!home.path("work/made").exists(), "a narrowed workspace became whole");
}

#[test]
fn overlapping_and_nested_roots_are_all_writable() {
    let home = Home::new();
    fs::create_dir_all(home.path("outside/deep/deeper")).unwrap();
    let paths = ["outside", "outside/deep", "outside/deep/deeper", "outside"];
    let paths: Vec<_> = paths.iter().map(|path| home.path(path)).collect();
    let options: Vec<&OsStr> = paths.iter().flat_map(|path| add(path.as_os_str())).collect();
    let output = home.run(&options, "touch ~/outside/a ~/outside/deep/b ~/outside/deep/deeper/c && mv ~/outside/deep/b ~/outside/b");
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn five_hundred_roots_are_all_writable() {
    let home = Home::new();
    let paths: Vec<_> = (0..500).map(|number| home.path(format!("outside/r{number}"))).collect();
    for path in &paths {
        fs::create_dir(path).unwrap();
    }
    let options: Vec<&OsStr> = paths.iter().flat_map(|path| add(path.as_os_str())).collect();
    let output = home.run(
        &options,
        "for d in ~/outside/r*; do touch $d/x || exit 1; done; touch ~/outside/no; true",
    );
    assert!(output.status.success(), "{}", text(&output));
    assert!(paths.iter().all(|path| path.join("x").exists()) && !home.path("outside/no").exists());
}

#[test]
fn dangerous_roots_are_refused_by_name() {
    let home = Home::new();
    let cases = [
        (home.path(".ssh"), "secret"),
        (home.path(""), "holds your home"),
        ("/".into(), "holds your home"),
        ("/usr".into(), "system"),
        (home.path("work/.git/hooks"), "protected"),
        (home.path("work/.vscode"), "protected"),
    ];
    for (path, why) in cases {
        let output = home.run(&add(path.as_os_str()), "touch src/ran");
        assert_eq!(output.status.code(), Some(125), "{}: {}", path.display(), text(&output));
        assert!(text(&output).contains(why), "{}: {}", path.display(), text(&output));
    }
    assert!(!home.path("work/src/ran").exists());
    let output = home.command().args(["-C", ".."]).args(["--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(125), "home as a workspace: {}", text(&output));
}

#[test]
fn wrong_configuration_stops_the_start_with_its_place() {
    let home = Home::new();
    let folder = home.path(".config/stockade");
    fs::create_dir_all(&folder).unwrap();
    for (line, parts) in [
        (
            "sandbox_mod = 'read-only'",
            &["config.toml:2:1", "sandbox_mod", "did you mean `sandbox_mode`"][..],
        ),
        ("sandbox_mode = 'read-onyl'", &["config.toml:2:16", "expected one of"][..]),
        ("sandbox_mode = 7", &["config.toml:2:16"][..]),
        ("hidden = [", &["config.toml:2:", "not TOML"][..]),
        ("hidden = []\nhidden = []", &["config.toml:3:1"][..]),
        ("[cloud]\nmemory = 3", &["config.toml:3:10", "a string"][..]),
        ("[limits]\nmemory = '1M'", &["config.toml:3:10", "at least"][..]),
        ("[[rules]]\nprefix = 'x'", &["config.toml:2:1", "decision is missing"][..]),
    ] {
        fs::write(folder.join("config.toml"), format!("# settings\n{line}\n")).unwrap();
        let output = home.run(&[], "touch src/ran");
        let shown = text(&output);
        assert_eq!(output.status.code(), Some(125), "{line}: {shown}");
        for part in parts {
            assert!(shown.contains(part), "{line}: no {part:?} in {shown}");
        }
        assert!(!home.path("work/src/ran").exists());
    }
}

#[test]
fn a_stockade_inside_another_says_so() {
    let home = Home::new();
    let output = home.run(&[], concat!(env!("CARGO_BIN_EXE_stockade"), " run -- touch src/ran"));
    let shown = text(&output);
    assert_eq!(output.status.code(), Some(125), "{shown}");
    assert!(
        shown.contains("inside Stockade") && shown.contains("run the command itself"),
        "{shown}"
    );
}
