use std::sync::Mutex;

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use stockade_policy::{AbsPath, HostName, HostRule, LoginRule, Network};

use super::wire::string;
use super::*;
use crate::grants::AskHost;
use crate::{Gateway, Means};

fn blob(parts: &[&[u8]]) -> Vec<u8> {
    let mut blob = Vec::new();
    for part in parts {
        string(&mut blob, part);
    }
    blob
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(pair: &Ed25519KeyPair) -> Vec<u8> {
    blob(&[b"ssh-ed25519", pair.public_key().as_ref()])
}

const SESSION: &[u8] = &[5; 32];

fn bind_by(host: &Ed25519KeyPair, session: &[u8], is_forwarding: bool) -> Vec<u8> {
    let signature = blob(&[b"ssh-ed25519", host.sign(session).as_ref()]);
    let host_key = public(host);
    Request::Bind(Bind { host_key: &host_key, session, signature: &signature, is_forwarding })
        .message()
}

fn login(session: &[u8], user: &str, key: &[u8], host_key: Option<&[u8]>) -> Vec<u8> {
    let mut data = blob(&[session]);
    data.push(50);
    let method =
        if host_key.is_some() { &b"publickey-hostbound-v00@openssh.com"[..] } else { b"publickey" };
    data.extend(blob(&[user.as_bytes(), b"ssh-connection", method]));
    data.push(1);
    data.extend(blob(&[b"ssh-ed25519", key]));
    data.extend(host_key.map(|key| blob(&[key])).unwrap_or_default());
    Request::Sign { key, data: &data, flags: 0 }.message()
}

/// The user: one key, a host that is known, and an answer to questions.
struct User;

impl Keys for User {
    fn known(&self) -> KnownHosts {
        let mut known = KnownHosts::default();
        for (host, seed) in [("a.org", 1), ("evil.org", 2), ("granted.a.org", 3)] {
            let text = crate::base64::encode(&public(&pair(seed)));
            known.read(&format!("{host} ssh-ed25519 {text}"));
        }
        known
    }

    fn key(&self, host: &str) -> Result<PublicKey, String> {
        assert!(host.ends_with("a.org"), "{host} was never allowed");
        Ok(PublicKey { blob: public(&pair(9)), comment: "me".to_owned() })
    }

    fn sign(&self, _key: &PublicKey, bind: &[u8], _request: &[u8]) -> Result<Vec<u8>, String> {
        assert!(matches!(Request::read(bind), Request::Bind(_)));
        Ok(b"SIGNATURE".to_vec())
    }
}

struct Person(Mutex<Vec<Login>>);

impl AskHost for Person {
    fn is_present(&self) -> bool {
        true
    }

    fn is_granted(&self, host: &str, port: u16) -> bool {
        (host, port) == ("granted.a.org", 22)
    }

    fn ask(&self, _host: &str, _port: u16, _process: Option<u32>) -> Given {
        Given::No("no".to_owned())
    }

    fn ask_login(&self, login: &Login) -> Given {
        self.0.lock().unwrap().push(login.clone());
        if login.user == "me" { Given::Once } else { Given::No("not allowed: no".to_owned()) }
    }
}

struct Lab {
    gateway: Gateway,
    broker: Broker,
    person: Arc<Person>,
    told: Arc<Mutex<Vec<Event>>>,
}

impl Lab {
    /// `a.org` (key 1) and `evil.org` (key 2) are known, one of them is allowed, and there as `git`.
    fn new() -> Self {
        let allow = HostRule { entry: "a.org:22".parse().unwrap(), place: "t".into() };
        let mut network = Network { allow: vec![allow], ..Network::default() };
        network.logins.rules.push(LoginRule {
            host: HostName::new("a.org").unwrap(),
            user: "git".to_owned(),
            key: AbsPath::new("/k").unwrap(),
            place: "config.toml:3".to_owned(),
        });
        let broker = Broker { keys: Arc::new(User) };
        let means = Means { logins: Some(broker.clone()), ..Means::default() };
        let told = Arc::<Mutex<Vec<Event>>>::default();
        let log = Arc::clone(&told);
        let gateway = Gateway::new(network, means, move |event| {
            log.lock().unwrap().push(event.clone());
        });
        let person = Arc::new(Person(Mutex::default()));
        gateway.ask_by(Arc::clone(&person) as Arc<dyn AskHost>);
        Self { gateway, broker, person, told }
    }

    fn conversation(&self) -> Conversation<'_> {
        Conversation {
            service: &self.gateway.0,
            broker: &self.broker,
            caller: None,
            state: State::New,
        }
    }

    fn why(&self) -> String {
        match self.told.lock().unwrap().last() {
            Some(Event::Refused { why, .. }) => why.clone(),
            other => panic!("{other:?}"),
        }
    }
}

