//! `stockade rules`.

use std::fs;

use serde_json::{Value, json};

use crate::{Home, RULES};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn rules_are_listed_with_their_places() {
    let home = Home::new(&format!(
        "{RULES}expires = 2000-01-01\n[[rules]]\nprefix = ['cargo', ['test', 'nextest']]\n\
         decision = 'ask'\nexpires = '2999-12-31'\ngrant = {{ ports = [5432] }}\n"
    ));
    let (status, out, err) = home.told(&["rules"]);
    let place = "HOME/config/stockade/config.toml";
    let expected = format!(
        "\
allow  npm test  ({place}:1; user; never matched)
ask    cargo fetch  ({place}:6; user; never matched): fetches from the registry
ask    cargo test|nextest  ({place}:15; user; never matched; until 2999-12-31; opens localhost:5432)
deny   docker  ({place}:11; user; never matched; over since 2000-01-01)
"
    );
    assert_eq!((status, out.as_str(), err.as_str()), (0, expected.as_str(), ""));
    let (status, out, _) =
        home.told(&["rules", "list", "--json", "-c", "rules=[{prefix='x',allow=true}]"]);
    assert_eq!(status, 0);
    let list = json(&out);
    assert_eq!(list[0]["hits"], json!(0));
    assert_eq!((&list[0]["examples"], &list[0]["author"]), (&json!(1), &json!("user")));
    assert_eq!((&list[3]["scope"], &list[3]["author"]), (&json!("thread"), &json!("option")));
    assert_eq!((&list[4]["prefix"], &list[4]["expired"]), (&json!("docker"), &json!(true)));
    // It no longer holds.
    assert_eq!(home.said(&["--", "docker", "ps"]).0, 0);
}

#[test]
fn a_rule_is_added_and_taken_back_and_the_rest_of_the_file_stays() {
    let text = format!("# mine, by hand\nsandbox_mode   =  'read-only'  # so\n\n{RULES}");
    let home = Home::new(&text);
    let (status, out, err) = home.told(&[
        "rules",
        "add",
        "--decision",
        "deny",
        "--reason",
        "use npm",
        "--match",
        "yarn add x",
        "--",
        "yarn",
        "add",
    ]);
    assert_eq!(status, 0, "{err}");
    let place = "HOME/config/stockade/config.toml:18";
    assert_eq!(out, format!("added: deny yarn add  ({place})\n"));
    assert!(err.contains(&format!("`stockade rules revoke {place}` takes it back")), "{err}");
    let new = fs::read_to_string(home.config()).unwrap();
    assert!(new.starts_with(&text), "{new}");
    assert_eq!(home.said(&["--", "yarn", "add", "left-pad"]).0, 4);
    let backup = home.config().with_file_name("config.toml.bak");
    assert_eq!(fs::read_to_string(backup).unwrap(), text);
    let (status, out, _) = home.told(&["rules", "revoke", "yarn add"]);
    assert_eq!((status, out), (0, format!("revoked: deny yarn add  ({place})\n")));
    assert_eq!(fs::read_to_string(home.config()).unwrap().trim_end(), text.trim_end());
    let (_, out, _) = home.told(&["rules", "revoke", "--json", "config.toml:4"]);
    assert_eq!(json(&out)["rules"][0]["prefix"], json!("npm test"));
    assert!(fs::read_to_string(home.config()).unwrap().starts_with("# mine, by hand\n"));
}

#[test]
fn a_rule_that_would_stop_the_next_start_is_not_written() {
    let home = Home::new(RULES);
    let add = ["rules", "add", "--decision", "allow"];
    for (more, why) in [
        (vec!["--match", "make", "--", "npm"], "does not match its example"),
        (vec!["--expires", "soon", "--", "npm"], "a date"),
        (vec!["--", "./npm"], "by name or by absolute path"),
        (vec!["--", "npm *"], "matches nothing"),
        (vec!["--grant-port", "0", "--", "npm"], "ports from 1"),
    ] {
        let (status, _, err) = home.told(&[&add[..], &more].concat());
        assert_eq!(status, 2, "{more:?}: {err}");
        assert!(err.contains(why), "{more:?}: {err}");
        assert_eq!(fs::read_to_string(home.config()).unwrap(), RULES);
    }
    for wrong in [&["rules", "add", "npm"][..], &["rules", "add", "--decision", "perhaps", "npm"]] {
        assert_eq!(home.told(wrong).0, 2, "{wrong:?}");
    }
    let (status, _, err) = home.told(&["rules", "add", "npm publish", "--decision", "deny"]);
    assert_eq!(status, 2, "{err}");
    assert!(err.contains("options stand before the words"), "{err}");
    let (status, _, err) = home.told(&["rules", "revoke", "nothing of the kind"]);
    assert_eq!(status, 1);
    assert!(err.contains("there is no rule"), "{err}");
}

