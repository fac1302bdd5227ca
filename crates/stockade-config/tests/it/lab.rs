//! A home, a workspace in it and an environment, in a temporary folder.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a laboratory that cannot be set up fails its test"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use stockade_config::{ConfigError, Env, Loaded, Request, load};
use stockade_policy::AbsPath;
use tempfile::TempDir;

pub(crate) struct Lab {
    /// Removes everything at the end.
    _folder: TempDir,
    /// Canonical; `home`, `home/work` and `system` are in it.
    pub(crate) top: PathBuf,
    pub(crate) env: Env,
    pub(crate) request: Request,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        let env = Env {
            vars: BTreeMap::new(),
            home: Some(top.join("home")),
            current: top.join("home/work"),
            uid: fs::metadata(&top).unwrap().uid(),
            memory_bytes: 8 << 30,
            system: top.join("system"),
            now: std::time::UNIX_EPOCH + std::time::Duration::from_hours(500_000),
            accounts: top.join("passwd"),
        };
        fs::create_dir_all(&env.current).unwrap();
        fs::create_dir_all(&env.system).unwrap();
        Self { _folder: folder, top, env, request: Request::default() }
    }

    /// The workspace.
    pub(crate) fn work(&self) -> PathBuf {
        self.top.join("home/work")
    }

    /// Makes a file, and the folders above it.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Makes an empty folder.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let path = self.top.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Makes a link at `name` that leads to `target`, as it is written.
    pub(crate) fn link(&self, name: &str, target: &str) {
        let path = self.top.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// The user's own configuration.
    pub(crate) fn user(&self, text: &str) {
        self.write("home/.config/stockade/config.toml", text);
    }

    /// The project's.
    pub(crate) fn project(&self, text: &str) {
        self.write("home/work/.stockade/config.toml", text);
    }

    pub(crate) fn load(&self) -> Result<Loaded, ConfigError> {
        load(&self.env, &self.request)
    }

    /// Loads what has to load.
    pub(crate) fn loaded(&self) -> Loaded {
        self.load().unwrap_or_else(|error| panic!("{error}"))
    }

    /// What is said when it does not load, with the hint, and the laboratory's folder as `TOP`.
    pub(crate) fn refused(&self) -> String {
        let error = match self.load() {
            Ok(loaded) => panic!("it loads: {:?}", loaded.policy),
            Err(error) => error,
        };
        let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        self.shown(&format!("error: {error}{hint}"))
    }

    /// `text` with the laboratory's folder as `TOP`.
    pub(crate) fn shown(&self, text: &str) -> String {
        text.replace(self.top.to_str().unwrap(), "TOP")
    }

    /// Paths relative to the laboratory; others are left out.
    pub(crate) fn names(&self, paths: &[AbsPath]) -> Vec<String> {
        let inside = paths.iter().filter_map(|path| path.as_path().strip_prefix(&self.top).ok());
        inside.map(|path| path.to_string_lossy().into_owned()).collect()
    }

    pub(crate) fn writable(&self) -> Vec<String> {
        self.names(&self.loaded().policy.writable)
    }

    pub(crate) fn protected(&self) -> Vec<String> {
        self.names(&self.loaded().policy.protected)
    }

    pub(crate) fn hidden(&self) -> Vec<String> {
        self.names(&self.loaded().policy.hidden)
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.loaded().warnings.iter().map(|warning| self.shown(warning)).collect()
    }
}

/// Runs git in `folder`, hermetically.
pub(crate) fn git(folder: &Path, arguments: &[&str]) {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"])
        .args(["-c", "protocol.file.allow=always"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {arguments:?}: {output:?}");
}
