//! A process that writes is killed at any moment; what it acknowledged is there.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use stockade_threads::ThreadId;
use stockade_threads::record::State;
use stockade_threads::store::Store;

use crate::store::{message, new_thread};

/// Kills a writer after `lines` acknowledgements and gives the number of the last that was seen.
fn kill_after(root: &Path, lines: usize) -> Option<u64> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::writer", "--ignored", "--nocapture"])
        .env("STORE_ROOT", root)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut killed = false;
    let mut last = None;
    for (count, line) in output.lines().map_while(Result::ok).enumerate() {
        last = line.strip_prefix("wrote ").and_then(|number| number.parse().ok()).or(last);
        if count >= lines && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    assert!(killed, "a writer that ends by itself proves nothing");
    child.wait().unwrap();
    last
}

/// Threat model, R4: "… and a killed writer loses nothing acknowledged."
#[test]
fn a_writer_killed_at_any_moment_leaves_a_store_that_opens() {
    let lab = tempfile::tempdir().unwrap();
    let root = lab.path().join("state");
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..100 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let lines = usize::try_from(seed % 40).unwrap();
        let acknowledged = kill_after(&root, lines);
        let store = Store::open(&root).unwrap();
        let threads = store.list(None).unwrap();
        let latest = threads.first().filter(|thread| thread.state == State::Interrupted);
        let Some(latest) = latest else {
            assert_eq!(acknowledged, None, "round {round}");
            continue;
        };
        let id: ThreadId = latest.id.parse().unwrap();
        let verified = store.verify(&id).unwrap();
        if let Some(acknowledged) = acknowledged {
            assert!(verified.records > acknowledged, "round {round}: {verified:?}");
        }
        let thread = store.resume(&id).unwrap();
        thread.finish(State::Failed, 1, "killed").unwrap();
        store.verify(&id).unwrap();
    }
}

#[test]
#[ignore = "the child of a_writer_killed_at_any_moment_leaves_a_store_that_opens"]
fn writer() {
    let Some(root) = std::env::var_os("STORE_ROOT") else { return };
    let store = Store::open(Path::new(&root)).unwrap();
    let thread = store.create(&new_thread(Path::new("/w"))).unwrap();
    for number in 1_u64.. {
        let length = usize::try_from(number * 7919 % 20_000).unwrap();
        thread.record(&message(&"x".repeat(length))).unwrap();
        println!("wrote {number}");
    }
}
