use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use stockade_policy::{AbsPath, HostName, LoginRule};

use super::*;

/// Makes a key that `words` open, by OpenSSH itself.
fn make(path: &Path, words: &str) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-C", "me at home", "-N", words, "-f"]).arg(path);
    assert!(keygen.status().expect("OpenSSH's client").success());
}

fn keys(path: &Path, agent: Option<PathBuf>) -> UserKeys {
    let rule = LoginRule {
        host: HostName::new("a.org").unwrap(),
        user: "git".to_owned(),
        key: AbsPath::new(path).unwrap(),
        place: "config.toml:3".to_owned(),
    };
    UserKeys::new(Logins { rules: vec![rule], agent, ..Logins::default() })
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

/// A request for a signature over something.
fn request(key: &PublicKey) -> Vec<u8> {
    [&[13][..], &string(&key.blob), &string(b"something"), &[0; 4]].concat()
}

const BIND: &[u8] = &[27];

#[test]
fn a_file_s_key_signs_and_its_agent_is_gone_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    make(&path, "");
    let keys = keys(&path, None);
    let key = keys.key("a.org").unwrap();
    assert_eq!(key.comment, "me at home");
    assert!(key.blob.starts_with(&string(b"ssh-ed25519")));
    let signature = keys.sign(&key, BIND, &request(&key)).unwrap();
    assert!(signature.starts_with(&string(b"ssh-ed25519")) && signature.len() == 83);

    let agent = OwnAgent::start(&path).unwrap();
    let socket = agent.socket.clone();
    let held = UserAgent::connect(&socket).unwrap().keys().unwrap();
    assert_eq!(held.len(), 1);
    drop(agent);
    // At once, or when it sees that it is alone, ten seconds later.
    let end = Instant::now() + Duration::from_mins(2);
    while UserAgent::connect(&socket).is_ok() && Instant::now() < end {
        poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 50_000_000 })).unwrap();
    }
    assert!(UserAgent::connect(&socket).is_err(), "it lives on");
}

#[test]
fn the_public_half_is_found_without_its_file_and_named_instead_of_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    make(&path, "");
    let public = folder.path().join("k.pub");
    let by_public = keys(&public, None);
    let key = by_public.key("a.org").unwrap();
    assert!(by_public.sign(&key, BIND, &request(&key)).is_ok());
    fs::remove_file(&public).unwrap();
    assert_eq!(keys(&path, None).key("a.org").unwrap().blob, key.blob);
    let none = keys(&folder.path().join("other"), None).key("a.org").unwrap_err();
    assert!(none.contains("no key can be read in `") && none.contains("config.toml:3"), "{none}");
}

#[test]
fn a_key_that_words_open_is_one_for_the_users_agent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("k");
    make(&path, "open sesame");
    let alone = keys(&path, None);
    let key = alone.key("a.org").unwrap();
    let why = alone.sign(&key, BIND, &request(&key)).unwrap_err();
    assert!(why.contains("`ssh-add ") && why.contains("ssh-add did not take it"), "{why}");

    // An agent of the user's that holds another one, and then this one.
    let other = folder.path().join("other");
    make(&other, "");
    let agent = OwnAgent::start(&other).unwrap();
    let with_agent = keys(&path, Some(agent.socket.clone()));
    let key = with_agent.key("a.org").unwrap();
    assert!(with_agent.sign(&key, BIND, &request(&key)).is_err());
    let held = keys(&other, Some(agent.socket.clone()));
    let key = held.key("a.org").unwrap();
    fs::remove_file(&other).unwrap();
    assert!(held.sign(&key, BIND, &request(&key)).is_ok(), "the agent has it");
}
