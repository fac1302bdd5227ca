//! Mistakes as a user reads them.

use crate::lab::Lab;

/// What is said when the user's file is `text`.
fn said(text: &str) -> String {
    let lab = Lab::new();
    lab.user(text);
    lab.refused()
}

#[test]
fn a_parse_error_shows_the_line() {
    insta::assert_snapshot!(said("sandbox_mode = 'read-only'\nhidden = [1,\n"), @r"
    error: this is not TOML
     --> TOP/home/.config/stockade/config.toml:2:13
      |
    2 | hidden = [1,
      |             ^ unclosed array, expected `]`
    ");
}

#[test]
fn an_unknown_key_is_answered_with_the_nearest_one() {
    insta::assert_snapshot!(said("sandbox_mod = 'read-only'\n"), @r"
    error: unknown key `sandbox_mod`
     --> TOP/home/.config/stockade/config.toml:1:1
      |
    1 | sandbox_mod = 'read-only'
      | ^^^^^^^^^^^ not known
      |
      = help: did you mean `sandbox_mode`?
    ");
    insta::assert_snapshot!(said("[sandbox_workspace_write]\nwriteable_roots = []\n"), @r"
    error: unknown key `writeable_roots`
     --> TOP/home/.config/stockade/config.toml:2:1
      |
    2 | writeable_roots = []
      | ^^^^^^^^^^^^^^^ not known
      |
      = help: did you mean `writable_roots`?
    ");
    insta::assert_snapshot!(said("[limits]\nx = 1\n"), @r"
    error: unknown key `x`
     --> TOP/home/.config/stockade/config.toml:2:1
      |
    2 | x = 1
      | ^ not known
      |
      = help: known here: memory, processes, open_files, tmp_size, wall_time
    ");
}

#[test]
fn a_key_that_stands_twice_is_shown() {
    insta::assert_snapshot!(said("hidden = []\nreadable = []\nhidden = []\n"), @r"
    error: this key stands twice
     --> TOP/home/.config/stockade/config.toml:3:1
      |
    3 | hidden = []
      | ^^^^^^ duplicate key
    ");
}

#[test]
fn a_wrong_type_or_word_is_shown_with_what_was_expected() {
    insta::assert_snapshot!(said("sandbox_mode = 'readonly'\n"), @r"
    error: wrong value
     --> TOP/home/.config/stockade/config.toml:1:16
      |
    1 | sandbox_mode = 'readonly'
      |                ^^^^^^^^^^ expected one of `read-only`, `workspace-write`, `danger-full-access`
    ");
    insta::assert_snapshot!(said("hidden = 'x'\n"), @r"
    error: wrong value
     --> TOP/home/.config/stockade/config.toml:1:10
      |
    1 | hidden = 'x'
      |          ^^^ expected a list of strings
    ");
    insta::assert_snapshot!(said("[limits]\nprocesses = '5'\n"), @r"
    error: wrong value
     --> TOP/home/.config/stockade/config.toml:2:13
      |
    2 | processes = '5'
      |             ^^^ expected a number of processes from 16 to 4194304
    ");
    insta::assert_snapshot!(said("[limits]\ntmp_size = 'lots'\n"), @r"
    error: wrong value
     --> TOP/home/.config/stockade/config.toml:2:12
      |
    2 | tmp_size = 'lots'
      |            ^^^^^^ expected a size such as `512MiB` or `2G`
    ");
    insta::assert_snapshot!(said("env = 3\n"), @r"
    error: wrong value
     --> TOP/home/.config/stockade/config.toml:1:7
      |
    1 | env = 3
      |       ^ expected a table
    ");
}

#[test]
fn what_cannot_be_lifted_is_said() {
    insta::assert_snapshot!(said("unprotected = ['.env', '.git/hooks']\n"), @r"
    error: `.git/hooks` cannot be lifted
     --> TOP/home/.config/stockade/config.toml:1:24
      |
    1 | unprotected = ['.env', '.git/hooks']
      |                        ^^^^^^^^^^^^ what is planted there runs on the host
    ");
    insta::assert_snapshot!(said("unprotected = ['.vscod']\n"), @r"
    error: `.vscod` is not a protected name
     --> TOP/home/.config/stockade/config.toml:1:16
      |
    1 | unprotected = ['.vscod']
      |                ^^^^^^^^ not known
      |
      = help: did you mean `.vscode`?
    ");
}

#[test]
fn a_rule_without_a_decision_or_with_two_is_shown() {
    insta::assert_snapshot!(said("[[rules]]\nprefix = 'x'\n"), @r"
    error: wrong rule
     --> TOP/home/.config/stockade/config.toml:1:1
      |
    1 | [[rules]]
      | ^^^^^^^^^ a decision is missing: `allow` or `decision`
    ");
    insta::assert_snapshot!(said("[[rules]]\nprefix = 'x'\nallow = true\ndecision = 'deny'\n"), @r"
    error: wrong rule
     --> TOP/home/.config/stockade/config.toml:1:1
      |
    1 | [[rules]]
      | ^^^^^^^^^ `allow` and `decision` contradict each other
    ");
    insta::assert_snapshot!(said("[[rules]]\nprefix = []\nallow = true\n"), @r"
    error: wrong value
     --> TOP/home/.config/stockade/config.toml:2:10
      |
    2 | prefix = []
      |          ^^ expected at least one word
    ");
}

#[test]
fn a_rule_that_does_not_mean_what_its_author_meant_is_shown() {
    insta::assert_snapshot!(said("[[rules]]\nprefix = 'npm *'\nallow = true\n"), @r"
    error: wrong rule
     --> TOP/home/.config/stockade/config.toml:2:10
      |
    2 | prefix = 'npm *'
      |          ^^^^^^^ an unquoted `*`, which matches nothing, in `npm *`
    ");
    insta::assert_snapshot!(said("[[rules]]\nprefix = ['./gradlew', 'test']\nallow = true\n"), @r"
    error: wrong rule
     --> TOP/home/.config/stockade/config.toml:2:10
      |
    2 | prefix = ['./gradlew', 'test']
      |          ^^^^^^^^^^^^^^^^^^^^^ a rule names its program by name or by absolute path, not as `./gradlew`
    ");
    let examples = "match = [\n  'npm test -u',\n  'npm tests',\n]\n";
    let text = format!("[[rules]]\nprefix = 'npm test'\nallow = true\n{examples}");
    insta::assert_snapshot!(said(&text), @r"
    error: wrong rule
     --> TOP/home/.config/stockade/config.toml:6:3
      |
    6 |   'npm tests',
      |   ^^^^^^^^^^^ the rule does not match its example `npm tests`
    ");
    let text = "[[rules]]\nprefix = 'docker'\nallow = false\nnot_match = ['sudo docker ps']\n";
    insta::assert_snapshot!(said(text), @r"
    error: wrong rule
     --> TOP/home/.config/stockade/config.toml:4:14
      |
    4 | not_match = ['sudo docker ps']
      |              ^^^^^^^^^^^^^^^^ the rule matches `sudo docker ps`, which it must not
    ");
}

#[test]
fn what_is_not_there_yet_is_refused_by_name() {}

#[test]
fn a_bad_host_is_shown_in_its_line() {
    insta::assert_snapshot!(said("[network]\nallow = ['github.com', 'registrie:s']\n"), @r#"
    error: `registrie:s`: a port is a number from 1 to 65535, or `*`
     --> TOP/home/.config/stockade/config.toml:2:24
      |
    2 | allow = ['github.com', 'registrie:s']
      |                        ^^^^^^^^^^^^^ not a host
      |
      = help: did you mean `registries`?
    "#);
    insta::assert_snapshot!(said("[network]\ndeny = ['0x7f.1']\n"), @r#"
    error: `0x7f.1`: this is an address in an unusual spelling, or ends like one
     --> TOP/home/.config/stockade/config.toml:2:9
      |
    2 | deny = ['0x7f.1']
      |         ^^^^^^^^ not a host
      |
      = help: write `HOST`, `HOST:PORT`, `HOST:*` or `*.HOST`, or one of the presets registries, git-hosts, llm
    "#);
    insta::assert_snapshot!(said("[network]\nallow = ['127.0.0.1:80']\n"), @r#"
    error: `127.0.0.1:80` names no port of the loopback
     --> TOP/home/.config/stockade/config.toml:2:10
      |
    2 | allow = ['127.0.0.1:80']
      |          ^^^^^^^^^^^^^^ not a host
      |
      = help: write `localhost:PORT`, with a PORT from 1 to 65535
    "#);
    insta::assert_snapshot!(said("[network]\nprivate = ['10.0.0.1/8']\n"), @r#"
    error: `10.0.0.1/8`: the prefix of a range is a number of bits, and the address has none set beyond them
     --> TOP/home/.config/stockade/config.toml:2:12
      |
    2 | private = ['10.0.0.1/8']
      |            ^^^^^^^^^^^^ not a range
    "#);
    insta::assert_snapshot!(said("[network]\nprivate = ['127.0.0.0/8']\n"), @r#"
    error: `127.0.0.0/8`: this range is never opened (loopback, multicast, or used by Stockade itself)
     --> TOP/home/.config/stockade/config.toml:2:12
      |
    2 | private = ['127.0.0.0/8']
      |            ^^^^^^^^^^^^^ not a range
    "#);
}

#[test]
fn an_option_is_shown_like_a_file() {
    let mut lab = Lab::new();
    lab.request.options = vec!["sandbox_mode=fast".to_owned()];
    insta::assert_snapshot!(lab.refused(), @r#"
    error: wrong value
     --> -c:1:14
      |
    1 | sandbox_mode="fast"
      |              ^^^^^^ expected one of `read-only`, `workspace-write`, `danger-full-access`
    "#);
    lab.request.options = vec!["sandbox_mode".to_owned()];
    insta::assert_snapshot!(lab.refused(), @r"
    error: `-c sandbox_mode` has no `=`
    hint: write `-c KEY=VALUE`, for example `-c sandbox_mode=read-only`
    ");
    lab.request.options.clear();
    lab.request.profile = Some("none".to_owned());
    insta::assert_snapshot!(lab.refused(), @r"
    error: there is no profile `TOP/home/.config/stockade/none.config.toml`
    hint: a profile NAME is the file `~/.config/stockade/NAME.config.toml`
    ");
}

#[test]
fn a_refused_root_says_what_to_do() {
    let lab = Lab::new();
    lab.folder("home/.ssh");
    lab.user("[sandbox_workspace_write]\nwritable_roots = ['src', '~/.ssh']\n");
    insta::assert_snapshot!(lab.refused(), @r"
    error: TOP/home/.config/stockade/config.toml:2: writable root `~/.ssh` is refused: it is secret
    hint: name a folder that holds nothing but work
    ");
}

#[test]
fn a_hostile_line_draws_nothing_on_the_terminal() {
    let lab = Lab::new();
    lab.project("x = '\u{1b}[2J\u{202e}'\n");
    let text = lab.refused();
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn the_place_can_be_asked_for() {
    let lab = Lab::new();
    lab.user("sandbox_mode = 'read-only'\n  é = 1\n");
    let Err(stockade_config::ConfigError::Place(diagnostic)) = lab.load() else {
        panic!("it has a place")
    };
    assert_eq!(diagnostic.file(), lab.top.join("home/.config/stockade/config.toml"));
    assert_eq!(diagnostic.line_and_column(), (2, 3));
}