fn key() -> Vec<u8> {
    public(&pair(9))
}

const NO_KEYS: &[u8] = &[12, 0, 0, 0, 0];
const NO: &[u8] = &[wire::FAILURE];
const YES: &[u8] = &[wire::SUCCESS];

#[test]
fn a_log_in_at_an_allowed_host_is_signed() {
    let lab = Lab::new();
    let mut agent = lab.conversation();
    assert_eq!(agent.answer(&Request::Identities.message()), NO_KEYS);
    assert_eq!(agent.answer(&bind_by(&pair(1), SESSION, false)), YES);
    let keys = wire::read_identities(&agent.answer(&Request::Identities.message()));
    assert_eq!(keys, Some(vec![(key(), "me".to_owned())]));
    for host_key in [None, Some(public(&pair(1)))] {
        let answer = agent.answer(&login(SESSION, "git", &key(), host_key.as_deref()));
        assert_eq!(wire::read_signed(&answer).as_deref(), Some(&b"SIGNATURE"[..]));
    }
    assert!(lab.person.0.lock().unwrap().is_empty(), "a rule says so, and nobody was asked");
    let told = lab.told.lock().unwrap();
    let Some(Event::Login { host, user, rule, .. }) = told.last() else { panic!("{told:?}") };
    assert_eq!((host.as_str(), user.as_str()), ("a.org", "git"));
    assert_eq!(rule, "allowed by `[[network.ssh]]` (config.toml:3)");
}

#[test]
fn as_somebody_else_a_person_is_asked() {
    let lab = Lab::new();
    let mut agent = lab.conversation();
    agent.answer(&bind_by(&pair(1), SESSION, false));
    let answer = agent.answer(&login(SESSION, "me", &key(), None));
    assert!(wire::read_signed(&answer).is_some());
    assert_eq!(agent.answer(&login(SESSION, "root", &key(), None)), NO);
    assert_eq!(lab.why(), "a log-in as `root` is not allowed: no");
    let asked = lab.person.0.lock().unwrap();
    let users: Vec<_> = asked.iter().map(|login| login.user.as_str()).collect();
    assert_eq!(users, ["me", "root"]);
    assert!(asked.iter().all(|login| login.host == "a.org" && login.comment == "me"));
}

#[test]
fn nothing_else_is_signed() {
    let lab = Lab::new();
    let mut agent = lab.conversation();
    // Before a session is bound.
    assert_eq!(agent.answer(&login(SESSION, "git", &key(), None)), NO);
    assert_eq!(agent.answer(&bind_by(&pair(1), SESSION, false)), YES);
    let other_key = public(&pair(7));
    let another = |data: &[u8]| Request::Sign { key: &key(), data, flags: 0 }.message();
    for wrong in [
        login(&[6; 32], "git", &key(), None),
        login(SESSION, "git", &other_key, None),
        login(SESSION, "git", &key(), Some(&public(&pair(2)))),
        another(b"SSHSIG"),
        another(b""),
        another(SESSION),
        login(SESSION, &"g".repeat(257), &key(), None),
    ] {
        assert_eq!(agent.answer(&wrong), NO, "{wrong:?}");
        assert!(matches!(lab.told.lock().unwrap().last(), Some(Event::Refused { .. })));
    }
    // To add, remove, lock: nothing that this agent does.
    for kind in [17, 18, 19, 22, 25, 255] {
        assert_eq!(agent.answer(&[kind, 0, 0, 0, 0]), NO);
    }
    let answer = agent.answer(&login(SESSION, "git", &key(), None));
    assert!(wire::read_signed(&answer).is_some(), "the control");
    assert!(lab.person.0.lock().unwrap().is_empty());
}

