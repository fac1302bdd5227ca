//! Lines on which a naive reader is wrong, each also tried under the real shell.

use stockade_rules::{Script, Standing};

use crate::shell_vs_bash::{Lab, unsaid};

/// The commands that are sure, words joined by blanks; what is not known as it is written.
fn said(script: &Script) -> Vec<String> {
    let sure = script.commands().filter(|command| command.standing == Standing::Sure);
    let shown = sure.map(|command| {
        command.words.iter().map(stockade_rules::Word::shown).collect::<Vec<_>>().join(" ")
    });
    shown.collect()
}

#[rustfmt::skip]
const KNOWN: &[(&str, &[&str])] = &[
    // Quotes, escapes and lines that are joined.
    ("r\\\nm x", &["rm x"]),
    ("r''m x", &["rm x"]),
    ("\"r\"m x", &["rm x"]),
    ("r\\m x", &["rm x"]),
    ("$'r\\x6d' x", &["rm x"]),
    ("$'\\162\\u006d' x", &["rm x"]),
    ("ka 'x; rm y'", &["ka x; rm y"]),
    ("ka \"x && rm y\"", &["ka x && rm y"]),
    ("ka \\; rm y", &["ka ; rm y"]),
    ("ka \\\nrm", &["ka rm"]),
    ("ka &\\\n& rm y", &["ka", "rm y"]),
    ("ka 'a\\' rm", &["ka a\\ rm"]),
    ("ka \"\\\"; rm y; \\\"\"", &["ka \"; rm y; \""]),
    ("ka \"\\$(rm y)\"", &["ka $(rm y)"]),
    ("ka '$(rm y)'", &["ka $(rm y)"]),
    ("ka $'a\\'; rm y'", &["ka a'; rm y"]),
    ("ka \"a$'b\"", &["ka a$'b"]),
    ("\\\nrm x", &["rm x"]),
    // Comments.
    ("ka # rm x", &["ka"]),
    ("ka #'\nrm x", &["ka", "rm x"]),
    ("ka a#b; rm x", &["ka a#b", "rm x"]),
    ("ka # \\\nrm x", &["ka", "rm x"]),
    ("ka \\\n# rm\nkb", &["ka", "kb"]),
    ("# ka\nrm x", &["rm x"]),
    ("ka;#x\nrm y", &["ka", "rm y"]),
    // Operators without blanks.
    ("ka&&rm x", &["ka", "rm x"]),
    ("ka&rm x", &["ka", "rm x"]),
    ("ka|rm x", &["ka", "rm x"]),
    ("ka|&rm x", &["ka", "rm x"]),
    ("ka||rm x;kb", &["ka", "rm x", "kb"]),
    ("ka 2>&1|rm x", &["ka", "rm x"]),
    ("ka >&2 && rm x", &["ka", "rm x"]),
    ("ka &>/dev/null; rm x", &["ka", "rm x"]),
    ("ka 2>/dev/null rm", &["ka rm"]),
    ("ka <&- 2>& - rm", &["ka rm"]),
    ("</dev/null rm x", &["rm x"]),
    ("ka\trm", &["ka rm"]),
    // Arithmetic on what is a number in every way through the text.
    ("i=0; i=$((i+1)); ka $((i * 2)) \"$((i))\"", &["ka $((i * 2)) \"$((i))\""]),
    ("i=0\nwhile ((i < 2)); do ka $i; ((i++)); done", &["ka $i"]),
    ("i=0\n\nn=3 # lines\nwhile [[ $i -lt $n ]]; do ka; i=$((i+1)); done", &["ka"]),
    ("for ((i=0, j=5; i<2; i++, j--)); do ka $((i+j)); done", &["ka $((i+j))"]),
    ("for ((;;)); do rm x; break; done", &["rm x", "break"]),
    ("for ((i=0; i<1; ))\ndo ka; i+=1; ((i=i)); done; rm x", &["ka", "rm x"]),
    ("for i in 1 2 -3; do ka $((i*i)); done; rm x", &["ka $((i*i))", "rm x"]),
    ("for i in {1..3}; do if ((i % 2 == 0)); then ka $i; fi; done", &["ka $i"]),
    ("for i in $(seq 1 2); do ka $((i + 1)); done", &["seq 1 2", "ka $((i + 1))"]),
    ("a=(x y); for ((i=0; i<${#a[@]}; i++)); do ka \"${a[$i]}\" ${a[i+1]}; done", &["ka \"${a[$i]}\" ${a[i+1]}"]),
    ("n=$#; ((n > 0)) && ka || rm x", &["ka", "rm x"]),
    ("n=0; let n++ 'n = n + 2'; ka $n", &["ka $n"]),
    ("((n=2, n++)); ka $((n ? n : 0))", &["ka $((n ? n : 0))"]),
    ("let i=3 && rm x $((1 < 2 ? 0x1f : ~2))", &["rm x $((1 < 2 ? 0x1f : ~2))"]),
    ("s=abcd; for ((i=0; i<${#s}; i++)); do ka \"${s:i:1}\" ${s:$i:2} ${s:(-1)}; done", &["ka \"${s:i:1}\" ${s:$i:2} ${s:(-1)}"]),
    ("i=0; if ((i)); then ka; elif ((i + 1)); then i=4; else i=5; fi; rm $((i))", &["ka", "rm $((i))"]),
    ("i=0; command -v ka; rm $((i))", &["command -v ka", "rm $((i))"]),
    ("i=0; f() { i=$((i+1)); }; f; rm $((i))", &["f", "rm $((i))"]),
    ("sh -c 'i=0; while [ $i -lt 2 ]; do i=$((i+1)); rm x; done'", &["[ $i -lt 2 ]", "rm x"]),
    ("[[ $# -ge 0 && 1 -lt 2 ]] && rm x", &["rm x"]),
    ("((1 + 1)) && ! ((0)) && rm x", &["rm x"]),
    ("i=0; while [ $i -lt 2 ]; do i=$((i+1)); rm $i; done", &["[ $i -lt 2 ]", "rm $i"]),
    ("i=0; while test $i -le \"$#\"; do let i++; done; rm x", &["test $i -le \"$#\"", "rm x"]),
    // Substitutions, wherever they stand.
    ("ka $(rm x)", &["rm x", "ka $(rm x)"]),
    ("ka \"$(rm x)\"", &["rm x", "ka \"$(rm x)\""]),
    ("ka `rm x`", &["ka `rm x`", "rm x"]),
    ("ka ${x:-$(rm x)}", &["rm x", "ka ${x:-$(rm x)}"]),
    ("ka <(rm x)", &["rm x", "ka <(rm x)"]),
    ("ka >(rm x)", &["rm x", "ka >(rm x)"]),
    ("x=$(rm x)", &["rm x"]),
    ("CI=$(rm x) ka", &["rm x", "ka"]),
    ("ka \"$(kb \"$(rm x)\")\"", &["rm x", "kb \"$(rm x)\"", "ka \"$(kb \"$(rm x)\")\""]),
    ("ka $(kb # )\nrm x)", &["kb", "rm x", "ka $(kb # )\nrm x)"]),
    ("ka $(case a in a) rm x;; esac)", &["rm x", "ka $(case a in a) rm x;; esac)"]),
    ("ka >\"/dev/null\"$(rm x)", &["rm x", "ka"]),
    ("ka $(</dev/null)", &["ka $(</dev/null)"]),
    ("for f in $(rm x); do ka; done", &["rm x", "ka"]),
    ("case $(rm x) in a) ;; esac", &["rm x"]),
    ("x=($(rm x))", &["rm x"]),
    // Here-documents.
    ("cat <<E\nrm x\nE\nka", &["cat", "ka"]),
    ("cat <<E\n$(rm x)\nE", &["cat", "rm x"]),
    ("cat <<'E'\n$(rm x)\nE\nka", &["cat", "ka"]),
    ("cat <<\\E\n$(rm x)\nE\nka", &["cat", "ka"]),
    ("cat <<E; rm x\nkb\nE\nka", &["cat", "rm x", "ka"]),
    ("cat <<E | rm x\nE y\nE\nka", &["cat", "rm x", "ka"]),
    ("cat <<-E\n\tkb\n\tE\nrm x", &["cat", "rm x"]),
    ("cat <<A <<B\nB\nA\nA\nB\nrm x", &["cat", "rm x"]),
    ("{ cat <<E; }\nkb\nE\nrm x", &["cat", "rm x"]),
    ("ka $(cat <<E\nkb\nE\n) && rm x", &["cat", "ka $(cat <<E\nkb\nE\n)", "rm x"]),
    ("ka \"$(cat <<'E' | kb && kc\n$(rm x)\nE\n)\"", &["cat", "kb", "kc", "ka \"$(cat <<'E' | kb && kc\n$(rm x)\nE\n)\""]),
    ("cat <<<'rm x'; ka", &["cat", "ka"]),
    // Compound commands.
    ("if ka; then rm x; else kb; fi", &["ka", "rm x", "kb"]),
    ("while no; do rm x; done; ka", &["no", "rm x", "ka"]),
    ("for rm in a; do ka $rm; done", &["ka $rm"]),
    ("for i in a\ndo rm x\ndone", &["rm x"]),
    ("case rm in (rm) ka;; *) rm x; esac", &["ka", "rm x"]),
    ("{ rm x; }", &["rm x"]),
    ("(rm x)", &["rm x"]),
    ("( ( rm x ) )", &["rm x"]),
    ("if (ka) then rm x; fi", &["ka", "rm x"]),
    ("! rm x", &["rm x"]),
    ("time rm x", &["rm x"]),
    ("[[ -n $(rm x) ]] && ka", &["rm x", "ka"]),
    ("[[ a < b ]] && rm x", &["rm x"]),
    ("ka if; then=1 rm x", &["ka if", "rm x"]),
    ("ka {a,b}; rm x", &["ka {a,b}", "rm x"]),
    ("ka }; rm x", &["ka }", "rm x"]),
    ("in x; rm y", &["in x", "rm y"]),
    ("f() { rm x; }; f", &["rm x", "f"]),
    // Starters.
    ("bash -c 'rm x'", &["rm x"]),
    ("bash -lc \"ka; rm x\"", &["ka", "rm x"]),
    ("bash -euo pipefail -c 'rm x'", &["rm x"]),
    ("sh -c 'sh -c \"rm x\"'", &["rm x"]),
    ("env CI=1 rm x", &["rm x"]),
    ("timeout 3 nice -n 5 rm x", &["rm x"]),
    ("nohup setsid -w rm x", &["rm x"]),
    ("xargs rm x </dev/null", &["rm x (from what it reads)"]),
    ("ka >f; xargs -a f -n \"$#\" rm x", &["ka", "rm x (from what it reads)"]),
    ("xargs -alist --arg-file=list --arg-file list ka", &["ka (from what it reads)"]),
    ("command rm x", &["rm x"]),
    ("builtin eval 'rm x'", &["rm x"]),
    ("exec rm x", &["rm x"]),
    ("eval 'rm' x", &["rm x"]),
    ("eval \"ka; eval 'rm x'\"", &["ka", "rm x"]),
    ("trap 'rm x' EXIT", &["rm x"]),
    ("find . -exec rm {} ';'", &["find . -exec rm {} ;", "rm {}"]),
    ("env bash -c 'rm x'", &["rm x"]),
];

