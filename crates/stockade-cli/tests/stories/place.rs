//! A home with a project in it, for one user.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::{env, fs};

use stockade_testkit::model::FakeModel;

/// An id that no user of a development machine has.
const ORDINARY: u32 = 61_500;

/// Five hours west of UTC, by a rule that needs no database of zones.
const TIME_ZONE: &str = "EST5";

/// The configuration of DESIGN section 5, and a model.
const CONFIG: &str = r#"sandbox_mode = "workspace-write"
approval_policy = "on-request"

[sandbox_workspace_write]
writable_roots = ["src", "tests"]

[[rules]]
prefix = "npm test"          # or a list of words: ["cargo", ["test", "nextest"]]
allow = true                 # shorthand for decision = "allow"

[[rules]]
prefix = "cargo fetch"
decision = "ask"
reason = "fetches from the registry"
grant = { hosts = ["registries"] }   # what an approval opens, and nothing more

[[rules]]
prefix = "docker"
allow = false
"#;

/// Users whom a story is told as: root where the tests are root, and always somebody ordinary.
pub(crate) fn users() -> Vec<u32> {
    let own = fs::metadata("/proc/self").unwrap().uid();
    if own == 0 { vec![0, ORDINARY] } else { vec![own] }
}

pub(crate) struct Place {
    folder: tempfile::TempDir,
    uid: u32,
}

/// The top of the source tree.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What machines share, outside every home: the image of a system takes a while to be built.
fn cache(uid: u32) -> PathBuf {
    top().join(format!("target/stories-cache/{uid}"))
}

impl Place {
    /// The project of the debugging story.
    pub(crate) fn new(uid: u32) -> Self {
        Self::with(uid, |work| copy(&top().join("examples/auth-flow"), work))
    }

    /// A project that `fill` writes; nothing of it is committed.
    pub(crate) fn with(uid: u32, fill: impl FnOnce(&Path)) -> Self {
        let base = top().join("target/stories");
        fs::create_dir_all(&base).unwrap();
        let place = Self { folder: tempfile::tempdir_in(base).unwrap(), uid };
        let work = place.work();
        fs::create_dir_all(work.parent().unwrap()).unwrap();
        fill(&work);
        for (name, content) in [
            ("home/notes.txt", "mine\n"),
            ("home/.ssh/id_ed25519", "TOPSECRET"),
            ("home/project/.env", "SETTING=1\n"),
            ("home/project/node_modules/left-pad/index.js", "module.exports = 1\n"),
            ("home/.config/stockade/config.toml", CONFIG),
        ] {
            let path = place.folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let git =
            Command::new("git").args(["init", "--quiet", "-b", "main"]).current_dir(&work).status();
        assert!(git.unwrap().success());
        fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(cache(uid)).unwrap();
        place.give(place.folder.path());
        place.give(&cache(uid));
        place
    }

    /// Gives what lies at `path` to the user of this place.
    fn give(&self, path: &Path) {
        let owner = format!("{0}:{0}", self.uid);
        let status = Command::new("chown").args(["-R", &owner]).arg(path).status();
        assert!(status.unwrap().success());
    }

    /// Commits everything in the project that is not ignored.
    pub(crate) fn commit(&self) {
        let words = "git='git -c safe.directory=* -c user.name=a -c user.email=a@example.org'; \
                     $git add --all && $git commit --quiet --message start";
        let shell = Command::new("sh").args(["-c", words]).current_dir(self.work()).status();
        assert!(shell.unwrap().success());
        self.give(self.folder.path());
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.home().join("project")
    }

    /// Every file but the thread's record, with its mode and content.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.home()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let path = entry.path();
                if path == self.home().join(".local") {
                    continue;
                }
                let data = path.symlink_metadata().unwrap();
                if data.is_dir() {
                    folders.push(path);
                } else {
                    let content = fs::read(&path).unwrap_or_default();
                    let name = path.strip_prefix(self.home()).unwrap().to_owned();
                    found.insert(name, (data.mode(), content));
                }
            }
        }
        found
    }

    /// Adds to the user's configuration.
    pub(crate) fn configure(&self, text: &str) {
        let path = self.home().join(".config/stockade/config.toml");
        let before = fs::read_to_string(&path).unwrap();
        fs::write(path, before + text).unwrap();
    }

    /// `stockade ARGUMENTS` as the user of this place, in its project, with `model`.
    pub(crate) fn command(&self, model: &FakeModel, arguments: &[&str]) -> Command {
        let id = self.uid.to_string();
        let mut run = Command::new("timeout");
        // Emulated machines on a busy host are slow.
        run.arg("280");
        if fs::metadata("/proc/self").unwrap().uid() != self.uid {
            run.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        let model = [
            format!("model.base_url=\"http://127.0.0.1:{}/v1\"", model.port()),
            "model.api=\"responses\"".to_owned(),
            "model.name=\"scripted\"".to_owned(),
        ];
        let resumes = arguments.starts_with(&["threads", "resume"]);
        let (verb, rest) = arguments.split_at(if resumes { 2 } else { 1 });
        run.arg(env!("CARGO_BIN_EXE_stockade")).args(verb);
        // Verbs that look at threads have no configuration.
        let has_model = resumes || ["local", "cloud"].contains(&verb[0]);
        for option in model.iter().filter(|_| has_model) {
            run.args(["-c", option]);
        }
        run.args(rest)
            .current_dir(self.work())
            .env_clear()
            .env("HOME", self.home())
            .env("XDG_CACHE_HOME", cache(self.uid))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TERM", "dumb")
            .env("LANG", "C.UTF-8")
            .env("TZ", TIME_ZONE)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null());
        run
    }

    /// Runs it to its end.
    pub(crate) fn stockade(&self, model: &FakeModel, arguments: &[&str]) -> Output {
        self.command(model, arguments).output().unwrap()
    }

    /// Starts it.
    pub(crate) fn start(&self, model: &FakeModel, arguments: &[&str]) -> Child {
        let mut command = self.command(model, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs the project's tests without Stockade.
    pub(crate) fn tests_pass(&self) -> bool {
        let mut python = Command::new("python3");
        python.args(["-B", "-m", "unittest", "-q"]).current_dir(self.work()).env("TZ", TIME_ZONE);
        python.output().unwrap().status.success()
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            if entry.file_name() != "__pycache__" {
                copy(&entry.path(), &target);
            }
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What the model was told of its calls, in order.
pub(crate) fn told(model: &FakeModel) -> Vec<String> {
    let requests = model.requests();
    let items = requests.last().unwrap()["input"].as_array().unwrap().clone();
    let outputs = items.iter().filter(|item| item["type"] == "function_call_output");
    outputs.map(|item| item["output"].as_str().unwrap().to_owned()).collect()
}

/// Both streams, for a failed assertion.
pub(crate) fn text(output: &Output) -> String {
    format!(
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
