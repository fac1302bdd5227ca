use super::*;

#[test]
fn a_command_is_shown_as_a_shell_would_take_it() {
    assert_eq!(
        ["git", "a b", "it's", "", "\u{202e}x"].map(quoted).join(" "),
        r"git 'a b' 'it'\''s' '' '\u{202e}x'"
    );
}

#[test]
fn a_secret_that_is_not_there_yet_is_one() {
    for path in [
        ".ssh/new",
        ".bash_history",
        ".aws/credentials",
        ".claude.json.backup",
        ".lesshsQ",
        ".viminfo.tmp",
    ] {
        assert!(is_secret(Path::new(path)), "{path}");
    }
    for path in ["notes.txt", ".config/new", "ssh/new"] {
        assert!(!is_secret(Path::new(path)), "{path}");
    }
}