#[rustfmt::skip]
const OPAQUE: &[&str] = &[
    // The shell refuses it, or only some shells do.
    "ls ;; rm x", "ka && && rm x", "ka | | rm", "; rm x", "ka;; rm", "if ka; rm x; fi", "ka )", "( rm x",
    "{ rm x }", "ka 'x", "ka \"x", "ka `x", "ka $(x", "ka ${x", "fi", "ka (rm)", "ka > ; rm x", "ka >",
    "for 1 in a; do rm x; done", "case a in a rm;; esac", "if then rm; fi", "ka &&", "ka \\",
    // The program is known only to the shell.
    "$x a", "\"$x\" a", "$(ka) a", "`ka` a", "{rm,x}", "r* x", "r[m] x", "~/rm x", "${x:-rm} x", "$x rm y",
    "\"$@\"", "k$x",
    // What variables hold may run.
    "ka $((x))", "ka ${x@P}", "ka ${!x}", "ka ${a[$x]}", "ka $[x]", "((x))", "[[ x -eq 0 ]]", "[[ -v x ]]",
    "let x", "ka >& '$(rm x)'", "ka <&-rm", "ka >& -rm", "ka >& \"\\$(rm x)\"", "ka >&\"$x\"", "ka >&$x", "a[$x]=1", "declare -i x=y", "test -v \"$x\"", "printf -v \"$x\" a", "read \"$x\"", "unset \"$x\"",
    "[ $x = a ]", "[ \"$x\" \"$y\" ]", "x=([a]=b)", "ka ${x:y:1}", "printf $x",
    // So may a name in arithmetic that is no number in one way through the text.
    "((x++))", "for ((y=0; y<x; y++)); do rm; done", "for ((y=0; y<2; y++)) { rm; }", "if no; then x=0; fi; ((x))",
    "x=0 | ka; ((x))", "x=0 & ((x))", "(x=0); ((x))", "no && x=0; ((x))", "f() { x=0; }; ((x))", "f() { ((x)); }; x=0; f",
    "x+=0; ((x))", "x=0 ka; ((x))", "x=0 >f; ((x))", "ka ${y?}; x=0\nka $((x))", "ka $((2**-1)); x=0\n((x))",
    "ka $(ka $((2**-1)); x=0\nka $((x)))", "y=$((2**-1)) x=0\n((x))", "f\nka; x=0\n((x))",
    "x=0; read x; ((x))", "x=0; read -rax; ((x))", "x=0; printf -v x %s a; ((x))", "x=0; mapfile x; ((x))",
    "x=0; getopts a x; ((x))", "x=0; export x=$1; ((x))", "x=0; declare x=$1; ((x))", "x=0; x=$1 f; ((x))",
    "x=0; eval 'x=$1'; ((x))", "x=0; trap 'x=$1' DEBUG; ((x))", "x=0; builtin read x; ((x))", "x=0; command read x; ((x))",
    "readonly y; y=1; x=0\n((x))", "x=0; ((x)); x=a", "x=0; for x in a; do ((x)); done", "x=0; for x; do ((x)); done",
    "x=0; ka ${x:=a}; ka ${x=a} $((x))", "x=0; x=(a); ((x))", "x=0; x=y; ((x))", "x=0; x+=a; ((x))", "x=0; f() { x=$1; }; eval 'x=0; f; ((x))'",
    "x=0; ka `f; ka $((x))`", "if x=0; then x=a; fi; ((x))", "if ka; then x=0; else ((x)); fi", "if ka; then ((x=0)) elif ka; then ((x)); fi",
    "x=0; ((a[x]))", "x=0; ((a$x))", "x=0; (($x$x))", "x=0; (( x = a ))", "x=0; ((\"x\"))", "_=0; ka a; ((_))", "X=a; ((X))",
    "seq() { ka; }; for y in $(seq 2); do ((y)); done", "for y in $(ka); do ((y)); done", "for y in *; do ((y)); done",
    "[[ $x -eq 1 ]]", "[[ 1 -eq x ]]", "x=0; [[ $x -eq $y ]]", "x=0; [[ x -eq ]]", "x=0; [[ -v x ]]", "[[ 1 -lt $(ka) ]]",
    "i=; [ $i -lt 2 ]", "i=1; i=; [ $i -lt 2 ]", "IFS=1; i=1; [ $i -lt 2 ]", "i=1; [ $i -lt 2 ]; unset i", "i=$!; [ $i -lt 2 ]", "i=1; [ $i$x -lt 2 ]",
    "let 'y=2**-1' x=0; ((x))", "((x=08)); ((x))", "let x=010; ((x))", "select x in 1 2; do ((x)); done", "select ((x=0;x<1;x++)); do ka; done",
    "let", "let y=$x", "x=0 let x++", "sh -c '((1))'", "sh -c 'let y=1'", "x=0; sh -c '((x))'", "x=0; bash -c 'ka $((x))'",
    // What is read later changes.
    "alias ka=rm\nka", "shopt -s expand_aliases", "shopt -s extglob", "set -k", "set -o posix", "source x",
    ". x", "eval $x", "eval \"$x\"", "trap \"$x\" EXIT", "enable -f x y", "hash -p x ka", "mapfile -C rm a",
    "bind -x 'a:rm'", "complete -C rm x", "exec -a ka rm", "command -p rm", "coproc rm x", "coproc N { rm; }",
    // What starts it does more, or reads what is not here.
    "bash", "ka | bash", "bash -s", "bash -i -c rm", "bash -c \"$x\"", "bash +e -c rm", "bash -O extglob -c rm",
    "sh /dev/stdin", "bash <(ka)", "zsh -c rm", "./bash -c rm", "BASH_ENV=x bash -c rm", "env -S 'rm x'",
    "env -i rm", "env - rm", "timeout $x rm", "xargs bash -c", "xargs env", "xargs -I rm rm x", "xargs -a $x rm", "xargs -n $x rm", "xargs -I \"$x\" rm y", "nice -n $x rm", "timeout -s $x 3 rm", "nice -5 rm",
    "find $x", "find . -exec $x {} +", "git -c alias.x='!rm' x", "git -c core.pager=rm log",
    // Bodies without a clear place.
    "ka | time rm", "cat <<E\nrm", "cat <<$x\nrm\n$x", "cat <<\"E E\"\nrm\nE E", "ka $(cat <<E)\nrm\nE", "cat <<E $(\nrm\n)\nE",
    "ka $(cat <<E\nE\nkb; rm x)", "ka $(cat <<E; rm x\nE\n)", "ka $(cat <<E\nE\nrm)", "ka $(cat <<E && { kb; rm x; }\nE\n)",
    "ka $( (cat <<E\nE\n); kb; rm)", "ka $({ cat <<E; }\nE\n)", "ka <(cat <<E &\nE\nkb; rm)",
    "cat <<E\na\\\nE\nrm\nE", "cat <<E \"a\nE\nrm\"\nE", "`ka \\`rm\\``", "ka `kb 'x' rm`", "ka {x}>f",
    // Only bash reads it so.
    "sh -c 'rm &>f'", "sh -c '$\\'rm\\''", "sh -c 'ka <(rm)'", "sh -c 'time rm'", "sh -c 'function f { rm; }'",
    "sh -c 'x+=1 rm'", "sh -c '[[ a ]]'", "sh -c 'alias ka=rm\nka'", "sh -c 'ka |& rm'", "sh -c 'ka 12>f rm'",
    // Not text.
    "ka \u{1} rm", "ka \u{7f}", "ka \0",
];

