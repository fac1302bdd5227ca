//! What rules, modes and policies make of lines.
#![expect(clippy::unwrap_used, reason = "a rule of a test that is wrong fails it")]

use stockade_policy::{ApprovalPolicy, Grant, Mode, Reason, Verdict};
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

#[rustfmt::skip]
const LINES: &[(&str, Verdict)] = &[
    // Under `untrusted`: what no rule allows asks.
    ("npm test", Verdict::Allow),
    ("npm test -- --watch $x", Verdict::Allow),
    ("'npm' \"test\"", Verdict::Allow),
    ("npm tests", Verdict::Ask),
    ("npm", Verdict::Ask),
    ("npm  -s test", Verdict::Ask),
    ("npm $x", Verdict::Ask),
    ("npm te*t", Verdict::Ask),
    ("xnpm test", Verdict::Ask),
    ("cargo test", Verdict::Allow),
    ("cargo nextest run", Verdict::Allow),
    ("cargo build", Verdict::Ask),
    ("cargo test && npm test | cat", Verdict::Allow),
    ("cargo test; npm install", Verdict::Ask),
    ("npm test\ncargo fetch", Verdict::Ask),
    ("npm test; docker ps", Verdict::Deny),
    ("docker ps; npm test", Verdict::Deny),
    ("cargo fetch && docker", Verdict::Deny),
    // Allow takes a bare name, or the path that the rule names.
    ("make", Verdict::Ask),
    ("/usr/bin/make x", Verdict::Allow),
    ("/bin/make", Verdict::Ask),
    ("./npm test", Verdict::Ask),
    ("/usr/bin/npm test", Verdict::Ask),
    // Assignments: harmless ones only.
    ("CI=1 npm test", Verdict::Allow),
    ("CI=1 LC_ALL=C npm test", Verdict::Allow),
    ("PATH=. npm test", Verdict::Ask),
    ("NODE_OPTIONS=x npm test", Verdict::Ask),
    ("LD_PRELOAD=x npm test", Verdict::Ask),
    ("CI=$(npm test) npm test", Verdict::Ask),
    ("x=1; npm test", Verdict::Allow),
    ("PATH=.; npm test", Verdict::Ask),
    ("export PATH=.; npm test", Verdict::Ask),
    ("export CI=1 && npm test", Verdict::Allow),
    ("for PATH in .; do npm test; done", Verdict::Ask),
    ("for f in a b; do npm test $f; done", Verdict::Allow),
    ("read PATH; npm test", Verdict::Ask),
    ("while IFS= read -r f; do npm test; done < list", Verdict::Allow),
    ("IFS=, read -ra parts <<< a,b; npm test", Verdict::Allow),
    ("read -rd '' x < f; npm test", Verdict::Allow),
    ("mapfile -t lines < f; npm test", Verdict::Allow),
    ("printf -v x '%s' a; npm test", Verdict::Allow),
    ("IFS= npm test", Verdict::Ask),
    ("IFS=; npm test", Verdict::Ask),
    ("IFS=x export y; npm test", Verdict::Ask),
    ("read -ra PATH; npm test", Verdict::Ask),
    ("mapfile -t PATH; npm test", Verdict::Ask),
    ("mapfile -C x a; npm test", Verdict::Ask),
    ("mapfile; npm test", Verdict::Ask),
    ("printf -v PATH .; npm test", Verdict::Ask),
    ("printf -v 'a[$(x)]' .; npm test", Verdict::Ask),
    (": ${PATH:=.}; npm test", Verdict::Ask),
    ("npm() { ls; }; npm test", Verdict::Ask),
    ("function npm { ls; }; npm test", Verdict::Ask),
    ("alias npm=ls; npm test", Verdict::Ask),
    ("hash -p ./x npm; npm test", Verdict::Ask),
    // Wrappers, for those that allow only where nothing else changes.
    ("bash -lc 'npm test'", Verdict::Allow),
    ("bash -lc 'npm test; x'", Verdict::Ask),
    ("timeout 60 npm test", Verdict::Allow),
    ("env CI=1 npm test", Verdict::Allow),
    ("env PATH=. npm test", Verdict::Ask),
    ("nohup nice -n 5 npm test", Verdict::Allow),
    ("sudo npm test", Verdict::Ask),
    ("sudo apt update", Verdict::Allow),
    ("./env npm test", Verdict::Ask),
    ("./bash -c 'npm test'", Verdict::Ask),
    ("PATH=. timeout 5 npm test", Verdict::Ask),
    ("xargs npm test", Verdict::Allow),
    ("if npm test; then cargo test; fi", Verdict::Allow),
    ("! npm test", Verdict::Allow),
    ("(npm test)", Verdict::Allow),
    ("npm test $(cargo test)", Verdict::Allow),
    ("npm test $(x)", Verdict::Ask),
    // Redirections that write are parts of their own.
    ("npm test 2>&1 | tail", Verdict::Allow),
    ("npm test >/dev/null", Verdict::Allow),
    ("npm test >out", Verdict::Ask),
    ("npm test 2>>out", Verdict::Ask),
    ("npm test <in", Verdict::Allow),
    ("npm test </dev/tcp/h/1", Verdict::Ask),
    ("npm test <$x", Verdict::Ask),
    ("npm test >$x", Verdict::Ask),
    ("npm test >&out", Verdict::Ask),
    ("npm test <>out", Verdict::Ask),
    // Deny and ask see more.
    ("/usr/bin/docker ps", Verdict::Deny),
    ("./docker", Verdict::Deny),
    ("PATH=. X=$y docker", Verdict::Deny),
    ("sudo docker", Verdict::Deny),
    ("sudo -E X=1 docker", Verdict::Deny),
    ("env -i docker", Verdict::Deny),
    ("bash -c 'docker'", Verdict::Deny),
    ("zsh -c docker", Verdict::Deny),
    ("find . -exec rm {} +", Verdict::Deny),
    ("xargs rm", Verdict::Deny),
    ("ls $(rm x)", Verdict::Deny),
    ("git push", Verdict::Deny),
    ("git -C x push", Verdict::Deny),
    ("git --no-pager -c a.b=c push -f", Verdict::Deny),
    ("git --git-dir=x push", Verdict::Deny),
    ("npm --prefix x publish", Verdict::Deny),
    ("git pull", Verdict::Ask),
    ("git log push", Verdict::Allow),
    ("docker() { :; }; docker", Verdict::Deny),
    ("$x; docker", Verdict::Deny),
    ("ls ;; docker", Verdict::Deny),
    ("/usr/bin/cargo fetch", Verdict::Ask),
    // Words that only mention it.
    ("echo docker", Verdict::Allow),
    ("grep -r rm .", Verdict::Allow),
    ("cat <<'E'\nrm x\nE", Verdict::Allow),
    ("ls # rm", Verdict::Allow),
    ("ls", Verdict::Allow),
    ("", Verdict::Allow),
    ("# nothing", Verdict::Allow),
    ("$x", Verdict::Ask),
];

