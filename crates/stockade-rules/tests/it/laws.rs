//! Laws of reading and of verdicts.

use proptest::prelude::*;
use stockade_policy::{ApprovalPolicy, Mode, Verdict};
use stockade_rules::{Rule, RuleSet, Script, judge};

const MODES: [Mode; 3] = [Mode::ReadOnly, Mode::WorkspaceWrite, Mode::DangerFullAccess];
const POLICIES: [ApprovalPolicy; 3] =
    [ApprovalPolicy::Untrusted, ApprovalPolicy::OnRequest, ApprovalPolicy::Never];

/// Pieces of scripts over few names, so that rules and commands meet often.
fn any_line() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", "c", " ", " ", " ", ";", "&&", "|", "\n", "$x", "$(", ")", "(", "'", "\"", "\\",
        "sudo ", "env ", "bash -c ", "/bin/a", "CI=1 ", "PATH=x ", ">f", "2>&1", "#", "f() ", "{ ",
        "; }", "ls ", "`", "<<E\n", "\nE\n", "if ", "; then ", "; fi", "é",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop::sample::select(vec![Verdict::Allow, Verdict::Ask, Verdict::Deny])
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let name = || prop::sample::select(vec!["a", "b", "c", "ls", "env", "sudo", "/bin/a"]);
    let word = prop::collection::vec(name().prop_map(str::to_owned), 1..3);
    (prop::collection::vec(word, 1..3), any_verdict())
        .prop_map(|(prefix, verdict)| Rule::new(prefix, verdict, "x:1").expect("it has words"))
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    prop::collection::vec(any_rule(), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reader_takes_any_text(text in any::<String>(), line in any_line()) {
        Script::parse(&text);
        Script::of_argv(&["bash".to_owned(), "-c".to_owned(), text]);
        Script::parse(&line);
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Script::of_argv(&words);
    }

    #[test]
    fn the_order_of_rules_does_not_matter(mut rules in any_rules(), line in any_line(), at in 0..5_usize) {
        let verdicts = |rules: &[Rule]| -> Vec<_> {
            let set = RuleSet::new(rules.to_vec()).unwrap();
            set.evaluate_line(&line).parts.into_iter().map(|part| part.verdict).collect()
        };
        let before = verdicts(&rules);
        rules.reverse();
        let middle = rules.len().min(at);
        rules.rotate_left(middle);
        prop_assert_eq!(before, verdicts(&rules));
    }

    #[test]
    fn a_rule_that_asks_or_denies_makes_nothing_milder(rules in any_rules(), rule in any_rule(), line in any_line()) {
        let verdict = rule.verdict();
        let judged = |rules: Vec<Rule>| RuleSet::new(rules).unwrap().evaluate_line(&line);
        let before = judged(rules.clone());
        let after = judged(rules.into_iter().chain([rule]).collect());
        for mode in MODES {
            for policy in POLICIES {
                let before = judge(&before, mode, policy).verdict;
                let after = judge(&after, mode, policy).verdict;
                match verdict {
                    Verdict::Allow => prop_assert!(after <= before),
                    Verdict::Ask | Verdict::Deny => prop_assert!(after >= before),
                }
            }
        }
    }

    #[test]
    fn without_rules_no_policy_lets_more_run_than_a_laxer_one(line in any_line()) {
        let judgement = RuleSet::default().evaluate_line(&line);
        for mode in MODES {
            let verdict = |policy| judge(&judgement, mode, policy).verdict;
            prop_assert!(verdict(ApprovalPolicy::Untrusted) >= verdict(ApprovalPolicy::OnRequest));
            prop_assert!(verdict(ApprovalPolicy::Never) != Verdict::Ask);
        }
        let read_only = judge(&judgement, Mode::ReadOnly, ApprovalPolicy::OnRequest).verdict;
        let writing = judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::OnRequest).verdict;
        prop_assert!(read_only >= writing);
    }

    #[test]
    fn what_is_opaque_or_redefined_is_never_allowed_by_rules(line in any_line(), rules in any_rules()) {
        let script = Script::parse(&line);
        let judgement = RuleSet::new(rules).unwrap().evaluate(&script);
        let verdict = judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::Untrusted).verdict;
        if script.is_opaque() {
            prop_assert!(judgement.is_opaque);
            prop_assert_ne!(verdict, Verdict::Allow);
        }
        if script.is_redefined() && script.commands().next().is_some() {
            prop_assert!(judgement.parts.iter().all(|part| part.verdict != Some(Verdict::Allow)));
        }
    }
}

