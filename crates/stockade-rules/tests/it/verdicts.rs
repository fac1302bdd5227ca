//! What rules, modes and policies make of lines.

use stockade_policy::{ApprovalPolicy, Mode, Reason, Verdict};
use stockade_rules::{PartKind, Rule, RuleError, RuleSet, judge, split_words};

fn rule(prefix: &str, verdict: Verdict) -> Rule {
    let words = split_words(prefix).unwrap();
    let words = words.into_iter().map(|word| word.split('|').map(str::to_owned).collect());
    Rule::new(words.collect(), verdict, format!("rules.toml:{}", prefix.len())).unwrap()
}

fn rules() -> RuleSet {
    let rules = [
        ("npm test", Verdict::Allow),
        ("cargo 'test|nextest'", Verdict::Allow),
        ("/usr/bin/make", Verdict::Allow),
        ("sudo apt", Verdict::Allow),
        ("cargo fetch", Verdict::Ask),
        ("docker", Verdict::Deny),
        ("git push", Verdict::Deny),
        ("npm publish", Verdict::Deny),
        ("rm", Verdict::Deny),
    ];
    RuleSet::new(rules.map(|(prefix, verdict)| rule(prefix, verdict)).into()).unwrap()
}

#[test]
fn whole_words_match_exactly_and_the_most_severe_verdict_wins() {
    use Verdict::{Allow, Ask, Deny};
    #[rustfmt::skip]
    const CASES: &[(&str, Verdict)] = &[
        // Under `untrusted`: what no rule allows asks.
        ("npm test", Allow),
        ("npm test -- --watch $x", Allow),
        ("'npm' \"test\"", Allow),
        ("npm tests", Ask),
        ("npm", Ask),
        ("npm  -s test", Ask),
        ("npm $x", Ask),
        ("npm te*t", Ask),
        ("xnpm test", Ask),
        ("cargo test", Allow),
        ("cargo nextest run", Allow),
        ("cargo build", Ask),
        ("cargo test && npm test | cat", Allow),
        ("cargo test; npm install", Ask),
        ("npm test\ncargo fetch", Ask),
        ("npm test; docker ps", Deny),
        ("docker ps; npm test", Deny),
        ("cargo fetch && docker", Deny),
        // Allow takes a bare name, or the path that the rule names.
        ("make", Ask),
        ("/usr/bin/make x", Allow),
        ("/bin/make", Ask),
        ("./npm test", Ask),
        ("/usr/bin/npm test", Ask),
        // Assignments: harmless ones only.
        ("CI=1 npm test", Allow),
        ("CI=1 LC_ALL=C npm test", Allow),
        ("PATH=. npm test", Ask),
        ("NODE_OPTIONS=x npm test", Ask),
        ("LD_PRELOAD=x npm test", Ask),
        ("CI=$(npm test) npm test", Ask),
        ("x=1; npm test", Allow),
        ("PATH=.; npm test", Ask),
        ("export PATH=.; npm test", Ask),
        ("export CI=1 && npm test", Allow),
        ("for PATH in .; do npm test; done", Ask),
        ("for f in a b; do npm test $f; done", Allow),
        ("read PATH; npm test", Ask),
        (": ${PATH:=.}; npm test", Ask),
        ("npm() { ls; }; npm test", Ask),
        ("function npm { ls; }; npm test", Ask),
        ("alias npm=ls; npm test", Ask),
        ("hash -p ./x npm; npm test", Ask),
        // Wrappers, for those that allow only where nothing else changes.
        ("bash -lc 'npm test'", Allow),
        ("bash -lc 'npm test; x'", Ask),
        ("timeout 60 npm test", Allow),
        ("env CI=1 npm test", Allow),
        ("env PATH=. npm test", Ask),
        ("nohup nice -n 5 npm test", Allow),
        ("sudo npm test", Ask),
        ("sudo apt update", Allow),
        ("./env npm test", Ask),
        ("./bash -c 'npm test'", Ask),
        ("PATH=. timeout 5 npm test", Ask),
        ("xargs npm test", Allow),
        ("if npm test; then cargo test; fi", Allow),
        ("! npm test", Allow),
        ("(npm test)", Allow),
        ("npm test $(cargo test)", Allow),
        ("npm test $(x)", Ask),
        // Redirections that write are parts of their own.
        ("npm test 2>&1 | tail", Allow),
        ("npm test >/dev/null", Allow),
        ("npm test >out", Ask),
        ("npm test 2>>out", Ask),
        ("npm test <in", Allow),
        ("npm test </dev/tcp/h/1", Ask),
        ("npm test <$x", Ask),
        ("npm test >$x", Ask),
        ("npm test >&out", Ask),
        ("npm test <>out", Ask),
        // Deny and ask see more.
        ("/usr/bin/docker ps", Deny),
        ("./docker", Deny),
        ("PATH=. X=$y docker", Deny),
        ("sudo docker", Deny),
        ("sudo -E X=1 docker", Deny),
        ("env -i docker", Deny),
        ("bash -c 'docker'", Deny),
        ("zsh -c docker", Deny),
        ("find . -exec rm {} +", Deny),
        ("xargs rm", Deny),
        ("ls $(rm x)", Deny),
        ("git push", Deny),
        ("git -C x push", Deny),
        ("git --no-pager -c a.b=c push -f", Deny),
        ("git --git-dir=x push", Deny),
        ("npm --prefix x publish", Deny),
        ("git pull", Ask),
        ("git log push", Allow),
        ("docker() { :; }; docker", Deny),
        ("$x; docker", Deny),
        ("ls ;; docker", Deny),
        ("/usr/bin/cargo fetch", Ask),
        // Words that only mention it.
        ("echo docker", Allow),
        ("grep -r rm .", Allow),
        ("cat <<'E'\nrm x\nE", Allow),
        ("ls # rm", Allow),
        ("ls", Allow),
        ("", Allow),
        ("# nothing", Allow),
        ("$x", Ask),
    ];
    let rules = rules();
    for &(line, expected) in CASES {
        let judgement = rules.evaluate_line(line);
        let ruling = judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::Untrusted);
        assert_eq!(ruling.verdict, expected, "{line:?}: {ruling:#?}");
    }
}

