//! Old records go by themselves, said; what holds somebody's work stays.

use std::fs;
use std::process::Command;

use serde_json::Value;
use stockade_testkit::model::{FakeModel, Step};

use crate::place::{Place, text, users};

/// The ids of all threads that there are.
fn ids(place: &Place, model: &FakeModel) -> Vec<String> {
    let listed = place.stockade(model, &["threads", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let id = |thread: &Value| thread["id"].as_str().unwrap().to_owned();
    listed.as_array().unwrap().iter().map(id).collect()
}

/// Makes all records `days` older, and the last look at them. An overlay's own `work/work` has mode
/// 000, so that only root could look into it.
fn age(place: &Place, days: u32) {
    let state = place.home().join(".local/state/stockade");
    let find = format!(
        "find \"$1\" -path '*/work/work' -prune -o -exec touch -h -d '{days} days ago' {{}} +"
    );
    let aged = Command::new("sh").args(["-c", &find, "sh"]).arg(state).status();
    assert!(aged.unwrap().success());
}

#[test]
fn old_records_go_and_a_draft_that_nobody_has_applied_stays() {
    let place = Place::new(*users().last().unwrap());
    let model = FakeModel::start(vec![Step::say("Done.")]).unwrap();
    let writes =
        FakeModel::start(vec![Step::Shell("echo x > src/new".to_owned()), Step::say("Done.")])
            .unwrap();
    let go = |model: &FakeModel, options: &[&str]| {
        let output = place.stockade(model, &[&["local"], options, &["go"]].concat());
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    go(&model, &[]);
    go(&writes, &["--draft"]);
    go(&writes, &[]);
    let [changed, draft, old] = <[String; 3]>::try_from(ids(&place, &model)).unwrap();
    let undo = |id: &str| place.home().join(".local/state/stockade/undo").join(id).exists();
    assert!(undo(&changed));
    age(&place, 20);
    assert!(!go(&model, &[]).contains("old records removed"), "nothing is old enough");
    age(&place, 200);
    place.configure("\n[retention]\nautomatic = false\n");
    assert!(!go(&model, &[]).contains("old records removed"), "not wanted");
    let config = place.home().join(".config/stockade/config.toml");
    let wanted = fs::read_to_string(&config).unwrap();
    fs::write(&config, wanted.replace("automatic = false", "undo = \"400d\"")).unwrap();
    age(&place, 200);
    let said = go(&model, &[]);
    assert!(
        said.contains("old records removed: ") && said.contains("threads without changes"),
        "{said}"
    );
    let left = ids(&place, &model);
    assert!(left.contains(&draft) && left.contains(&changed) && !left.contains(&old), "{left:?}");
    assert!(undo(&changed), "the user wants it for 400 days");
    assert!(!go(&model, &[]).contains("old records removed"), "once a day");
    let applied = place.stockade(&model, &["threads", "apply", &draft]);
    assert!(place.work().join("src/new").exists(), "{}", text(&applied));
}
