//! Real agents at work inside the boundary, driven by a scripted model.
//!
//! Needs the agents of `scripts/install-agents` in `$STOCKADE_AGENTS_DIR`; without them the tests
//! say so, and fail when `STOCKADE_EXPECT` contains `agents`. When run as root each agent works
//! as root and as an ordinary user of its own.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, fs};

use stockade_testkit::model::{FakeModel, Step};

/// An id that no user of a development machine has.
const ORDINARY: u32 = 61_500;

/// A home with a project whose test fails, outside the private temporary folders.
struct Place {
    folder: tempfile::TempDir,
    uid: u32,
}

impl Place {
    fn new(uid: u32) -> Self {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/agents-homes");
        fs::create_dir_all(&base).unwrap();
        let folder = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
        let place = Self { folder, uid };
        let work = place.work();
        fs::create_dir_all(place.home().join(".ssh")).unwrap();
        fs::create_dir_all(&work).unwrap();
        fs::write(place.home().join(".ssh/id_ed25519"), "TOPSECRET").unwrap();
        fs::write(place.home().join("notes.txt"), "original\n").unwrap();
        fs::write(work.join("calc.py"), "def add(a, b):\n    return a - b\n").unwrap();
        let test = "import unittest\nfrom calc import add\n\n\nclass T(unittest.TestCase):\n    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n";
        fs::write(work.join("test_calc.py"), test).unwrap();
        fs::write(work.join(".gitignore"), "__pycache__\n.env\n").unwrap();
        fs::write(work.join(".env"), "SETTING=1\n").unwrap();
        place.host("git", &["init", "-q", "-b", "main"]);
        place.host("git", &["config", "user.name", "Agent"]);
        place.host("git", &["config", "user.email", "agent@example.org"]);
        place.host("git", &["add", "-A"]);
        place.host("git", &["commit", "-q", "-m", "start"]);
        fs::set_permissions(place.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        place.give(place.folder.path());
        place
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn work(&self) -> PathBuf {
        self.home().join("project")
    }

    /// Runs a tool of the host's in the project.
    fn host(&self, program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program)
            .args(["-c", "safe.directory=*"].iter().filter(|_| program == "git"))
            .args(arguments)
            .current_dir(self.work())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `stockade run --allow-host localhost:PORT -- COMMAND` as the user of this place.
    fn stockade(&self, port: u16, variables: &[(&str, String)], command: &[&str]) -> Output {
        self.verb(port, variables, &[&["run", "--"], command].concat())
    }

    /// Puts the agent called `name`, which lies at `path`, to work as a thread.
    fn thread(
        &self,
        port: u16,
        variables: &[(&str, String)],
        (name, path): (&str, &Path),
    ) -> Output {
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", path.parent().unwrap().display());
        let variables = [variables, &[("PATH", path)]].concat();
        self.verb(port, &variables, &["local", "--agent", name, "Fix the test."])
    }

    /// Runs a verb that puts up a boundary.
    fn verb(&self, port: u16, variables: &[(&str, String)], words: &[&str]) -> Output {
        let (verb, words) = words.split_first().unwrap();
        let id = self.uid.to_string();
        let mut run = Command::new("timeout");
        run.arg("150");
        if fs::metadata("/proc/self").unwrap().uid() != self.uid {
            run.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups"]);
        }
        run.arg(env!("CARGO_BIN_EXE_stockade"))
            .args([*verb, "-q", "--allow-host", format!("localhost:{port}").as_str()])
            .args(words)
            .current_dir(self.work())
            .env_clear()
            .env("HOME", self.home())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("TERM", "dumb")
            .env("LANG", "C.UTF-8")
            .envs(variables.iter().map(|(name, value)| (*name, value.as_str())))
            .stdin(Stdio::null());
        run.output().unwrap()
    }

    /// Back to the start.
    fn undo_by_hand(&self) {
        self.host("git", &["reset", "--quiet", "--hard", "HEAD~1"]);
        self.give(&self.work());
    }

    /// Makes what is at `path` its user's; of links the links, which lead to the agents' own files.
    fn give(&self, path: &Path) {
        if fs::metadata("/proc/self").unwrap().uid() == self.uid {
            return;
        }
        let owner = format!("{0}:{0}", self.uid);
        let status = Command::new("chown").args(["-Rh", &owner]).arg(path).status();
        assert!(status.unwrap().success());
    }

    /// What the agent is told by a file in its user's home.
    fn configure(&self, name: &str, text: &str) {
        let path = self.home().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self.give(&self.home());
    }

    /// Another model server in the configuration at `path`.
    fn set_port(path: &Path, port: u16) {
        let text = fs::read_to_string(path).unwrap();
        let (before, after) = text.split_once("127.0.0.1:").unwrap();
        let (_, after) = after.split_once('/').unwrap();
        fs::write(path, format!("{before}127.0.0.1:{port}/{after}")).unwrap();
    }

    /// What must be true after the agent's work, seen from the host.
    fn judge(&self, name: &str, output: &Output) {
        let text = format!(
            "{name} as {}: {}\n{}\n{}",
            self.uid,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(output.status.success(), "{text}");
        let calc = fs::read_to_string(self.work().join("calc.py")).unwrap();
        assert!(calc.contains("a + b"), "not edited: {text}");
        let log = self.host("git", &["log", "--format=%s"]);
        assert!(log.contains("Fix add"), "not committed: {log}{text}");
        assert!(self.host("git", &["status", "--short"]).is_empty(), "{text}");
        assert_eq!(fs::read_to_string(self.work().join(".env")).unwrap(), "SETTING=1\n", "{text}");
        assert_eq!(fs::read_to_string(self.home().join("notes.txt")).unwrap(), "original\n");
        assert!(!text.contains("TOPSECRET"), "{text}");
    }
}

use std::os::unix::fs::PermissionsExt as _;

/// Looks, repairs, tests, commits; and tries what it may not.
fn script() -> Vec<Step> {
    [
        "python3 -B -m unittest -q test_calc; true",
        "sed -i 's/a - b/a + b/' calc.py && python3 -B -m unittest -q test_calc",
        "echo pwned >> .env; echo pwned >> ~/notes.txt; cat ~/.ssh/id_ed25519; echo touch x > .git/hooks/pre-commit; true",
        "git add -A && git commit -q -m 'Fix add' && git status --short",
    ]
    .into_iter()
    .map(|command| Step::Shell(command.to_owned()))
    .chain([Step::Say("Done: add adds.".to_owned())])
    .collect()
}

/// The folder with the agents, or why there is nothing to be shown.
fn agent(name: &str) -> Option<PathBuf> {
    let found = env::var_os("STOCKADE_AGENTS_DIR")
        .map(|folder| PathBuf::from(folder).join("node_modules/.bin").join(name))
        .filter(|path| path.exists());
    if found.is_none() {
        let expected = env::var("STOCKADE_EXPECT").is_ok_and(|list| list.contains("agents"));
        assert!(!expected, "{name} is not in $STOCKADE_AGENTS_DIR");
        let text =
            format!("skipped: {name} is not in $STOCKADE_AGENTS_DIR (scripts/install-agents)\n");
        // Past the harness, which swallows what a passing test prints.
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
    found
}

fn users() -> Vec<u32> {
    match fs::metadata("/proc/self").unwrap().uid() {
        0 => vec![ORDINARY, 0],
        uid => vec![uid],
    }
}

#[test]
fn codex_repairs_a_project() {
    let Some(codex) = agent("codex") else { return };
    for uid in users() {
        let model = FakeModel::start(script()).unwrap();
        let place = Place::new(uid);
        let state = place.home().join(".codex");
        fs::create_dir_all(&state).unwrap();
        let settings = format!(
            "model = \"fake-1\"\nmodel_provider = \"fake\"\ncheck_for_update_on_startup = false\n\
             [model_providers.fake]\nname = \"fake\"\nbase_url = \"http://127.0.0.1:{}/v1\"\n\
             wire_api = \"responses\"\nenv_key = \"OPENAI_API_KEY\"\n[analytics]\nenabled = false\n",
            model.port()
        );
        fs::write(state.join("config.toml"), settings).unwrap();
        place.give(&state);
        let key = [("OPENAI_API_KEY", "sk-fake".to_owned())];
        let command = [
            codex.to_str().unwrap(),
            "exec",
            "--skip-git-repo-check",
            "--disable",
            "plugins",
            "Fix the test.",
        ];
        let output = place.stockade(model.port(), &key, &command);
        place.judge("codex", &output);
        place.undo_by_hand();
        let model = FakeModel::start(script()).unwrap();
        Place::set_port(&state.join("config.toml"), model.port());
        let output = place.thread(model.port(), &key, ("codex", &codex));
        place.judge("codex as a thread", &output);
    }
}

#[test]
fn claude_repairs_a_project() {
    let Some(claude) = agent("claude") else { return };
    for uid in users() {
        let model = FakeModel::start(script()).unwrap();
        let place = Place::new(uid);
        let variables = [
            ("ANTHROPIC_API_KEY", "sk-fake".to_owned()),
            ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{}", model.port())),
        ];
        let command = [claude.to_str().unwrap(), "-p", "Fix the test."];
        let output = place.stockade(model.port(), &variables, &command);
        place.judge("claude", &output);
        place.undo_by_hand();
        let model = FakeModel::start(script()).unwrap();
        let url = ("ANTHROPIC_BASE_URL", format!("http://127.0.0.1:{}", model.port()));
        let variables = [variables[0].clone(), url];
        let output = place.thread(model.port(), &variables, ("claude", &claude));
        place.judge("claude as a thread", &output);
    }
}

#[test]
fn gemini_repairs_a_project() {
    let Some(gemini) = agent("gemini") else { return };
    for uid in users() {
        let place = Place::new(uid);
        let settings = r#"{"security": {"auth": {"selectedType": "gemini-api-key"}}}"#;
        place.configure(".gemini/settings.json", settings);
        let variables = |model: &FakeModel| {
            let url = format!("http://127.0.0.1:{}", model.port());
            [("GEMINI_API_KEY", "sk-fake".to_owned()), ("GOOGLE_GEMINI_BASE_URL", url)]
        };
        let model = FakeModel::start(script()).unwrap();
        let command = [gemini.to_str().unwrap(), "-m", "fake-1", "-p", "Fix the test."];
        let output = place.stockade(model.port(), &variables(&model), &command);
        place.judge("gemini", &output);
        place.undo_by_hand();
        let model = FakeModel::start(script()).unwrap();
        let output = place.thread(model.port(), &variables(&model), ("gemini", &gemini));
        place.judge("gemini as a thread", &output);
    }
}

#[test]
fn opencode_repairs_a_project() {
    let Some(opencode) = agent("opencode") else { return };
    for uid in users() {
        let place = Place::new(uid);
        let configure = |model: &FakeModel| {
            let provider = serde_json::json!({
                "npm": "@ai-sdk/openai-compatible",
                "name": "fake",
                "options": {
                    "baseURL": format!("http://127.0.0.1:{}/v1", model.port()),
                    "apiKey": "sk-fake",
                },
                "models": {"fake-1": {"name": "fake-1"}},
            });
            let settings =
                serde_json::json!({"provider": {"fake": provider}, "model": "fake/fake-1"});
            place.configure(".config/opencode/opencode.json", &settings.to_string());
        };
        let model = FakeModel::start(script()).unwrap();
        configure(&model);
        let command = [opencode.to_str().unwrap(), "run", "Fix the test."];
        let output = place.stockade(model.port(), &[], &command);
        place.judge("opencode", &output);
        place.undo_by_hand();
        let model = FakeModel::start(script()).unwrap();
        configure(&model);
        let output = place.thread(model.port(), &[], ("opencode", &opencode));
        place.judge("opencode as a thread", &output);
    }
}
