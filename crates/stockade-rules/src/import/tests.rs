use super::*;

const FILE: &str = r#"# the rules of another tool
prefix_rule(pattern=["npm", "test"], decision="allow", match=["npm test -- -u"], not_match=["npm tests"])
prefix_rule(
    pattern = ["git", ["push", "fetch"]],  # two verbs
    decision = "prompt",
    justification = "touches the remote",
)
prefix_rule(["make"], 'forbidden', match=[["make", "a b"]])
host_executable(name="npm", paths=["/usr/bin/npm"])
network_rule(host="api.github.com", protocol="https", decision="allow")
"#;

#[test]
fn a_file_of_literals_is_taken_over() {
    let imported = import(FILE).unwrap();
    let [npm, git, make] = imported.rules.as_slice() else { panic!("{imported:?}") };
    let words = |rule: &ImportedRule| -> Vec<String> {
        rule.prefix.iter().map(|word| word.join("|")).collect()
    };
    assert_eq!(words(npm), ["npm|/usr/bin/npm", "test"]);
    assert_eq!((npm.verdict, npm.line), (Verdict::Allow, 2));
    assert_eq!(
        (&npm.examples[0], &npm.counterexamples[0]),
        (&"npm test -- -u".to_owned(), &"npm tests".to_owned())
    );
    assert_eq!((words(git), git.verdict), (vec!["git".into(), "push|fetch".into()], Verdict::Ask));
    assert_eq!(git.reason.as_deref(), Some("touches the remote"));
    assert_eq!((make.verdict, make.examples[0].as_str()), (Verdict::Deny, "make 'a b'"));
    let network = &imported.network[0];
    assert_eq!(
        (network.host.as_str(), network.verdict, network.line),
        ("api.github.com", Verdict::Allow, 10)
    );
}

/// Shapes of files that people have: a mark in front, escapes, programs of the project.
#[test]
fn what_other_tools_and_editors_write_is_read() {
    let text = "\u{feff}prefix_rule(pattern=['bash', '-lc', 'a\\u001b\\x41\\b'])\r\n\
                prefix_rule(pattern=[['./gradlew', 'gradle']], match=['./gradlew x'])\n\
                prefix_rule(pattern=['bin/run'])\n\
                prefix_rule(pattern=[['./mvnw', 'mvn']], decision='prompt', match=['./mvnw x'])";
    let imported = import(text).unwrap();
    let prefixes: Vec<_> = imported.rules.iter().map(|rule| rule.prefix.clone()).collect();
    assert_eq!(prefixes[0][2], ["a\u{1b}A\u{8}"]);
    assert_eq!(prefixes[1..], [vec![vec!["gradle"]], vec![vec!["mvn", "mvnw"]]]);
    assert!(imported.rules[1].examples.is_empty() && imported.rules[2].examples.len() == 1);
    let told: Vec<_> =
        imported.relative.iter().map(|it| (it.line, it.program.as_str(), it.verdict)).collect();
    let expected = [
        (2, "./gradlew", Verdict::Allow),
        (3, "bin/run", Verdict::Allow),
        (4, "./mvnw", Verdict::Ask),
    ];
    assert_eq!(told, expected);
    assert!(import("prefix_rule(pattern=['\\u12'])").is_err());
}

#[test]
fn what_computes_or_means_nothing_is_told_by_its_place() {
    for (text, place, what) in [
        ("def f():\n  pass\n", (1, 1), "`def` computes"),
        ("\nfor x in []: y\n", (2, 1), "`for` computes"),
        ("x = 1", (1, 1), "`x` is not known"),
        ("prefix_rule(pattern=[x for x in y])", (1, 22), "a string or a list"),
        ("prefix_rule(pattern=['a'] + ['b'])", (1, 27), "`,` or `)`"),
        ("prefix_rule(pattern='a')", (1, 21), "a list of words"),
        ("prefix_rule(pattern=[])", (1, 21), "at least one word"),
        ("prefix_rule(pattern=['a', []])", (1, 27), "a word, or words"),
        ("prefix_rule(pattern=['a'], decision='maybe')", (1, 37), "one of `allow`"),
        ("prefix_rule(decision='allow')", (1, 1), "`pattern` is missing"),
        ("prefix_rule(pattern=['a'], pattern=['b'])", (1, 28), "stands twice"),
        ("prefix_rule(patern=['a'])", (1, 13), "takes pattern"),
        ("prefix_rule(pattern=['a", (1, 22), "no end"),
        ("prefix_rule(pattern=['a'])x", (1, 27), "a new line"),
        ("prefix_rule(pattern=['a'], justification='')", (1, 42), "a text"),
        ("[[[[[[", (1, 1), "a call"),
        ("prefix_rule(pattern=[[[[[[[[[['a']]]]]]]]]])", (1, 29), "a string or a list"),
    ] {
        let error = import(text).unwrap_err();
        assert_eq!((error.line, error.column), place, "{text}: {error}");
        assert!(error.what.contains(what), "{text}: {error}");
    }
    assert_eq!(import(""), Ok(Imported::default()));
}
