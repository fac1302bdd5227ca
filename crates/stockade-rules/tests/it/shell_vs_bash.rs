//! The oracle: scripts run under real shells, whose `PATH` holds programs that record how they
//! were called and do nothing else. Whatever ran must be among what [`Script`] says, or the
//! script must be opaque; the same for files that redirections made.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the laboratory starts shells, which the crate never does; without it the test fails"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{TestCaseError, TestRunner};
use stockade_rules::{Script, Step, Word};
use tempfile::TempDir;

/// Programs that record themselves. `no` fails, so that loops end.
const RECORDERS: [&str; 10] = ["evil", "ka", "kb", "kc", "no", "rm", "ls", "cat", "time", "x"];

/// Real programs that start others.
const STARTERS: [&str; 10] =
    ["bash", "env", "find", "nice", "nohup", "seq", "setsid", "sh", "timeout", "xargs"];

const RECORDER: &str = r#"#!/bin/sh
line=${0##*/}
for word in "$@"; do line="$line$(printf '\037')$word"; done
printf '%s\036' "$line" >>"$RECORD"
[ "${0##*/}" != no ]
"#;

/// What `$x` and `$1` hold: where the shell evaluates it again, `evil` runs.
const PAYLOADS: [&str; 6] =
    ["", "a[$(evil)]", "$(evil)", "-v a[$(evil)]", "ka; evil", "x=a[$(evil)]"];

pub(crate) struct Lab {
    folder: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for name in RECORDERS {
            let path = bin.join(name);
            fs::write(&path, RECORDER).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for name in STARTERS {
            let real = ["/usr/bin", "/bin"].iter().map(|folder| PathBuf::from(folder).join(name));
            let real = real.into_iter().find(|path| path.exists());
            symlink(real.unwrap_or_else(|| panic!("this test needs `{name}`")), bin.join(name))
                .unwrap();
        }
        let lab = Self { folder };
        let (ran, _) = lab.run("bash", "ka control");
        assert_eq!(ran, [["ka", "control"]], "this test needs unshare(1) and user namespaces");
        lab
    }

    /// What ran, each as its words, and which files came to be.
    pub(crate) fn run(&self, shell: &str, script: &str) -> (Vec<Vec<String>>, Vec<String>) {
        let work = tempfile::tempdir_in(self.folder.path()).unwrap();
        let place = work.path().join("place");
        fs::create_dir(&place).unwrap();
        let record = work.path().join("record");
        let bin = self.folder.path().join("bin");
        let options: &[&str] = if shell == "bash" { &["--norc", "--noprofile"] } else { &[] };
        let payload = PAYLOADS[script.len() % PAYLOADS.len()];
        // As the first process of a PID namespace, so that a loop in the background of the script
        // ends with it.
        let status = Process::new("/usr/bin/unshare")
            .args(["--user", "--map-root-user", "--pid", "--fork", "--kill-child=KILL", "--"])
            .args(["/usr/bin/timeout", "--kill-after=1", "5"])
            .arg(bin.join(shell))
            .args(options)
            .args(["-c", script, shell, payload])
            .env_clear()
            .env("PATH", &bin)
            .env("HOME", &place)
            .env("RECORD", &record)
            .env("FUNCNEST", "20")
            .env("x", payload)
            .env("y", payload)
            .current_dir(&place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.unwrap();
        let text = fs::read(&record).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_default();
        let words = |line: &str| line.split('\u{1f}').map(str::to_owned).collect();
        let ran = text.split('\u{1e}').filter(|line| !line.is_empty()).map(words).collect();
        let files = fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name());
        (ran, files.map(|name| name.to_string_lossy().into_owned()).collect())
    }
}

/// What in `(ran, files)` the script does not say; `None` when it says all of it.
pub(crate) fn unsaid(script: &Script, ran: &[Vec<String>], files: &[String]) -> Option<String> {
    if script.is_opaque() {
        return None;
    }
    // Where nothing is opaque a hint is behind `env PATH=…` or `sudo`, which are judged as such.
    let is_said = |ran: &[String]| {
        script.commands().any(|command| match command.words.as_slice() {
            // A program that is text, given to a shell as a file, records itself all the same.
            [Word::Known(shell), rest @ ..] if shell == "bash" || shell == "sh" => {
                (0..rest.len()).any(|options| covers(&rest[options..], ran))
            }
            words => covers(words, ran),
        })
    };
    let missing = ran.iter().find(|ran| !is_said(ran));
    if let Some(missing) = missing {
        return Some(format!("{missing:?} ran, and is not in {:#?}", script.steps()));
    }
    let writes = |file: &String| {
        script.steps().iter().any(|step| match step {
            Step::Write(Word::Known(name)) => name == file,
            Step::Write(Word::Unknown { .. }) => true,
            Step::Run(_) | Step::Opaque { .. } => false,
        })
    };
    let missing = files.iter().find(|file| !writes(file));
    missing.map(|file| format!("{file:?} was written, and is not in {:#?}", script.steps()))
}

/// Whether the words that ran are those that were said, unknown ones being what they may be.
fn covers(words: &[Word], ran: &[String]) -> bool {
    // `reached[n]`: the words so far can be the first `n` that ran.
    let mut reached = vec![false; ran.len() + 1];
    reached[0] = true;
    for word in words {
        let mut next = vec![false; ran.len() + 1];
        for at in (0..=ran.len()).filter(|&at| reached[at]) {
            match word {
                Word::Known(text) => {
                    if ran.get(at) == Some(text) {
                        next[at + 1] = true;
                    }
                }
                Word::Unknown { start, is_one: true, .. } => {
                    if ran.get(at).is_some_and(|ran| ran.starts_with(start)) {
                        next[at + 1] = true;
                    }
                }
                Word::Unknown { start, .. } => {
                    next[at] = true;
                    let more = ran[at..].iter().take_while(|ran| ran.starts_with(start)).count();
                    next[at..=at + more].fill(true);
                }
            }
        }
        reached = next;
    }
    reached[ran.len()]
}

/// A program's name in strange clothes, and what stands before one.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    "'ka'", "\"kb\"", "k\\a", "k\\\nb", "r\\\nm", "$'k\\x61'", "$'\\162m'", "k''a", "\\\nka", "$x", "\"$x\"",
    "$(no)ka", "`no`", "{ka,kb}", "k{a,b}", "k[ab]", "k?", "~", "!", "time", "eval", "exec", "command", "builtin",
    "env", "nice", "timeout 3", "nohup", "xargs", "[", "test", "then", "in", "do", "x=", "x=ka", "CI=1 ka",
    "PATH= ka", "x+=1 ka", "export", "{", "}", "coproc", "bash", "bash -c", "sh -c", "find . -exec", "function", "((",
    "[ $x = a ]", "[ \"$x\" = a ]", "[ \"$x\" -gt 1 ]", "[ -n", "[ -v", "test -n", "[[ -n", "read", "declare", "let", "unset",
    "local", "readonly", "shift", "exit", "return", "break", "wait", "getopts a", "printf", "printf -v", "pushd", "cd",
    "ulimit", "umask", "type", "hash", "jobs", "set", "set -", "shopt -s", "dirs", "trap", "times", "mapfile", "enable",
    "builtin test", "command test", "caller", "compgen -W", "x=$x", "y=$x", "y[$x]=1", "y=([$x]=1)", "declare -i y", "y=",
    "((y=$x))", "case $x in", "for y in $x; do", "[[ $x ==", "eval \"$x\"", "export \"$x\"", "exec 3",
    "))", "[[", "]]", "\\", "",
    "BASH_ENV=$x bash -c", "ENV=$x sh -c", "PROMPT_COMMAND=evil", "PS4='$(evil)' ka", "IFS=k", "IFS=", "BASH_XTRACEFD=2", "set -x", "set -o", "set -- $x;", "shopt", "mapfile -C evil -c 1 y <<<a;",
    "readarray -t y", "trap evil", "trap '' ", "trap - EXIT", "trap evil DEBUG;", "trap evil ERR;", "enable -f x", "enable -n ka", "history", "history -w", "hash -p rm ka;", "hash -r", "alias ka=evil;", "unalias", "declare -n y=x;",
    "declare -f", "declare -x", "typeset -i y=$x;", "local -n y=x;", "export -f ka", "export -n", "readonly y=$x;", "printf -v y", "printf -v 'a[$(evil)]'", "printf --", "read -p", "read 'a[$(evil)]'", "read -a y", "read -ra y", "IFS= read -r y", "IFS=: read", "IFS=$x read y", "read -d", "read -ra 'a[$(evil)]'", "mapfile -t y", "mapfile -C evil", "readarray -t y", "mapfile -t 'a[$(evil)]'", "printf -v y %s", "printf -v y %d 'a[$(evil)]'", "wait -p", "[ -v 'a[$(evil)]'",
    "test -v 'a[$(evil)]'", "[ -R", "[ a -eq", "[ $x -eq 1 ];", "[[ $x -eq 1 ]];", "[[ $x =~", "[[ -v $x ]];", "let $x;", "let y=", "(( y = x ));", "unset 'a[$(evil)]';", "exec -a evil", "exec >f;", "exec 3<&0;", "command -v", "command -V", "command -p",
    "builtin eval", "builtin printf -v", "eval ka;", "eval 'ka'", "source", ".", "ulimit -n", "jobs -x", "fc -e", "compgen -C", "complete -C evil", "bind -x", "getopts 'a' 'y[$(evil)]'", "coproc x", "time -p", "nohup env", "env -u x", "env -S", "env -C .", "nice -n 1",
    "timeout -s KILL 3", "timeout -k 1 3", "xargs -I{} ", "xargs -n1", "xargs -a f", "xargs -a f -I{} ka", "xargs -a $x", "xargs -n $x", "nice -n \"$x\"", "setsid -w", "find . -name x -exec", "find . -execdir", "find . -ok", "find . -maxdepth 0 -exec", "select y in a; do break; done;", "until",
];

