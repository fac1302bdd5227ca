//! What a yes changes outside is taken back by `stockade undo` as what is changed inside.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use super::{Client, end, start, stockade};
use crate::{Home, also_as_ordinary_user, text};

const CHANGES: &str = "cd ../outside && echo 2 > a/file && echo new > a/made && mkdir -p b/deep && rm a/gone && \
                       mv a/old b/renamed && chmod 700 a/file && ln -s x a/way && mv c d && \
                       ln a/second a/third && sed -i s/1/3/ a/second && rmdir empty && \
                       cd ../work && echo inside > src/x && echo done; echo 9 > ../notes.txt";

/// Every name with its kind, mode and content.
fn tree(home: &Home) -> String {
    let mut all = Vec::new();
    let mut left = vec![home.path("outside"), home.path("work/src"), home.path("notes.txt")];
    while let Some(path) = left.pop() {
        let data = fs::symlink_metadata(&path).unwrap();
        let content = if data.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            String::new()
        } else if data.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            fs::read_to_string(&path).unwrap()
        };
        all.push(format!("{} {:o} {content:?}", path.display(), data.mode()));
    }
    all.sort();
    all.join("\n")
}

#[test]
#[ignore = "run by the other test, as each user"]
fn as_this_user() {
    let home = Home::new();
    for folder in ["outside/a", "outside/b", "outside/c/full", "outside/empty"] {
        fs::create_dir_all(home.path(folder)).unwrap();
    }
    for name in ["outside/a/file", "outside/a/gone", "outside/a/old", "outside/a/second"] {
        fs::write(home.path(name), "1\n").unwrap();
    }
    let before = tree(&home);
    let client = Client::of(&home);
    let run = start(&home, &[], &["sh", "-c", CHANGES]);
    let outside = home.path("outside").canonicalize().unwrap();
    let outside = outside.to_str().unwrap();
    client.answer(&client.question(), &["thread", "--prefix", outside]);
    client.answer(&client.question(), &["once"]);
    let said = text(&end(run));
    assert!(said.contains("done"), "{said}");
    let after = tree(&home);
    assert!(after.contains("outside/b/renamed") && after.contains("\"9\\n\""), "{after}");

    let undo = |words: &[&str]| {
        let output = stockade(&home, &[&["undo"], words].concat()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let told = undo(&[]);
    assert_eq!(tree(&home), before, "{told}");
    let told = undo(&["--redo"]);
    assert_eq!(tree(&home), after, "{told}");
    let left = fs::read_dir(home.path("")).unwrap().map(|it| it.unwrap().file_name());
    assert!(left.into_iter().all(|it| !it.to_string_lossy().starts_with(".stockade")));
}

/// Issue 6, item 7, with undo: what a yes opened outside is no part that cannot be taken back.
#[test]
fn what_a_yes_changed_outside_is_taken_back() {
    as_this_user();
    also_as_ordinary_user("asking::kept::as_this_user");
}
