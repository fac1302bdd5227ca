//! Answers about a small disk that is written down.

use std::collections::BTreeMap;

use super::*;
use crate::guard::Kind;
use crate::{
    Credential, HostRule, KeySource, Limits, Network, PathPattern, RequestRule, RuleOwner,
};

/// Paths of folders (`/` at the end), files and links (`path -> target`).
struct Table(BTreeMap<PathBuf, Found>);

impl Table {
    fn of(lines: &[&str]) -> Self {
        let mut table = BTreeMap::new();
        for line in lines {
            if let Some((path, target)) = line.split_once(" -> ") {
                table.insert(path.into(), Found::Link(target.into()));
                continue;
            }
            let thing = Thing {
                is_folder: line.ends_with('/'),
                can_read: !line.contains("closed"),
                can_write: !line.starts_with("/etc"),
                can_enter: !line.contains("closed"),
            };
            table.insert(line.trim_end_matches('/').into(), Found::There(thing));
        }
        Self(table)
    }
}

impl Tree for Table {
    fn kind(&self, path: &Path) -> Option<Kind> {
        match self.0.get(path)? {
            Found::There(thing) if thing.is_folder => Some(Kind::Folder),
            Found::There(_) => Some(Kind::File),
            Found::Absent | Found::Closed | Found::Link(_) => Some(Kind::Other),
        }
    }

    fn is_new(&self, _: &Path) -> bool {
        false
    }

    fn text(&self, _: &Path) -> Option<Vec<u8>> {
        None
    }

    fn names(&self, _: &Path) -> Option<Vec<Vec<u8>>> {
        None
    }
}

impl Disk for Table {
    fn look(&self, path: &Path) -> Found {
        self.0.get(path).cloned().unwrap_or(Found::Absent)
    }
}

fn paths(list: &[&str]) -> Vec<AbsPath> {
    list.iter().map(|path| AbsPath::new(*path).unwrap()).collect()
}

fn policy() -> Policy {
    Policy {
        mode: Mode::WorkspaceWrite,
        workspace: AbsPath::new("/h/w").unwrap(),
        home: Some(AbsPath::new("/h").unwrap()),
        writable: paths(&["/h/w"]),
        protected: paths(&["/h/w/.env", "/h/w/.git/hooks"]),
        hidden: paths(&["/h/.ssh", "/h/w/keys"]),
        readable: paths(&["/h/.ssh/known_hosts"]),
        caches: paths(&["/h/.cache"]),
        tops: Vec::new(),
        unprotected: Vec::new(),
        awaited: Vec::new(),
        network: Network { host_ports: vec![80], ..Network::default() },
        limits: Limits::for_memory(1 << 30),
    }
}

fn disk() -> Table {
    Table::of(&[
        "/h/",
        "/h/w/",
        "/h/w/src/",
        "/h/w/src/a",
        "/h/w/.env",
        "/h/w/.git/",
        "/h/w/.git/hooks/",
        "/h/w/keys/",
        "/h/w/keys/k",
        "/h/.ssh/",
        "/h/.ssh/id",
        "/h/.ssh/known_hosts",
        "/h/notes",
        "/h/.cache/",
        "/h/.cache/c",
        "/h/w/out -> /h/notes",
        "/h/w/in -> src/a",
        "/h/w/loop -> loop",
        "/h/w/secret -> ../.ssh/id",
        "/h/w/dangling -> src/new",
        "/h/w/closed/",
        "/h/w/closed/x",
        "/etc/",
        "/etc/passwd",
        "/tmp/",
        "/tmp/theirs",
        "/var/",
        "/var/tmp/",
        "/run/",
        "/run/sock",
        "/dev/",
        "/dev/null",
        "/dev/sda",
    ])
}