#[test]
fn a_line_is_read_as_bash_reads_it() {
    let lab = Lab::new();
    for &(line, expected) in KNOWN {
        let script = Script::parse(line);
        assert!(!script.is_opaque(), "{line:?}: {:#?}", script.steps());
        assert_eq!(said(&script), expected, "{line:?}");
        let (ran, files) = lab.run("bash", line);
        assert_eq!(unsaid(&script, &ran, &files), None, "{line:?}");
    }
}

#[test]
fn what_cannot_be_known_is_opaque() {
    for line in OPAQUE {
        let script = Script::parse(line);
        assert!(script.is_opaque(), "{line:?}: {:#?}", script.steps());
    }
}

/// A verdict of deny is worth more than a tidy reading: what is opaque is still looked into.
#[test]
fn commands_in_opaque_parts_are_hints() {
    for line in [
        "$x; rm y",
        "ls ;; rm y",
        "$x rm y",
        "((x)); rm y",
        "ka $((x)) | rm y",
        "zsh -c 'rm y'",
        "env -i rm y",
        "eval \"$x\"; rm y",
        "sudo rm y",
        "sudo -u root rm y",
        "timeout -Z 5 rm y",
        "ka 'x' ) ; rm y",
        "source x; rm y",
        "git -c alias.x='!rm y' x",
        "bash -i -c ka; rm y",
        "{ ( ka; rm y",
        "sudo bash -c 'rm y'",
        "flock /tmp/x rm y",
    ] {
        let script = Script::parse(line);
        let is_seen = script.commands().any(|command| {
            let words: Vec<_> = command.words.iter().filter_map(|word| word.known()).collect();
            words == ["rm", "y"]
        });
        assert!(is_seen, "{line:?}: {:#?}", script.steps());
    }
}