#[test]
fn an_answer_for_this_project_is_written_outside_of_it() {
    let home = Home::new(RULES);
    let before: Vec<_> = fs::read_dir(home.folder.path().join("work")).unwrap().collect();
    assert_eq!(home.said(&["-a", "untrusted", "--", "make", "test"]).0, 3);
    let add = ["rules", "add", "--scope", "project", "--decision", "allow", "--json", "make test"];
    let (status, out, err) = home.told(&add);
    assert_eq!(status, 0, "{err}");
    let file = json(&out)["file"].as_str().unwrap().to_owned();
    assert!(file.starts_with("HOME/config/stockade/projects/work-"), "{file}");
    assert_eq!(home.said(&["-a", "untrusted", "--", "make", "test"]).0, 0);
    assert_eq!(before.len(), fs::read_dir(home.folder.path().join("work")).unwrap().count());
    fs::create_dir(home.folder.path().join("other")).unwrap();
    assert_eq!(home.said(&["-a", "untrusted", "-C", "../other", "--", "make", "test"]).0, 3);
    assert_eq!(home.told(&["rules", "revoke", "make test"]).0, 0);
    assert_eq!(home.said(&["-a", "untrusted", "--", "make", "test"]).0, 3);
}

#[test]
fn rules_of_another_tool_are_taken_over_with_their_meaning() {
    let home = Home::new("");
    let file = home.folder.path().join("work/default.rules");
    let text = "prefix_rule(pattern=[\"npm\", \"test\"], decision=\"allow\", match=[\"npm test -- -u\"], not_match=[\"npm tests\"])\n\
                prefix_rule(pattern=[\"git\", [\"push\", \"fetch\"]], decision=\"prompt\", justification=\"touches the remote\")\n\
                prefix_rule(pattern=['docker'], decision='forbidden')\n\
                host_executable(name=\"npm\", paths=[\"/usr/bin/npm\"])\n\
                network_rule(host=\"api.github.com\", protocol=\"https\", decision=\"allow\")\n\
                network_rule(host=\"evil.example\", protocol=\"http\", decision=\"deny\")\n\
                network_rule(host=\"git.example\", protocol=\"socks5_tcp\", decision=\"allow\")\n\
                network_rule(host=\"ntp.example\", protocol=\"socks5_udp\", decision=\"allow\")\n\
                network_rule(host=\"new.example\", protocol=\"https\", decision=\"prompt\")\n\
                network_rule(host=\"127.0.0.1\", protocol=\"http\", decision=\"allow\")\n";
    fs::write(&file, text).unwrap();
    let (status, out, _) = home.told(&["rules", "test", "default.rules"]);
    assert_eq!((status, out.as_str()), (0, "3 rules, 2 examples: all hold\n"));
    let (status, out, _) = home.told(&["rules", "import", "--dry-run", "default.rules"]);
    assert_eq!(status, 0);
    assert!(out.starts_with("# from default.rules:1\n[[rules]]\n"), "{out}");
    assert_eq!(fs::read_to_string(home.config()).unwrap(), "");
    let (status, out, err) = home.told(&["rules", "import", "default.rules"]);
    assert_eq!(
        (status, out.as_str()),
        (0, "imported: 3 rules and 3 hosts into HOME/config/stockade/config.toml\n")
    );
    for told in [
        "line 6: deny evil.example: at every port",
        "line 7: allow git.example:*: at every port",
        "line 8: not taken over: allow socks5_udp ntp.example: nothing but TCP",
        "line 9: not taken over: ask https new.example: a host that no entry allows is asked",
        "line 10: not taken over: allow http 127.0.0.1: `[network]` has no such host",
    ] {
        assert!(err.contains(told), "{told}: {err}");
    }
    assert!(!err.contains("api.github.com"), "{err}");
    let config = fs::read_to_string(home.config()).unwrap();
    let lists = "allow = [\n    # from default.rules:5\n    \"api.github.com:443\",\n    \
                 # from default.rules:7\n    \"git.example:*\",\n]\n\
                 deny = [\n    # from default.rules:6\n    \"evil.example\",\n]\n";
    assert!(config.contains(&format!("\n[network]\n{lists}")), "{config}");
    // For one project: its answers hold what opens, and nothing else.
    let project = ["rules", "import", "--scope", "project", "default.rules"];
    let (status, out, err) = home.told(&project);
    assert_eq!(status, 0, "{err}");
    assert!(out.starts_with("imported: 3 rules and 2 hosts into"), "{out}");
    assert!(err.contains("line 6: not taken over: deny http evil.example: answers"), "{err}");
    for (line, expected) in [
        ("npm test -- -u", 0),
        ("/usr/bin/npm test", 0),
        ("npm tests", 3),
        ("git push", 3),
        ("git fetch", 3),
        ("docker ps", 4),
    ] {
        assert_eq!(home.said(&["-a", "untrusted", "--line", line]).0, expected, "{line}");
    }
    let (_, out, _) = home.said(&["--line", "git -C x push"]);
    assert!(out.contains("asks about this command: touches the remote"), "{out}");
    for (text, why) in [
        ("def f():\n  pass\n", "default.rules:1:1: `def` computes"),
        ("\nprefix_rule(pattern=[x for x in y])\n", "default.rules:2:22: a string or a list"),
        ("prefix_rule(pattern=['a'], match=['b'])", "does not match its example"),
    ] {
        fs::write(&file, text).unwrap();
        let before = fs::read_to_string(home.config()).unwrap();
        let (status, _, err) = home.told(&["rules", "import", "default.rules"]);
        assert_eq!(status, 2, "{text}: {err}");
        assert!(err.contains(why), "{text}: {err}");
        assert_eq!(fs::read_to_string(home.config()).unwrap(), before);
    }
}