#[test]
fn whole_words_match_exactly_and_the_most_severe_verdict_wins() {
    let rules = rules();
    for &(line, expected) in LINES {
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
fn a_redirection_to_where_nothing_may_be_written_crosses_the_boundary() {
    use ApprovalPolicy::{Never, OnRequest, Untrusted};
    let rules = rules();
    for (line, policy, expected) in [
        ("ls >/out/x", OnRequest, Verdict::Ask),
        ("ls >/out/x", Untrusted, Verdict::Ask),
        ("ls >/out/x", Never, Verdict::Deny),
        ("ls >x", OnRequest, Verdict::Ask),
        // From which folder, or to which file, is not known: the boundary will tell.
        ("cd /out && ls >x", OnRequest, Verdict::Allow),
        ("$x; ls >x", OnRequest, Verdict::Allow),
        ("ls >$x", OnRequest, Verdict::Allow),
        ("cd src && ls >/out/x", OnRequest, Verdict::Ask),
        ("ls >/work/x", OnRequest, Verdict::Allow),
    ] {
        let judgement = rules.evaluate_line(line).with_outside(|path| !path.starts_with("/work/"));
        let ruling = judge(&judgement, Mode::WorkspaceWrite, policy);
        assert_eq!(ruling.verdict, expected, "{line:?} {policy}: {ruling:#?}");
    }
}

#[test]
fn a_granular_policy_denies_what_it_does_not_ask() {
    let rules = rules();
    let verdict = |line: &str, crossing, rules_ask, mode| {
        let judgement = rules.evaluate_line(line).with_outside(|path| path.starts_with("/out/"));
        judge(&judgement, mode, ApprovalPolicy::Granular { crossing, rules: rules_ask }).verdict
    };
    for (line, crossing, rules_ask, mode, expected) in [
        ("make", false, false, Mode::WorkspaceWrite, Verdict::Allow),
        ("cargo fetch", false, true, Mode::WorkspaceWrite, Verdict::Ask),
        ("cargo fetch", true, false, Mode::WorkspaceWrite, Verdict::Deny),
        ("ls >/out/x", true, false, Mode::WorkspaceWrite, Verdict::Ask),
        ("ls >/out/x", false, true, Mode::WorkspaceWrite, Verdict::Deny),
        ("make", true, false, Mode::ReadOnly, Verdict::Ask),
        ("make", false, true, Mode::ReadOnly, Verdict::Deny),
        ("docker", true, true, Mode::WorkspaceWrite, Verdict::Deny),
    ] {
        assert_eq!(verdict(line, crossing, rules_ask, mode), expected, "{line} {crossing} {mode}");
    }
}

#[test]
fn a_grant_opens_for_what_its_rule_allows_and_nothing_beside_it() {
    let grant = Grant { ports: vec![5432], ..Grant::default() };
    let with = |prefix, verdict| rule(prefix, verdict).with_grant(grant.clone());
    let rules = RuleSet::new(vec![
        with("psql", Verdict::Allow),
        with("cargo fetch", Verdict::Ask),
        rule("docker", Verdict::Deny),
    ]);
    let rules = rules.unwrap();
    for (line, opens) in [
        ("psql -c x", true),
        ("psql | head", true),
        ("psql; make", false),
        ("psql >out", false),
        ("psql $($x)", false),
        ("cargo fetch; make", true),
        ("cargo fetch; docker", false),
        ("make", false),
    ] {
        let judgement = rules.evaluate_line(line);
        let ruling = judge(&judgement, Mode::WorkspaceWrite, ApprovalPolicy::OnRequest);
        assert_eq!(!ruling.grant.is_empty(), opens, "{line}");
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
