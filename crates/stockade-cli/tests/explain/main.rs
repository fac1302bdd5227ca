//! What `stockade explain` says, and what an attempt inside comes to: the same, for paths that are
//! made up by chance, in one start. As root also as an ordinary user.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use stockade_config::{Env, HostDisk, Request, load};
use stockade_policy::{Wish, explain};
use stockade_testkit::again_as_ordinary_user;

/// Tries each path of its standard input, and says `READ WRITE` of it. Leaves nothing behind.
const ATTEMPTS: &str = r#"
while IFS= read -r p; do
  r=0; w=0
  if [ -d "$p" ]; then
    if n=$(ls -A -- "$p" 2>/dev/null); then
      case "$(readlink -f -- "$p")" in /tmp|/var/tmp|/dev/shm|/run) r=1;; *) [ -n "$n" ] && r=1;; esac
    fi
    mkdir -- "$p/probe-$$" 2>/dev/null && { w=1; rmdir -- "$p/probe-$$"; }
  elif [ -c "$p" ]; then
    ( exec 3<"$p" ) 2>/dev/null && r=1
    ( exec 3>>"$p" ) 2>/dev/null && w=1
  elif [ -e "$p" ]; then
    [ -n "$(head -c1 -- "$p" 2>/dev/null)" ] && r=1
    ( exec 3>>"$p" ) 2>/dev/null && w=1
  else
    t=$(readlink -f -- "$p" 2>/dev/null)
    ( exec 3>>"$p" ) 2>/dev/null && { w=1; rm -f -- "$t"; }
  fi
  echo "$r $w"