#[test]
fn what_is_possible_and_by_what() {
    use Wish::{Read, Write};
    let root = || Decider::Writable(AbsPath::new("/h/w").unwrap());
    let hidden = |path: &str| Decider::Hidden(AbsPath::new(path).unwrap());
    let protected = |path: &str| Decider::Protected(AbsPath::new(path).unwrap());
    let missing = |path: &str| Decider::Missing(path.into());
    let cases = [
        (Write, "/h/w/src/a", true, root()),
        (Write, "/h/w/src/new", true, root()),
        (Write, "/h/w/gone/new", false, missing("/h/w/gone")),
        (Write, "/h/w/src/a/new", false, missing("/h/w/src/a")),
        (Write, "/h/w/.env", false, protected("/h/w/.env")),
        (Write, "/h/w/.git/hooks/pre-commit", false, protected("/h/w/.git/hooks")),
        (Write, "/h/w/.git/index", true, root()),
        (Write, "/h/notes", false, Decider::OutsideRoots),
        (Write, "/h/.cache/c", true, Decider::Cache(AbsPath::new("/h/.cache").unwrap())),
        (Write, "/h/w/out", false, Decider::OutsideRoots),
        (Write, "/h/w/in", true, root()),
        (Write, "/h/w/dangling", true, root()),
        (Write, "/h/w/src/../../notes", false, Decider::OutsideRoots),
        (Write, "/h/w/loop", false, Decider::Links),
        (Write, "/h/w/closed/x", false, Decider::Permissions("/h/w/closed".into())),
        (Write, "/h/w/keys/k", false, hidden("/h/w/keys")),
        (Write, "/tmp/new", true, Decider::Private("/tmp")),
        (Write, "/tmp/theirs", true, Decider::Private("/tmp")),
        (Write, "/tmp/a/b", false, missing("/tmp/a")),
        (Write, "/run/sock", false, Decider::Private("/run")),
        (Write, "/dev/null", true, Decider::OwnKernelView),
        (Write, "/dev/sda", false, Decider::OwnKernelView),
        (Write, "/proc/sys/kernel/hostname", false, Decider::OwnKernelView),
        (Read, "/etc/passwd", true, Decider::Everything),
        (Read, "/h/notes", true, Decider::Everything),
        (Read, "/h/gone", false, missing("/h/gone")),
        (Read, "/h/.ssh/id", false, hidden("/h/.ssh")),
        (Read, "/h/w/secret", false, hidden("/h/.ssh")),
        (Read, "/h/w/keys/k", false, hidden("/h/w/keys")),
        (Read, "/h/w/.env", true, Decider::Everything),
        (Read, "/tmp/theirs", false, Decider::Private("/tmp")),
        (Read, "/run/sock", false, Decider::Private("/run")),
        (Read, "/dev/sda", false, Decider::OwnKernelView),
        (Read, "/dev/null", true, Decider::OwnKernelView),
        (Read, "/h/w/closed/x", false, Decider::Permissions("/h/w/closed".into())),
    ];
    for (wish, path, is_possible, decided_by) in cases {
        let found = explain(&policy(), wish, Path::new(path), &disk());
        assert_eq!((found.is_possible, found.decided_by), (is_possible, decided_by), "{path}");
    }
    let known = explain(&policy(), Read, Path::new("/h/.ssh/known_hosts"), &disk());
    assert!(known.is_possible, "{known:?}");
    let above = explain(&policy(), Read, Path::new("/h/.ssh"), &disk());
    assert!(above.is_possible, "it has the name of what is shown: {above:?}");
}

#[test]
fn the_mode_decides_first() {
    let mut policy = policy();
    policy.mode = Mode::ReadOnly;
    policy.writable.clear();
    policy.protected.clear();
    let write =
        |policy: &Policy, path: &str| explain(policy, Wish::Write, Path::new(path), &disk());
    assert_eq!(write(&policy, "/h/w/src/a").decided_by, Decider::ReadOnlyMode);
    assert!(write(&policy, "/tmp/x").is_possible);
    policy.mode = Mode::DangerFullAccess;
    assert_eq!(write(&policy, "/h/.ssh/id").decided_by, Decider::NoBoundary);
    assert!(write(&policy, "/h/.ssh/id").is_possible && !write(&policy, "/etc/passwd").is_possible);
}