/// Commands that read, each with words that make it write or start something.
#[rustfmt::skip]
const READERS: &[(&str, &[&str], &[&str])] = &[
    ("sed", &["-n", "5p", "a"], &["-i", "-i.bak", "--in-place", "-ni", "-e 'w x'", "-f script", "-s -i", "-ei"]),
    ("find", &[".", "-name", "x", "-type", "f"], &["-delete", "-exec rm {} ;", "-execdir rm {} +", "-ok rm {} ;", "-okdir rm {} ;",
        "-fprint x", "-fprint0 x", "-fprintf x y", "-fls x", "-files0-from x"]),
    ("sort", &["-k2", "-rn", "a"], &["-o x", "-ox", "-uo x", "--output=x", "--out=x", "--output x", "--compress-program=sh", "-T x"]),
    ("uniq", &["-c", "a"], &["out"]),
    ("tree", &["-a"], &["-o x", "-ao x", "-Lo 1 x", "-Io a x", "--output x"]),
    ("date", &["-u"], &["-s x", "--set=x", "--set x", "010203"]),
    ("hostname", &[], &["x", "-F x", "-b x"]),
    ("file", &["-b", "a"], &["-C", "--compile", "-bC", "-z", "-m x"]),
    ("fd", &["-H", "x"], &["-x rm", "-X rm", "--exec rm", "--exec-batch rm", "-Hx rm"]),
    ("rg", &["-n", "x"], &["--pre sh", "--pre=sh", "-z", "-nz", "--search-zip", "--hostname-bin=x"]),
    ("diff", &["-u", "a", "b"], &["-l", "-ul", "--paginate"]),
    ("git diff", &["--stat"], &["--ext-diff", "--output=x", "--outp x", "--textconv"]),
    ("git log", &["--oneline"], &["--ext-diff", "--output=x", "--textconv", "--show-signature"]),
    ("git show", &["--stat"], &["--ext-diff", "--output=x"]),
    ("git grep", &["-n", "x"], &["-O", "-Oless", "-nO", "--open-files-in-pager", "--open-files-in-pager=sh", "--open=sh", "--textconv"]),
    ("git cat-file", &["-p", "x"], &["--textconv", "--filters", "--batch"]),
    ("git branch", &["-a"], &["x", "-d x", "-D x", "-m x", "-u x", "--edit-description"]),
    ("git branch", &["--list", "x"], &["-d", "-D", "-m y", "-u x", "-f", "-c y", "-l", "--edit-description", "--track"]),
    ("git tag", &["-n5"], &["x", "-d x", "-a x", "-s x"]),
    ("git tag", &["-l"], &["-d x", "-a x", "-s x", "-f x", "-m x", "-F x", "-u x"]),
    ("git config", &["--get", "a.b"], &["--unset", "--unset-all", "--add x", "--replace-all x", "-e", "--edit", "--remove-section x", "-f x"]),
    ("git reflog", &["-5"], &["expire", "delete x", "drop", "write x", "--output=x"]),
    ("git stash list", &["-p"], &["--output=x", "--ext-diff", "--textconv"]),
    ("git symbolic-ref", &["HEAD"], &["refs/heads/x", "-d", "--delete", "-m x"]),
    ("git worktree list", &[], &["x", "--expire x"]),
    ("git -C x log", &["-15"], &["--output=x", "--ext-diff", "-O x"]),
    ("sed", &["-E", "-e", "'s/a/b/;p'", "a"], &["-i", "--in-place=x", "-e 'w x'", "-e '1e id'", "-e 's/a/b/w x'", "-f x", "--expression='e'", "-ie p"]),
    ("awk", &["-F:", "'{print $1}'", "a"], &["-f x", "-i inplace", "-l x", "-E x", "-o", "-e 'BEGIN{system(1)}'", "--file=x", "--source=x", "-d"]),
    ("tar", &["tzf", "a.tgz", "b"], &["--to-command=sh", "-I sh", "-F sh", "--checkpoint-action=exec=sh", "--use-compress-program=sh", "-x", "--delete"]),
    ("gzip", &["-dc", "a.gz"], &["-r", "-S x", "-N", "--recursive"]),
    ("unzip", &["-l", "a.zip"], &["-o", "-d x", "-n", "-j", "-x"]),
    ("xxd", &["-p", "a"], &["out", "-r", "-pl 64", "-l 64"]),
    ("ss", &["-tlnp"], &["-K", "-D x", "-tK", "--kill", "-F x"]),
    ("lsof", &["-i"], &["-D b", "-Db", "-nD b"]),
    ("nm", &["-C", "a"], &["--plugin x", "--plugin=x", "--plug=x"]),
    ("git remote", &["-v"], &["add x y", "set-url x y"]),
    ("env", &[], &["sh", "A=1 sh", "-S sh", "-i sh"]),
    ("command", &["-v", "x"], &["-p"]),
];

