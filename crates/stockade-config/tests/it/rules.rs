//! Command rules as they are read: what a grant opens, until when, for whom.
#![expect(clippy::unwrap_used, reason = "what is missing has failed the test")]

use std::fs;
use std::path::Path;

use stockade_config::{AnsweredKind, Layer, Loaded, RuleFile, Scope, load};
use stockade_policy::Verdict;

use crate::lab::Lab;

fn loaded(lab: &Lab) -> Loaded {
    load(&lab.env, &lab.request).unwrap()
}

fn refused(lab: &Lab) -> String {
    let error = load(&lab.env, &lab.request).unwrap_err();
    lab.shown(&format!("{error}\n{}", error.hint().unwrap_or_default()))
}

#[test]
fn a_grant_names_paths_that_are_there_hosts_and_ports() {
    let lab = Lab::new();
    lab.folder("srv/out/.vscode");
    lab.link("srv/way", "out");
    lab.user(&format!(
        "[[rules]]\nprefix = 'a'\ndecision = 'ask'\n\
         grant = {{ paths = ['{0}/srv/way', '{0}/srv/none'], ports = [5432],\n\
         hosts = ['localhost:80', 'example.org'] }}\n",
        lab.top.display()
    ));
    let loaded = loaded(&lab);
    let grant = loaded.rule_set().rules()[0].named().grant;
    assert_eq!(lab.names(&grant.writable), ["srv/out"]);
    assert_eq!(lab.names(&grant.protected), ["srv/out/.vscode"]);
    assert_eq!((grant.ports, grant.hosts), (vec![80, 5432], vec!["example.org".to_owned()]));
    assert!(!lab.names(&loaded.policy.writable).contains(&"srv/out".to_owned()));
    let warnings: Vec<String> = loaded.warnings.iter().map(|text| lab.shown(text)).collect();
    let expected = "TOP/home/.config/stockade/config.toml:1: `TOP/srv/none` of the grant does not \
                    exist, and is not opened";
    assert_eq!(warnings, [expected]);
}

#[test]
fn a_grant_opens_nothing_that_configuration_could_not() {
    let lab = Lab::new();
    lab.folder("home/.ssh");
    lab.folder("home/work/.vscode");
    for (path, why) in [
        ("~", "it holds your home"),
        ("/", "it holds your home"),
        ("~/.ssh", "it is secret"),
        ("~/.config/stockade", "Stockade's own files lie there"),
        ("/etc", "it belongs to the system"),
        (".vscode", "it is protected"),
    ] {
        lab.user(&format!(
            "[[rules]]\nprefix = 'a'\nallow = true\ngrant = {{ paths = ['{path}'] }}\n"
        ));
        let text = refused(&lab);
        let place = "TOP/home/.config/stockade/config.toml:1: the grant of `";
        assert!(text.starts_with(place) && text.contains(why), "{path}: {text}");
    }
}

#[test]
fn what_is_wrong_in_a_rule_is_shown_where_it_stands() {
    let lab = Lab::new();
    let start = "[[rules]]\nprefix = 'a'\n";
    for (text, place, why) in [
        ("allow = true\nexpires = 'soon'", "4:11", "a date, such as"),
        ("allow = true\nexpires = 2030-02-30", "4:", ""),
        ("allow = true\nexpires = 12:00:00", "4:11", "a date, such as"),
        ("allow = true\nscope = 'system'", "4:9", "has the scope `user`"),
        ("allow = true\nscope = 'all'", "4:9", "one of `thread`"),
        ("allow = false\ngrant = { ports = [1] }", "4:9", "opens nothing"),
        ("allow = true\ngrant = { ports = [0] }", "4:20", "ports from 1"),
        ("allow = true\ngrant = { hosts = ['localhost:x'] }", "4:19", "a port from 1"),
        ("allow = true\ngrant = { hosts = ['https://x'] }", "4:19", "hosts as in"),
        ("allow = true\ngrant = { path = ['x'] }", "4:11", "did you mean `paths`?"),
        ("allow = true\nexpire = 'x'", "4:1", "did you mean `expires`?"),
        ("allow = true\nmatch = ['b']", "4:10", "does not match its example"),
    ] {
        lab.user(&format!("{start}{text}\n"));
        let shown = refused(&lab);
        let place = format!("TOP/home/.config/stockade/config.toml:{place}");
        assert!(shown.contains(&place) && shown.contains(why), "{text}: {shown}");
    }
}