/// One program's name, in the ways in which it can be written.
fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec!["ka", "kb", "kc", "no", "rm", "ls"]).prop_map(str::to_owned),
        2 => prop::sample::select(NAMES).prop_map(str::to_owned),
    ]
}

/// Arguments, and what looks like one.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "a", "b", "ka", "'rm a'", "\"rm b\"", "'ka; rm c'", "\"a'b\"", "'a\"b'", "\\'", "\\\"", "a\\\nb", "$x", "\"$x\"",
    "\"$@\"", "$@", "${x}", "${x:-rm}", "\"${x:-a b}\"", "${x:=a}", "${#x}", "${x%a}", "${x//a/b}", "${x:1:2}",
    "${!x}", "${x@P}", "${a[0]}", "$((1+2))", "$((x))", "$[1]", "$(ka)", "\"$(ka a)\"", "`kb`", "\"`kb b`\"", "<(ka)",
    "{a,b}", "{a..c}", "*", "k*", "a~", "~", "x=~", "#a", "a#b", "!", "-c", "--", "-", "{}", "{", "}", "''",
    "$'a\\'b'", "$'\\n'", "$\"a\"", ";", "\\;", "in", "then", "esac", "=", "-eq", "-v", ">f", "2>f", ">&2", "2>&1",
    "&>f", ">|f", "<f", "<<<a", ">&f", "<<E", "<<'E'", "<<-E", "\"$1\"", "$1", ">&$x", ">&\"$x\"", ">\"$x\"", ">&'$(evil)'", "<<<$x", "<<<\"$x\"", "<&$x", "<&-", ">&-a", "2>&1-", "<&0", ">& 2", "<& -",
    "${x:-$x}", "${y:=$x}", "${x/a/$x}", "${x#$x}", "\"${x%$x}\"", "${x^}", "${x:1}", "${1}", "${@}", "${#x}", "y=$x", "${x?}",
    "'$(evil)'", "'`evil`'", "\\$x", "$x$x", "\"a$x\"", "=$x", "$x=1", "(", ")", "\\(", "$", "\"$\"", "\"\\$x\"", "\"\\\n\"",
    "%s", "-I", "{}x", "-I{}", "{},b}", "{}{a,b}", "{{},a}", "x{}y{}", "a{}{", "{}}", "<(ka)x", "< <(kb)", "-n", "-0", "-a", "-C", "-x", "-n1", "-L1", "-i", "-e", "-E",
    "${x@Q}", "${x@E}", "${x@A}", "${!x*}", "${!x@}", "${x[$x]}", "${x:-`evil`}", "${x+$x}", "$((x+1))", "$((10#$x))", "$(($x))", "$((x[$x]))", "$((1?x:2))",
    "x[$(evil)]=1", "y+=($x)", ">>$x", "2>>f", "<>f", ">f{a,b}", ">k?", "3>f", "{x}<f", "<<<$(evil)", "&>>f", ">&-", "1>&2-", "$'\\x24(evil)'", "\"`evil`\"", "~+", "a=~", "{1..3}", "{a,$x}", "\\{a,b}",
];