#[test]
fn depth_and_length_end_in_opaque_at_once() {
    let known = [
        format!("{}rm x{}", "{ ".repeat(200), "; }".repeat(200)),
        format!("{}rm x{}", "( ".repeat(200), ")".repeat(200)),
        format!("{}rm x{}", "if ".repeat(200), "; then ka; fi".repeat(200)),
        format!("{}rm x", "env ".repeat(200)),
    ];
    for line in &known {
        let script = Script::parse(line);
        assert!(!script.is_opaque(), "{:.60}: {:?}", line, script.steps().last());
        assert!(said(&script).contains(&"rm x".to_owned()), "{line:.60}");
    }
    let mut deep = String::from("rm x");
    for _ in 0..200 {
        deep = format!("ka \"$({deep})\"");
    }
    assert!(!Script::parse(&deep).is_opaque());
    let opening = [
        "$(",
        "(",
        "{ ",
        "if ",
        "while ",
        "\"$(",
        "${x:-",
        "<(",
        "((",
        "case a in a) ",
        "! ",
        "f() {",
    ];
    for opening in opening {
        let line = opening.repeat(10_000);
        assert!(Script::parse(&line).is_opaque(), "{opening}");
    }
    let starters =
        ["env ", "sudo ", "find . -exec ", "xargs ", "eval ", "bash -c ", "timeout 5 ", "command "];
    for starter in starters {
        let line = format!("{}rm x", starter.repeat(5_000));
        Script::parse(&line);
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Script::of_argv(&words);
    }
    assert!(Script::parse(&"a".repeat(1 << 20)).is_opaque());
    assert!(Script::parse(&"a;".repeat(1 << 19)).is_opaque());
    assert!(Script::of_argv(&["ka".to_owned(), "a".repeat(1 << 20)]).is_opaque());
}