#[test]
fn a_rule_that_is_over_holds_no_longer() {
    let lab = Lab::new();
    // The laboratory's clock stands in January 2027.
    lab.user(
        "[[rules]]\nprefix = 'a'\nallow = true\nexpires = 2026-12-31\n\
         [[rules]]\nprefix = 'b'\nallow = true\nexpires = '2027-12-31'\nscope = 'user'\n",
    );
    let loaded = loaded(&lab);
    let names = |rules: &[stockade_config::RuleText]| -> Vec<String> {
        rules.iter().map(|rule| rule.rule().unwrap().named().prefix).collect()
    };
    assert_eq!(
        (names(&loaded.rules), names(&loaded.expired)),
        (vec!["b".into()], vec!["a".into()])
    );
    assert_eq!(loaded.rules[0].scope(), Scope::User);
    assert_eq!(loaded.rules[0].expires.as_ref().unwrap().as_str(), "2027-12-31");
}

#[test]
fn answers_for_a_project_count_there_and_nowhere_else() {
    let mut lab = Lab::new();
    let file = lab.env.answers_file(&lab.work()).unwrap();
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let write = |workspace: &str, rest: &str| {
        let rule = "[[rules]]\nprefix = 'a'\nallow = true\n";
        fs::write(&file, format!("workspace = '{workspace}'\n{rest}{rule}")).unwrap();
    };
    write(lab.work().to_str().unwrap(), "");
    let rules = loaded(&lab).rules;
    assert_eq!((rules[0].decision, rules[0].scope()), (Verdict::Allow, Scope::Project));
    lab.request.workspace = Some(lab.folder("home/other"));
    assert!(loaded(&lab).rules.is_empty());
    lab.request.workspace = None;
    write("/elsewhere", "");
    let other = loaded(&lab);
    assert!(other.rules.is_empty());
    assert!(other.warnings[0].contains("these are answers for `/elsewhere`"), "{other:?}");
    write(lab.work().to_str().unwrap(), "sandbox_mode = 'danger-full-access'\n");
    assert!(refused(&lab).contains("unknown key `sandbox_mode`"));
}

#[test]
fn hosts_are_allowed_and_taken_back_in_the_answers_of_one_project() {
    let mut lab = Lab::new();
    let path = lab.env.answers_file(&lab.work()).unwrap();
    let workspace = Some(lab.work());
    let file = RuleFile { path: path.clone(), layer: Layer::Answers, workspace };
    file.allow(AnsweredKind::Host, "A.example.org:443").unwrap();
    file.allow(AnsweredKind::Host, "a.example.org:443").unwrap();
    file.allow(AnsweredKind::Host, "*.b.example.org").unwrap();
    assert!(
        file.allow(AnsweredKind::Host, "*").is_err()
            && file.allow(AnsweredKind::Host, "x\"]\ny=1").is_err()
    );
    let entries = |file: &RuleFile| -> Vec<String> {
        file.answered().unwrap().into_iter().map(|host| host.entry).collect()
    };
    assert_eq!(entries(&file), ["a.example.org:443", "*.b.example.org"]);
    let hosts = file.answered().unwrap();
    assert_ne!(hosts[0].place, hosts[1].place, "a line each");
    let allowed = |lab: &Lab| -> Vec<String> {
        loaded(lab).policy.network.allow.iter().map(ToString::to_string).collect()
    };
    assert_eq!(allowed(&lab).len(), 2);
    // Another project has none of it, and its file says of no other.
    lab.request.workspace = Some(lab.folder("home/other"));
    assert!(allowed(&lab).is_empty());
    let elsewhere = RuleFile { workspace: Some("/elsewhere".into()), ..file.clone() };
    assert!(entries(&elsewhere).is_empty());
    lab.request.workspace = None;
    assert_eq!(file.revoke_entry(&hosts[0].place).unwrap(), hosts[0]);
    assert_eq!(entries(&file), ["*.b.example.org"]);
    assert_eq!(allowed(&lab).len(), 1);
    assert!(file.revoke_entry("a.example.org:443").is_err());
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("allow =", "private =")).unwrap();
    assert!(refused(&lab).contains("unknown key `network.private`"));
}