/// An argument.
fn any_word() -> impl Strategy<Value = String> {
    prop::sample::select(WORDS).prop_map(str::to_owned)
}

fn any_simple() -> impl Strategy<Value = String> {
    (any_name(), prop::collection::vec(any_word(), 0..4))
        .prop_map(|(name, words)| std::iter::once(name).chain(words).collect::<Vec<_>>().join(" "))
}

/// What commands can stand in; `%` is where.
#[rustfmt::skip]
const AROUND: &[&str] = &[
    "( % )", "(%)", "{ %; }", "{ %\n}", "{%}", "if %; then %; fi", "if no; then ka; elif %; then kb; else %; fi",
    "while no %; do %; done", "for x in a b; do %; done", "for x in a; do %\ndone", "for ((;;)); do %; break; done",
    "case a in a) %;; b) rm;; esac", "case x in (a|b) %;; *) %;& c) kc;; esac", "f() { %; }; f",
    "function f { %; }\nf", "ka \"$(%)\"", "ka $(%)", "ka `%`", "ka <(%)", "! %", "time %", "coproc %", "% # rm",
    "#%\nka", "eval '%'", "bash -c '%'", "sh -c '%'", "bash -c \"%\"", "trap '%' EXIT", "%\nE\nka",
    "cat <<E\n$(%)\nE\nka", "cat <<'E'\n%\nE\nkb", "cat <<-E\n\t%\n\tE\nkc", "ka $(cat <<E\na\nE\n%)", "ka \"$(cat <<E | %\nE\n)\"", "ka $(% <<E\nE\n)", "ka <(cat <<'E'; %\nE\n)",
    "ka $(%\nka <<E\nE\n)", "f() { cat <<E; %; }\nE\nf", "ka $(f() { cat <<E; %; }\nE\nf)", "{ cat <<E; %; } >f\nE\n", "cat <<E $(%)\nE", "[[ a == % ]]", "[[ -n $(%) ]] && ka",
    "x=$(%)", "x=(%)", "(( % ))", "ka $((%))", "ka ${x:-$(%)}", "ka \"${x:-%}\"", "alias ka='%'\nka", "set -- %; $1",
    "exec %", "command %", "env %", "timeout 3 %", "xargs %", "find . -exec % \\;", "\\\n%", "% \\\n a", "%\\\n",
    "case $(%) in *) ka;; esac", "case a in b) ka;; [a-c]) %;; esac", "case a in a) % ;;& *) kb ;; esac", "f() { local y=$(%); kb; }; f", "f() (%); f",
    "f() { %; } >f; f", "for ((y=0; y<2; y++)); do %; done", "((1)) && %", "ka $((2*3)) && %", "((0)) || %", "cat <<E >f\n$(%)\nE",
    "cat <<E <<'F'\n`%`\nE\n%\nF", "while read y; do %; done <<E\na\nE", "ka <<<\"$(%)\"", "function f() { %; }; f a; f b",
    "while read y; do ka; done < <(%)", "ka < <(%)", "ka <(%) <(kb)", "ka > >(%)", "xargs -I{} ka {} <<E\na\n$(%)\nE", "find . -maxdepth 0 -exec %  {} +", "find . -maxdepth 0 -exec ka {} \\; -exec % \\;", "y=a; %", "y=$(%); ka $y", "set -e; %", "shopt -s nullglob; %",
    "trap '%' ERR; no", "trap \"%\" RETURN", "trap '%' DEBUG; ka", "eval \"$(cat <<'E'\n%\nE\n)\"", "bash <<'E'\n%\nE", "bash -c '%' x y", "sh -ec '%'", "env -- %", "time -p %", "f() { %; } 2>&1; f", "f() if ka; then %; fi; f", "f() for y in a; do %; done; f", "if [[ -n $y || $(%) ]]; then ka; fi",
    "case a in a) % ;& b) kb ;; esac", "case $x in $(%)) ka ;; esac", "for y in $(%); do ka; done", "for y; do %; done", "select y in a; do %; break; done", "(% ; kb) & wait", "{ % & } ; kb", "! ! %", "ka | { %; }", "ka || ( % )", "y=(a $(%) b); ka", "y+=$(%)", "ka ${y:=$(%)}", "ka \"${y:+$(%)}\"", "ka $(( $(%) ))", "echo {a,$(%)}",
    "ka <<E\n`%`\nE", "ka <<E\n\\$(%)\nE", "ka <<-'E'\n\t%\n\tE", "ka \\\n  && %", "# %\nka", "ka #%\n%", "ka '#'; %", "ka $'#'; %", "ka '%' \"%\"", "coproc y { %; }", "BASH_ENV=% bash -c ka",
    "{ %; } >f", "if %\nthen %\nfi >f 2>&1", "until ka; do %; done", "$(%)", "`%`",
];