/// Programs of the project (`./gradlew`) stand in every third file of such rules; a rule that allows
/// one would allow whatever lies there by then.
#[test]
fn rules_about_programs_of_a_project_are_taken_over_as_far_as_they_mean_one() {
    let home = Home::new("");
    let file = home.folder.path().join("work/default.rules");
    let text = "prefix_rule(pattern=[[\"./gradlew\", \"gradle\"], \"test\"], match=[\"./gradlew test\"])\n\
                prefix_rule(pattern=[\".venv/bin/pytest\"])\n\
                prefix_rule(pattern=[\"./mvnw\"], decision=\"forbidden\")\n";
    fs::write(&file, text).unwrap();
    let (status, out, err) = home.told(&["rules", "import", "default.rules"]);
    assert_eq!(status, 0, "{err}");
    assert!(out.starts_with("imported: 2 rules into"), "{out}");
    for told in [
        "line 1: not taken over: allow ./gradlew: what allows",
        "line 2: not taken over: allow .venv/bin/pytest: what allows",
        "line 3: deny ./mvnw: as `mvnw`, wherever it lies",
    ] {
        assert!(err.contains(told), "{told}: {err}");
    }
    for (line, expected) in
        [("gradle test", 0), ("./gradlew test", 3), (".venv/bin/pytest", 3), ("./mvnw x", 4)]
    {
        assert_eq!(home.said(&["-a", "untrusted", "--line", line]).0, expected, "{line}");
    }
}

#[test]
fn permissions_of_claude_codes_settings_are_taken_over() {
    let home = Home::new("");
    let file = home.folder.path().join("work/settings.local.json");
    let text = "{\"permissions\": {\n\"allow\": [\"Bash(npm run test:*)\",\n\"Read(./x)\",\n\
                \"WebFetch(domain:docs.rs)\"],\n\"deny\": [\"Bash(rm -rf:*)\"]}}\n";
    fs::write(&file, text).unwrap();
    let (status, out, err) = home.told(&["rules", "import", "settings.local.json"]);
    assert_eq!(status, 0, "{err}");
    assert!(out.starts_with("imported: 2 rules and 1 host into"), "{out}");
    assert!(err.contains("line 3: not taken over: Read(./x): it is no rule about"), "{err}");
    for (line, expected) in [
        ("npm run test -- -u", 0),
        ("npm run tests", 3),
        ("npm run test && rm -rf x", 4),
        ("rm -r x", 3),
    ] {
        assert_eq!(home.said(&["-a", "untrusted", "--line", line]).0, expected, "{line}");
    }
    fs::write(&file, "{\"permissions\": {").unwrap();
    let (status, _, err) = home.told(&["rules", "import", "settings.local.json"]);
    assert_eq!(status, 2, "{err}");
}

#[test]
fn a_file_of_rules_is_tested_before_it_is_used() {
    let home = Home::new(RULES);
    assert_eq!(home.told(&["rules", "test"]).1, "3 rules, 1 example: all hold\n");
    let file = home.folder.path().join("work/new.toml");
    fs::write(&file, "[[rules]]\nprefix = 'a'\nallow = true\nnot_match = ['a b']\n").unwrap();
    let (status, _, err) = home.told(&["rules", "test", "new.toml"]);
    assert_eq!(status, 1);
    assert!(err.contains("new.toml:4:14") && err.contains("which it must not"), "{err}");
}