/// Issue 6, item 6: a path that was answered for is one more writable root, whatever else narrows, and
/// never one that configuration could not open.
#[test]
fn paths_that_were_answered_for_are_added_and_narrow_nothing() {
    let lab = Lab::new();
    let path = lab.env.answers_file(&lab.work()).unwrap();
    let file = RuleFile { path, layer: Layer::Answers, workspace: Some(lab.work()) };
    let outside = lab.folder("home/outside");
    let inside = lab.folder("home/work/docs");
    lab.folder("home/work/src");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    assert!(file.allow(AnsweredKind::Path, &text(&outside)).unwrap());
    assert!(!file.allow(AnsweredKind::Path, &text(&outside)).unwrap(), "it is there");
    assert!(
        file.allow(AnsweredKind::Path, "outside").is_err(),
        "it would start elsewhere elsewhere"
    );
    file.allow(AnsweredKind::Path, &text(&inside)).unwrap();
    assert_eq!(lab.writable(), ["home/outside", "home/work"], "the workspace is whole");
    lab.project("[sandbox_workspace_write]\nwritable_roots = ['src']\n");
    let all = ["home/outside", "home/work/docs", "home/work/src"];
    assert_eq!(lab.writable(), all, "a person said so");
    let entries = file.answered().unwrap();
    assert_eq!(file.revoke_entry(&entries[1].place).unwrap().kind, AnsweredKind::Path);
    fs::remove_dir(&outside).unwrap();
    lab.link("home/outside", "elsewhere");
    lab.folder("home/elsewhere");
    assert_eq!(lab.writable(), ["home/work/src"], "a link that came later is not followed");
    assert!(lab.warnings().concat().contains("it leads elsewhere by now"), "{:?}", lab.warnings());
    file.allow(AnsweredKind::Path, &text(&lab.folder("home/.ssh"))).unwrap();
    assert!(refused(&lab).contains("it is secret"));
}

/// Issue 6, item 6: an answer is to one rule of the user's, and never to what the machine requires.
#[test]
fn answers_to_rules_are_kept_and_taken_back_but_not_to_a_requirement() {
    let lab = Lab::new();
    let path = lab.env.answers_file(&lab.work()).unwrap();
    let file = RuleFile { path, layer: Layer::Answers, workspace: Some(lab.work()) };
    lab.user("[[rules]]\nprefix = ['git', ['push', 'fetch']]\ndecision = 'ask'\n");
    let words = ["git", "push", "a\"b"].map(str::to_owned);
    file.answer("git push|fetch", &words).unwrap();
    file.answer("git push|fetch", &words).unwrap();
    let answers = lab.loaded().answered_rules();
    assert_eq!((answers.len(), &answers[0].prefix[..]), (1, &words[..]));
    lab.write(
        "system/requirements.toml",
        "[[rules]]\nprefix = ['git', ['push', 'fetch']]\ndecision = 'ask'\n",
    );
    assert!(lab.loaded().answered_rules().is_empty(), "the machine requires that it is asked");
    assert_eq!(file.revoke_answer(&answers[0].place).unwrap(), answers[0]);
    assert!(file.answered_rules().unwrap().is_empty());
    assert!(file.revoke_answer(&answers[0].place).is_err());
    file.answer("x", &words).unwrap();
    let text = fs::read_to_string(&file.path).unwrap().replace("rule =", "rules =");
    fs::write(&file.path, text).unwrap();
    assert!(refused(&lab).contains("unknown key `rules`"));
}

#[test]
fn a_projects_own_rule_says_nothing_about_what_is_opened() {
    let lab = Lab::new();
    lab.folder("srv");
    let srv = lab.top.join("srv");
    lab.project(&format!(
        "[[rules]]\nprefix = 'a'\ndecision = 'ask'\nscope = 'project'\n\
         grant = {{ paths = ['{}'] }}\n",
        srv.display()
    ));
    let loaded = loaded(&lab);
    assert!(loaded.rule_set().rules()[0].named().grant.is_empty());
    assert!(loaded.warnings[0].contains("may not say what an approval opens"), "{loaded:?}");
}