/// Scripts that are mostly right.
fn any_script() -> impl Strategy<Value = String> {
    any_simple().prop_recursive(4, 24, 3, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            (
                two,
                prop::sample::select(vec![
                    " && ", " || ", "; ", "\n", " | ", " & ", "|", ";", " |& ", " ;; "
                ])
            )
                .prop_map(|((first, second), between)| format!("{first}{between}{second}")),
            (inner.clone(), prop::sample::select(AROUND))
                .prop_map(|(inner, around)| around.replace('%', &inner)),
        ]
    })
}

/// What counts, and what makes of a number something else. `$x` and `$y` hold what runs `evil` at first.
#[rustfmt::skip]
const COUNTING: &[&str] = &[
    "y=0", "y=1", "x=0", "x=0 ka", "x+=1", "((y++))", "((x++))", "((x=1))", "((x=0, y=x))", "((y = y * 2))", "let y++", "let x=0 y=x", "let x=y", "let 'y=2**-1' x=0", "((x=08))",
    "(( x = 0 ))", "y=$((y+1))", "y=$((x))", "x=$y", "x=$#", "x=${#y}", "x=y", "read x", "read -r y", "unset x", "export x", "y=$((2**-1))", "[[ $y -lt 3 ]]", "[[ x -eq 0 ]]", "((x))",
    "((y > 0))", "ka $((x))", "ka $((y))", "ka ${a[x]}", "ka ${z:x:1}", "ka ${z:$y:1}", "[ $x -eq 0 ]", "[ $y -lt 2 ]", "kb $((x=0,x))", "ka ${x:=5}", "x=(1)", "x=$1", "no", "ka",
    "printf -v x %s 3", "local x", "f", "x= ", "IFS=1", "return", "x=-3", "x=1$y", "x=\"$y\"", "x='7'", "getopts a x", "mapfile x", "ka $(( y ? x : 1 ))", "ka $((${#x}+1))", "x=0 >k",
    "x=$!", "x=$?", "command -v ka", "trap 'x=$1' DEBUG", "eval 'x=$1'", "builtin read x", "readonly x", "continue", "break", "ka $((1?x:2))", "declare x=$1", "x=5 f",
    "ka $(ka $((2**-1)); x=0; ka $((x)))", "wait", "set -- 1", "shift", "ka `x=0; ka $((x))`", "x=0 y=$((2**-1))", "x=0 y=1",
];