#[test]
fn only_a_session_with_an_allowed_host_is_bound_and_one_only() {
    let lab = Lab::new();
    let forged = {
        // The key of the host, and somebody else's signature.
        let signature = blob(&[b"ssh-ed25519", pair(2).sign(SESSION).as_ref()]);
        let host_key = public(&pair(1));
        let (session, is_forwarding) = (SESSION, false);
        Request::Bind(Bind { host_key: &host_key, session, signature: &signature, is_forwarding })
            .message()
    };
    for (bind, why) in [
        (bind_by(&pair(2), SESSION, false), "is of no host in your `known_hosts`"),
        (bind_by(&pair(8), SESSION, false), "is of no host in your `known_hosts`"),
        (bind_by(&pair(1), SESSION, true), "forwarded"),
        (bind_by(&pair(1), b"", false), "no host's key has signed"),
        (forged, "no host's key has signed"),
    ] {
        let mut agent = lab.conversation();
        assert_eq!(agent.answer(&bind), NO);
        assert!(lab.why().contains(why), "{} {why}", lab.why());
        assert_eq!(agent.answer(&Request::Identities.message()), NO_KEYS);
        // What was refused once is about somebody else for good.
        assert_eq!(agent.answer(&bind_by(&pair(1), SESSION, false)), NO);
        assert_eq!(agent.answer(&login(SESSION, "git", &key(), None)), NO);
    }
    let mut agent = lab.conversation();
    assert_eq!(agent.answer(&bind_by(&pair(1), SESSION, false)), YES);
    assert_eq!(agent.answer(&bind_by(&pair(1), &[6; 32], false)), NO, "a second hop");
    assert_eq!(agent.answer(&login(SESSION, "git", &key(), None)), NO);
}

#[test]
fn a_host_that_a_person_allowed_is_one() {
    let lab = Lab::new();
    let bind = bind_by(&pair(3), SESSION, false);
    assert_eq!(lab.conversation().answer(&bind), NO, "nobody inside has asked for its name");
    lab.gateway.0.names.addresses(&HostName::new("granted.a.org").unwrap());
    let mut agent = lab.conversation();
    assert_eq!(agent.answer(&bind), YES);
    assert!(wire::read_signed(&agent.answer(&login(SESSION, "me", &key(), None))).is_some());
    assert_eq!(agent.answer(&login(SESSION, "git", &key(), None)), NO, "no rule of this host's");
}

#[test]
fn ssh_inside_knows_the_keys_of_hosts_that_programs_connect_to_and_no_others() {
    let lab = Lab::new();
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut inside = File::from(rustix::fs::memfd_create("known hosts", flags).unwrap());
    let shown = Mutex::new((inside.try_clone().unwrap(), HashSet::new()));
    lab.gateway.0.introduced.0.set(shown).unwrap();
    let meet = |name: &str| introduce(&lab.gateway.0, &Host::new(name).unwrap());
    for name in ["granted.a.org", "unknown.a.org", "granted.a.org", "a.org"] {
        meet(name);
    }
    let mut known = String::new();
    io::Seek::rewind(&mut inside).unwrap();
    io::Read::read_to_string(&mut inside, &mut known).unwrap();
    let of: Vec<_> = known.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(of, ["granted.a.org", "a.org"], "each once, and not what only the user knows");
}