#[test]
fn a_workspace_in_a_private_folder_is_there() {
    let mut policy = policy();
    policy.workspace = AbsPath::new("/tmp/a/w").unwrap();
    policy.writable = paths(&["/tmp/a/w"]);
    let disk = Table::of(&["/tmp/", "/tmp/a/", "/tmp/a/w/", "/tmp/a/w/f", "/tmp/a/other"]);
    let ask = |wish, path: &str| explain(&policy, wish, Path::new(path), &disk).is_possible;
    assert!(ask(Wish::Write, "/tmp/a/w/f") && ask(Wish::Write, "/tmp/a/w/new"));
    assert!(ask(Wish::Read, "/tmp/a/w/f") && !ask(Wish::Read, "/tmp/a/other"));
    assert!(!ask(Wish::Write, "/tmp/a/new"), "a folder on the way is nobody's");
}

#[test]
fn connections_are_to_named_ports_of_the_loopback() {
    let policy = policy();
    let ask = |host: &str| explain_connect(&policy, host).decided_by;
    assert_eq!(ask("localhost:80"), Decider::HostPort(80));
    assert_eq!(ask("127.0.0.1:80"), Decider::HostPort(80));
    assert_eq!(ask("localhost:81"), Decider::ClosedNetwork);
    assert_eq!(ask("example.org:443"), Decider::ClosedNetwork);
    assert_eq!(ask("/run/docker.sock"), Decider::NamedSocket);
}

#[test]
fn connections_are_decided_as_the_gateway_decides() {
    let mut policy = policy();
    let rule = |entry: &str| HostRule { entry: entry.parse().unwrap(), place: "f:1".to_owned() };
    policy.network.allow = vec![rule("example.org"), rule("*.example.org:22")];
    policy.network.deny = vec![rule("bad.example.org:*")];
    let ask = |host: &str| {
        let found = explain_connect(&policy, host);
        let Decider::Host { why, place } = found.decided_by else {
            panic!("{:?}", found.decided_by);
        };
        (found.is_possible, why, place)
    };
    let place = || Some("f:1".to_owned());
    let allowed = |entry: &str, port| format!("port {port} is allowed by `{entry}` (f:1)");
    assert_eq!(ask("example.org"), (true, allowed("example.org", 443), place()));
    assert_eq!(ask("Example.org:80"), (true, allowed("example.org", 80), place()));
    let by_ssh = format!("{}; a log-in by ssh is asked about", allowed("*.example.org:22", 22));
    assert_eq!(ask("a.example.org:22"), (true, by_ssh, place()));
    let (is_possible, why, _) = ask("bad.example.org:22");
    assert!(!is_possible && why == "port 22 is denied by `bad.example.org:*` (f:1)", "{why}");
    assert_eq!(ask("evil.org"), (false, "port 443 is not allowed".to_owned(), None));
    let limit = |methods: &[&str], paths: &[&str], owner| RequestRule {
        entry: "example.org:443".parse().unwrap(),
        methods: methods.iter().map(|&method| method.to_owned()).collect(),
        paths: paths.iter().map(|path| PathPattern::new(path).unwrap()).collect(),
        upgrade: false,
        credential: None,
        owner,
        place: "f:2".to_owned(),
    };
    let mut limited = policy.clone();
    let credential = Credential {
        variable: "TOKEN".to_owned(),
        source: KeySource::Variable("OUTSIDE".to_owned()),
        header: None,
    };
    limited.network.requests = vec![
        limit(&["GET", "HEAD"], &[], RuleOwner::User),
        RequestRule { credential: Some(credential), ..limit(&[], &["/a/**"], RuleOwner::User) },
        limit(&["GET"], &[], RuleOwner::Machine),
    ];
    let why = |host: &str| {
        let Decider::Host { why, .. } = explain_connect(&limited, host).decided_by else {
            panic!("nothing is said of hosts");
        };
        why
    };
    assert_eq!(
        why("example.org"),
        allowed("example.org", 443)
            + "; it may be asked GET, HEAD of any path (f:2), anything of /a/** with what `TOKEN` \
               stands for (f:2); of that only GET of any path (f:2)"
    );
    assert_eq!(why("example.org:80"), allowed("example.org", 80));
    for odd in ["0x7f.1", "example.org:0", "[::1", "2001:db8::1", "[2001:db8::1]:443", "10.0.0.1"] {
        assert!(!ask(odd).0, "{odd}");
    }
}