/// What that can stand in; `%` is where.
#[rustfmt::skip]
const AROUND_COUNTING: &[&str] = &[
    "x=0; %", "x=0\n%", "y=0; x=1; %", "(x=0); %", "if no; then x=0; fi; %", "if ((x=0)); then %; else %; fi", "if x=0; then %; fi; %", "x=0 | %", "x=0 & %", "no || x=0; %", "x=0 && %",
    "f() { x=0; }; %", "f() { x=0; %; }; f", "x=0; f() { %; }; f", "for x in 1 2; do %; done", "for x in {1..2}; do %; done", "for x in $(seq 2); do %; done",
    "for ((x=0; x<2; x++)); do %; done; %", "ka $((2**-1)); x=0\n%", "x=0; ka $((2**-1))\n%", "while ((x=0)); do ka; done; %", "while ((x=1)); do %; break; done", "x=0; %; x=$1",
    "x=0; ka $(%)", "x=0; (%)", "ka $(x=0; %)", "x=0; bash -c '%'", "x=0; [[ $x -eq 0 ]] && %", "{ x=0; }; %", "x=0; y=1; ((x < y)) && %", "f() { %; }; x=$1 f", "f() { %; }; %",
    "case a in a) %;; esac; %", "until ((x=1)); do %; done", "select x in 1 2; do %; break; done <<<1", "for x in 1; do %; done; %", "% | %", "% & %", "% && %", "% || %", "%; %", "%\n%",
    "%; %\n%", "x=0\n\nf() { x=$1; }\n%", "x=0; for x in $1; do :; done; %", "time x=0; %", "! x=0; %", "x=0; { %; } 2>k", "x=0; if %; then %; elif %; then %; fi", "for x; do %; done",
    "seq() { ka; ka; set -- 'a[$(evil)]'; type \"$1\"; }; for x in $(seq 2); do %; done",
];

