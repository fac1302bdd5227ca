//! `config show`: every value, and where it comes from.

use std::fmt::Write as _;
use std::path::PathBuf;

use stockade_config::Origins;

use crate::lab::Lab;

#[test]
fn every_value_is_told_with_its_source() {
    let mut lab = Lab::new();
    for name in ["home/work/src", "home/out", "home/secret", "home/.ssh"] {
        lab.folder(name);
    }
    lab.write("home/work/.env", "");
    lab.user("hidden = ['~/secret']\n[sandbox_workspace_write]\nwritable_roots = ['src']\n");
    lab.request.add_dirs = vec![PathBuf::from("../out")];
    lab.request.options = vec!["limits.wall_time='90s'".to_owned()];
    let loaded = lab.loaded();
    let values = loaded.values(&lab.request);
    let told = |key: &str| {
        let found = values.iter().filter(|value| value.key == key);
        found.map(|it| lab.shown(&format!("{} {}", it.value, it.source))).collect::<Vec<_>>()
    };
    assert_eq!(told("sandbox_mode"), ["\"workspace-write\" built-in"]);
    assert_eq!(told("limits.wall_time"), ["\"90s\" -c:1"]);
    assert_eq!(told("hidden"), ["\"~/secret\" TOP/home/.config/stockade/config.toml:1"]);
    assert_eq!(
        told("sandbox_workspace_write.writable_roots"),
        ["\"src\" TOP/home/.config/stockade/config.toml:3", "\"../out\" --add-dir"]
    );
    assert!(
        values.iter().all(|value| serde_json::from_str::<serde_json::Value>(&value.value).is_ok())
    );

    let origins = Origins::of(&lab.env, &lab.request, &loaded);
    let shown = |text: String| lab.shown(&text);
    let top = &lab.top;
    assert_eq!(
        shown(origins.writable(&top.join("home/work/src"))),
        "TOP/home/.config/stockade/config.toml:3"
    );
    assert_eq!(origins.writable(&top.join("home/out")), "--add-dir");
    assert_eq!(
        shown(origins.hidden(&top.join("home/secret"))),
        "TOP/home/.config/stockade/config.toml:1"
    );
    assert_eq!(origins.hidden(&top.join("home/.ssh")), "built-in: secrets");
    assert!(Origins::protected(&top.join("home/work/.env")).contains("secrets and switches"));
}

/// What `config show` prints can be put into a file.
#[test]
fn what_is_told_can_be_written() {
    let lab = Lab::new();
    lab.user("[limits]\nprocesses = 77\ntmp_size = '3MiB'\nwall_time = '90s'\n");
    let mut text = String::new();
    for value in lab.loaded().values(&lab.request) {
        writeln!(text, "{} = {}", value.key, value.value).unwrap();
    }
    lab.user(&text);
    let limits = lab.loaded().policy.limits;
    assert_eq!((limits.processes, limits.tmp_bytes), (77, 3 << 20));
}