#[test]
fn modes_and_policies_decide_what_rules_leave_open() {
    use ApprovalPolicy::{Never, OnRequest, Untrusted};
    use Mode::{DangerFullAccess, ReadOnly, WorkspaceWrite};
    use Verdict::{Allow, Ask, Deny};
    #[rustfmt::skip]
    const CASES: &[(&str, Mode, [Verdict; 3])] = &[
        // line          mode              untrusted, on-request, never
        ("ls",           ReadOnly,         [Allow, Allow, Allow]),
        ("make",         ReadOnly,         [Ask,   Ask,   Deny]),
        ("npm test",     ReadOnly,         [Allow, Allow, Allow]),
        ("ls >x",        ReadOnly,         [Ask,   Ask,   Deny]),
        ("$x",           ReadOnly,         [Ask,   Ask,   Deny]),
        ("docker",       ReadOnly,         [Deny,  Deny,  Deny]),
        ("ls",           WorkspaceWrite,   [Allow, Allow, Allow]),
        ("make",         WorkspaceWrite,   [Ask,   Allow, Allow]),
        ("npm test",     WorkspaceWrite,   [Allow, Allow, Allow]),
        ("ls >x",        WorkspaceWrite,   [Ask,   Allow, Allow]),
        ("$x",           WorkspaceWrite,   [Ask,   Allow, Allow]),
        ("cargo fetch",  WorkspaceWrite,   [Ask,   Ask,   Deny]),
        ("docker",       WorkspaceWrite,   [Deny,  Deny,  Deny]),
        ("make",         DangerFullAccess, [Ask,   Allow, Allow]),
        ("cargo fetch",  DangerFullAccess, [Ask,   Ask,   Deny]),
        ("docker",       DangerFullAccess, [Deny,  Deny,  Deny]),
    ];
    let rules = rules();
    for &(line, mode, expected) in CASES {
        let judgement = rules.evaluate_line(line);
        for (policy, expected) in [Untrusted, OnRequest, Never].into_iter().zip(expected) {
            let ruling = judge(&judgement, mode, policy);
            assert_eq!(ruling.verdict, expected, "{line:?} {mode} {policy}: {ruling:#?}");
        }
    }
}

#[test]
fn a_ruling_names_its_rule_its_place_and_its_reason() {
    let reason = Some("use podman".to_owned());
    let rule = Rule::new(vec![vec!["docker".into()]], Verdict::Deny, "config.toml:12").unwrap();
    let rules = RuleSet::new(vec![rule.with_reason(reason)]).unwrap();
    let judgement = rules.evaluate_argv(&["bash".into(), "-c".into(), "ls; docker ps".into()]);
    let ruling = judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::OnRequest);
    assert_eq!(ruling.reason, "rule \"docker\" (config.toml:12) denies this command: use podman");
    assert_eq!(ruling.reviewed(), (Verdict::Deny, Reason::Rule("config.toml:12".to_owned())));
    let parts: Vec<_> = ruling.parts.iter().map(|part| (part.argv.join(" "), part.kind)).collect();
    let parts_expected = ["ls", "docker ps"].map(|text| (text.to_owned(), PartKind::Command));
    assert_eq!(parts, parts_expected);
    let judgement = rules.evaluate_line("$x");
    let ruling = judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::Untrusted);
    assert_eq!(ruling.reviewed(), (Verdict::Ask, Reason::Mode));
    let text = "`$x` cannot be known before it runs (the name of the program is not known): the \
                approval policy `untrusted` asks";
    assert_eq!((ruling.reason.as_str(), ruling.is_opaque), (text, true));
}

#[test]
fn examples_that_fail_refuse_the_set() {
    let with = |verdict, examples: &[&str], counterexamples: &[&str]| {
        let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect();
        let rule = rule("npm test", verdict);
        RuleSet::new(vec![rule.with_examples(owned(examples), owned(counterexamples))]).map(|_| ())
    };
    assert_eq!(with(Verdict::Allow, &["npm test -u", "ls; npm test"], &["npm install"]), Ok(()));
    let failing = RuleError::Example("npm tests".to_owned());
    assert_eq!(with(Verdict::Allow, &["npm test", "npm tests"], &[]), Err((0, failing)));
    let failing = RuleError::Counterexample("npm test x".to_owned());
    assert_eq!(with(Verdict::Deny, &[], &["npm test x"]), Err((0, failing)));
    assert_eq!(with(Verdict::Deny, &["sudo npm test"], &[]), Ok(()));
    let failing = RuleError::Example("sudo npm test".to_owned());
    assert_eq!(with(Verdict::Allow, &["sudo npm test"], &[]), Err((0, failing)));
}