fn any_counting() -> impl Strategy<Value = String> {
    let simple = prop::sample::select(COUNTING).prop_map(str::to_owned);
    simple.prop_recursive(4, 24, 3, |inner| {
        (inner, prop::sample::select(AROUND_COUNTING), prop::sample::select(COUNTING)).prop_map(
            // Another statement where there are several places.
            |(inner, around, other)| around.replacen('%', &inner, 1).replace('%', other),
        )
    })
}

/// What scripts are made of, in any order.
fn any_soup() -> impl Strategy<Value = String> {
    const JOINTS: &[&str] = &[
        " ",
        " ",
        " ",
        "",
        ";",
        "\n",
        "&&",
        "|",
        "&",
        "(",
        ")",
        "{ ",
        "; }",
        "$(",
        "`",
        "\"",
        "'",
        "\\",
        "${x:-",
        "if ",
        "; then ",
        "; fi",
        "case a in ",
        ") ",
        ";; ",
        "esac",
        "for x in ",
        "; do ",
        "; done",
        "<<E\n",
        "\nE\n",
        "#",
        "<(",
        "[[ ",
        " ]]",
        "f() ",
        "((",
        "))",
        "\\\n",
        "$",
        "!",
        "x=(",
        "2>",
        ">f ",
        "$'",
        "~",
    ];
    let piece = prop_oneof![any_name(), any_word(), Just("ka".to_owned())];
    let joint = prop::sample::select(JOINTS);
    prop::collection::vec((joint, piece), 1..7).prop_map(|pieces| {
        pieces.into_iter().flat_map(|(joint, piece)| [joint.to_owned(), piece]).collect()
    })
}