/// Programs that no option makes safe, as they are often written.
const NO_READERS: &[&str] = &[
    "tar xf a",
    "tar -tf a --to-command=sh",
    "tar tf host:a",
    "tar tf $x",
    "gzip a",
    "gunzip a",
    "unzip a",
    "top",
    "git config a.b",
    "git branch -l x",
    "awk 'BEGIN{system(\"x\")}'",
    "awk '{print > \"x\"}' a",
    "gawk -f x",
    "xargs rm",
    "xargs -n1",
    "perl -pe x a",
    "tee a",
    "git -c core.pager=x log",
    "git -c alias.x=!sh x",
    "git --exec-path=x log",
    "git --config-env=core.pager=X log",
    "python3 -c x",
    "less a",
    "man x",
    "dd if=a of=b",
    "cp a b",
    "install a b",
    "ln a b",
    "mv a b",
    "touch a",
    "truncate -s0 a",
    "curl x",
    "ssh x",
    "ed a",
    "vi a",
    "node --version -e x",
    "git diff --no-index --output=x a b",
    "git stash",
    "git fetch",
    "time -o x ls",
];

fn asks(line: &str) -> bool {
    let judgement = RuleSet::default().evaluate_line(line);
    judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::Untrusted).verdict != Verdict::Allow
}

#[test]
fn commands_that_read_run_and_those_that_nothing_makes_safe_ask() {
    for (program, words, _) in READERS {
        let line = format!("{program} {}", words.join(" "));
        assert!(!asks(&line), "{line}");
    }
    for line in NO_READERS {
        assert!(asks(line), "{line}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Under `untrusted` nothing that writes runs unasked.
    #[test]
    fn what_makes_a_reader_write_is_seen_wherever_it_stands(
        case in prop::sample::select(READERS),
        flag in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        dress in 0..5_u8,
        wrapper in prop::sample::select(vec!["%", "ls; %", "bash -c \"%\"", "nice %", "timeout 5 %", "if %; then ls; fi", "ls $(%)", "CI=1 %"]),
    ) {
        let (program, words, flags) = case;
        let bad = flags[flag.index(flags.len())];
        let (first, rest) = bad.split_once(' ').unwrap_or((bad, ""));
        let first = match dress {
            0 => format!("'{first}'"),
            1 => first.chars().flat_map(|c| ['\\', c]).collect(),
            2 => {
                let (start, end) = first.split_at(1);
                format!("{start}''{end}")
            }
            _ => first.to_owned(),
        };
        let rest = rest.replace(';', "\\;");
        let mut all: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        all.insert(place.index(words.len() + 1), format!("{first} {rest}"));
        let line = wrapper.replace('%', &format!("{program} {}", all.join(" ")));
        prop_assert!(asks(&line), "{line}");
    }
}
