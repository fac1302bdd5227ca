//! Rules that deny hold for what the agent's commands start, too.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, text, told, users};

const RAN: &str = "#!/bin/sh\necho ran \"$@\" | tee -a src/ran\n";

fn place(uid: u32) -> Place {
    Place::with(uid, |work| {
        fs::create_dir_all(work.join("src")).unwrap();
        fs::create_dir_all(work.join("tests")).unwrap();
        let up = "#!/bin/sh\ntests/docker up\necho went on $?\nexit 3\n";
        for (name, script) in [("docker", RAN), ("podman", RAN), ("up", up)] {
            let path = work.join("tests").join(name);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    })
}

#[test]
fn what_a_command_starts_is_held_by_the_rules_that_deny() {
    let ways: [&[&str]; 3] = [&[], &["--draft"], &["-s", "danger-full-access"]];
    for (uid, way) in users().into_iter().flat_map(|uid| ways.map(|way| (uid, way))) {
        let place = place(uid);
        let model = FakeModel::start(vec![
            Step::Shell("tests/podman up".to_owned()),
            Step::Shell("tests/up".to_owned()),
            Step::Shell("tests/up 2> /dev/null".to_owned()),
            Step::say("done"),
        ])
        .unwrap();
        let mut words = vec!["local", "--json", "bring it up"];
        words.extend(way);
        let output = place.stockade(&model, &words);
        let shown = text(&output);
        assert!(output.status.success(), "{uid}: {shown}");
        let told = told(&model);
        assert!(told[0].contains("ran up"), "the control: {}", told[0]);
        assert!(
            told[1].contains("stockade: refused: rule \"docker\"")
                && told[1].contains("denies this command")
                && told[1].contains("went on 126")
                && told[1].contains("do not work around it")
                && told[1].matches("refused").count() == 1,
            "{uid}: {}",
            told[1]
        );
        assert!(told[2].contains("went on 126") && !told[2].contains("ran"), "{}", told[2]);
        let finished: Vec<Value> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|event: &Value| event["type"] == "command.finished")
            .collect();
        assert_eq!(finished[0]["denials"], serde_json::json!([]));
        if way.contains(&"danger-full-access") {
            // There is no list without a boundary; the reason is in what was printed.
            continue;
        }
        let denial = &finished[1]["denials"][0];
        assert_eq!(denial["op"], "execute", "{denial}");
        assert!(denial["target"].as_str().unwrap().ends_with("tests/docker"), "{denial}");
        assert!(denial["decided_by"].as_str().unwrap().contains("rule \"docker\""), "{denial}");
    }
}