/// The same after some slips of the pen.
fn any_mutant() -> impl Strategy<Value = String> {
    let slip = (
        any::<prop::sample::Index>(),
        0..3_u8,
        prop::sample::select("'\"\\`$(){}<>|&;#\n !*=ax".chars().collect::<Vec<_>>()),
    );
    let script = prop_oneof![3 => any_script(), 1 => any_soup()];
    (script, prop::collection::vec(slip, 0..4)).prop_map(|(script, slips)| {
        let mut characters: Vec<char> = script.chars().collect();
        for (place, kind, character) in slips {
            let at = place.index(characters.len() + 1);
            if kind == 0 {
                characters.insert(at, character);
            } else if at < characters.len() {
                if kind == 1 {
                    characters.remove(at);
                } else {
                    characters[at] = character;
                }
            }
        }
        characters.into_iter().collect()
    })
}

/// Nothing in a script may lead out of its folder.
fn is_harmless(script: &str) -> bool {
    !script.contains(['\0', '/'])
}

fn agree(lab: &Lab, shell: &str, text: &str) -> Result<(), String> {
    let script = match shell {
        "bash" => Script::parse(text),
        _ => Script::of_argv(&[shell.to_owned(), "-c".to_owned(), text.to_owned()]),
    };
    let (ran, files) = lab.run(shell, text);
    match unsaid(&script, &ran, &files) {
        Some(unsaid) => Err(format!("{shell}: {text:?}: {unsaid}")),
        None => Ok(()),
    }
}

/// The same of those of `scripts` that may be run.
fn all_agree(shell: &str, scripts: &[String]) -> Result<(), TestCaseError> {
    let lab = Lab::new();
    for script in scripts.iter().filter(|script| is_harmless(script)) {
        agree(&lab, shell, script).map_err(TestCaseError::fail)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_bash_runs_is_among_what_was_said(scripts in prop::collection::vec(any_mutant(), 4)) {
        all_agree("bash", &scripts)?;
    }

    #[test]
    fn what_bash_runs_while_it_counts_is_among_what_was_said(scripts in prop::collection::vec(any_counting(), 12)) {
        all_agree("bash", &scripts)?;
    }

    #[test]
    fn what_sh_runs_is_among_what_was_said(scripts in prop::collection::vec(any_mutant(), 2)) {
        all_agree("sh", &scripts)?;
    }
}

/// The oracle itself: it sees what runs, and a reader that says nothing is caught.
#[test]
fn the_oracle_sees_what_runs() {
    let lab = Lab::new();
    let (ran, files) = lab.run("bash", "ka 'a b' \"$(kb)\" >f; no || rm x");
    let expected: [&[&str]; 4] = [&["kb"], &["ka", "a b", ""], &["no"], &["rm", "x"]];
    assert_eq!(ran, expected);
    assert_eq!(files, ["f"]);
    assert!(unsaid(&Script::parse("ka 'a b'; kb; no; rm x >f"), &ran, &files).is_some());
    assert!(unsaid(&Script::parse("ka 'a b' ''; kb; no; rm x"), &ran, &files).is_some());
    assert_eq!(unsaid(&Script::parse("ka 'a b' ''; kb; no; rm x >f"), &ran, &files), None);
}

/// Nor is it idle: of the scripts that it is given, many run something and are not opaque.
#[test]
fn the_oracle_has_something_to_compare() {
    assert!(compared(any_script(), 1) >= 40, "too few of 200 scripts");
    assert!(compared(any_counting(), 0) >= 20, "too few of 200 scripts that count");
}

/// How many of 200 scripts are not opaque and run more than `least` programs.
fn compared(scripts: impl Strategy<Value = String>, least: usize) -> usize {
    let lab = Lab::new();
    let mut runner = TestRunner::deterministic();
    let is_compared = |script: &String| {
        let ran = || lab.run("bash", script).0.len();
        is_harmless(script) && !Script::parse(script).is_opaque() && ran() > least
    };
    let all = (0..200).map(|_| scripts.new_tree(&mut runner).unwrap().current());
    all.filter(is_compared).count()
}