done
"#;

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/homes");
        fs::create_dir_all(&base).unwrap();
        let folder = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
        let home = Self { folder };
        for file in [
            "notes",
            ".ssh/id",
            ".config/x/y",
            "outside/f",
            "outside/open/g",
            "work/src/a",
            "work/src/b",
            "work/deep/x/y",
            "work/.env",
            "work/.vscode/s",
            "work/keys/k",
            "work/closed/x",
            "work/read-only",
            "work/write-only",
            "work/sub/c",
            ".local/state/stockade/threads/x",
            ".cache/c/d",
            ".cargo/bin/e",
            ".cache/c/d",
            ".cargo/bin/e",
        ] {
            let path = home.path(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let home_text = home.path("");
        for (name, target) in [
            ("in", "src/a"),
            ("folder", "deep/x"),
            ("out", "../notes"),
            ("up", ".."),
            ("secret", "../.ssh/id"),
            ("hidden", "keys"),
            ("dangling", "src/new"),
            ("dangling-out", "../new"),
            ("loop", "loop"),
            ("in-temporary", "/tmp/x"),
            ("device", "/dev/null"),
            ("absolute", home_text.to_str().unwrap()),
        ] {
            symlink(target, home.path("work").join(name)).unwrap();
        }
        for repository in ["work", "work/sub"] {
            let made = Command::new("git").args(["init", "-q"]).arg(home.path(repository)).status();
            assert!(made.unwrap().success());
        }
        let text =
            "hidden = ['keys']\n[sandbox_workspace_write]\nwritable_roots = ['../outside/open']\n";
        fs::create_dir_all(home.path(".config/stockade")).unwrap();
        fs::write(home.path(".config/stockade/config.toml"), text).unwrap();
        for (name, mode) in [("closed", 0o000), ("read-only", 0o400), ("write-only", 0o200)] {
            let path = home.path("work").join(name);
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn stockade(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command.args(arguments).current_dir(self.path("work")).env_clear();
        command.env("HOME", self.folder.path()).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command
    }

    fn env(&self) -> Env {
        let vars = [("HOME", self.folder.path().as_os_str()), ("PATH", "/usr/bin:/bin".as_ref())];
        Env {
            vars: BTreeMap::from(vars.map(|(name, value)| (name.into(), value.into()))),
            home: Some(self.folder.path().to_owned()),
            current: self.path("work"),
            ..Env::snapshot().unwrap()
        }
    }
}

/// Removes what nobody may enter, so that the folder can be removed.
impl Drop for Home {
    fn drop(&mut self) {
        fs::set_permissions(self.path("work/closed"), fs::Permissions::from_mode(0o700)).ok();
    }
}

/// Reads by an allow-list, and a path of the user's on it.
const ALLOW_LIST: &str = "read = 'workspace'\nreadable = ['~/outside']";

/// Where a path by chance starts; most in the workspace.
const STARTS: &str =
    "./ ./ ./ ./ ../ ../outside/ ../outside/open/ /tmp/ /dev/ /run/ /etc/ /var/tmp/";
/// What it goes on with.
const STEPS: &str = "c d bin src a b deep x y .env .vscode s keys k closed read-only write-only sub c in folder \
    out up secret hidden dangling dangling-out loop in-temporary device absolute .. \
    notes .ssh id null missing";
/// Paths that chance might leave out.
const FIXED: &str = "sub/.env sub/.mcp.json .mcp.json deep/.env.local . .. .git/hooks/new .git/hooks .git/config sub/.git/HEAD / /tmp /dev /dev/null \
    /dev/zero /dev/sda /dev/shm /dev/shm/new /run /proc/version \
    /proc/sys/kernel/hostname /etc/hostname /etc/shadow /usr/bin /usr/bin/new /tmp/a/b \
    /var/tmp/new ../.local/state/stockade/threads/x";

/// Paths by chance, the same in every run: starts, and steps from there.
fn paths(home: &Home, count: usize) -> Vec<PathBuf> {
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % 1_000_003).unwrap() % below
    };
    let [starts, steps] = [STARTS, STEPS].map(|text| text.split(' ').collect::<Vec<_>>());
    let mut found: Vec<PathBuf> =
        FIXED.split(' ').map(|path| home.path("work").join(path)).collect();
    while found.len() < count {
        let mut path = starts[next(starts.len())].to_owned();
        for _ in 0..=next(4) {
            path.push_str(steps[next(steps.len())]);
            path.push('/');
        }
        let path = home.path("work").join(path.trim_end_matches('/'));
        if !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

/// Whether a write there is a matter of names that no policy lists: git's own, in a repository.
fn is_gits(path: &Path) -> bool {
    let text = path.to_string_lossy();
    text.contains("/.git")
        && !text.contains("work/.git/hooks")
        && !text.contains("work/.git/config")
}

fn agree(configuration: &str) {
    let home = Home::new();
    let file = home.path(".config/stockade/config.toml");
    let own = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{configuration}\n{own}")).unwrap();
    let paths = paths(&home, 240);
    let list: String = paths.iter().fold(String::new(), |mut list, path| {
        writeln!(list, "{}", path.display()).unwrap();
        list
    });
    let input = home.path("list");
    fs::write(&input, list).unwrap();
    let mut command = home.stockade(&["run", "-q", "--", "sh", "-c", ATTEMPTS]);
    let output = command.stdin(fs::File::open(&input).unwrap()).output().unwrap();
    let seen = String::from_utf8(output.stdout.clone()).unwrap();
    let seen: Vec<&str> = seen.lines().collect();
    assert_eq!(seen.len(), paths.len(), "{output:?}");

    let loaded = load(&home.env(), &Request::default()).unwrap();
    let disk = HostDisk::new();
    let mut wrong = String::new();
    let mut possible = [0, 0];
    for (path, seen) in paths.iter().zip(seen) {
        let tried = seen.split(' ').map(|word| word == "1");
        for ((wish, tried), count) in
            [Wish::Read, Wish::Write].into_iter().zip(tried).zip(&mut possible)
        {
            let said = explain(&loaded.policy, wish, path, &disk);
            *count += usize::from(tried);
            if said.is_possible != tried && !(wish == Wish::Write && is_gits(&said.target)) {
                let shown = path.display();
                writeln!(wrong, "{wish:?} {shown}: tried {tried}, said {said:?}").unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    // Both answers are there, many times.
    assert!(possible.iter().all(|count| (20..200).contains(count)), "{possible:?}");
}

#[test]
fn what_is_said_is_what_an_attempt_comes_to() {
    agree("");
    agree(ALLOW_LIST);
}

#[test]
#[ignore = "run by the test below, as another user"]
fn as_this_user() {
    agree("");
    agree(ALLOW_LIST);
}

#[test]
fn the_same_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let homes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/homes");
    let output = again_as_ordinary_user(&homes, "as_this_user").unwrap();
    assert!(output.status.success(), "{}", shown(&output));
    assert!(shown(&output).contains("1 passed"), "{}", shown(&output));
}

fn shown(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).join("\n")
}

#[test]
fn the_answer_names_the_line_and_scripts_read_it() {
    let home = Home::new();
    let ask = |arguments: &[&str]| {
        let output = home.stockade(&["explain"]).args(arguments).output().unwrap();
        (output.status.code().unwrap(), shown(&output))
    };
    let (status, said) = ask(&["write", "../outside/open/new"]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("config.toml:3"), "{said}");
    let (status, said) = ask(&["read", "keys/k"]);
    assert_eq!(status, 4, "{said}");
    assert!(said.contains("keys is hidden") && said.contains("config.toml:1"), "{said}");
    let (status, said) = ask(&["write", "x", "-s", "read-only"]);
    assert_eq!(status, 4, "{said}");
    assert!(said.contains("(--sandbox)"), "{said}");
    let (status, said) = ask(&["connect", "localhost:8080", "--allow-host", "localhost:8080"]);
    assert_eq!(status, 0, "{said}");
    let rule = "network.rules=[{host='a.org',methods=['GET']}]";
    let (status, said) = ask(&["connect", "a.org", "--allow-host", "a.org", "-c", rule]);
    assert_eq!(status, 0, "{said}");
    assert!(said.contains("; it may be asked GET of any path (-c:1)"), "{said}");
    assert_eq!(said.matches("(--allow-host)").count(), 1, "the line is named once: {said}");
    let (status, said) = ask(&["connect", "example.org:443", "--json"]);
    assert_eq!(status, 4, "{said}");
    assert!(
        said.starts_with(r#"{"decision":"deny","act":"connect","subject":"example.org:443""#),
        "{said}"
    );
    assert_eq!(ask(&["write", "x", "-c", "y=1"]).0, 2);
    assert_eq!(ask(&["fly", "x"]).0, 2);
}
