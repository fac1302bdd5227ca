//! The process' surroundings, read once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Everything that is taken from the surroundings. Tests build one by hand.
#[derive(Debug, Clone)]
pub struct Env {
    /// The environment.
    pub vars: BTreeMap<OsString, OsString>,
    /// The user's home: `HOME` when it is absolute.
    pub home: Option<PathBuf>,
    /// The current folder.
    pub current: PathBuf,
    /// Effective user id.
    pub uid: u32,
    /// Physical memory, in bytes.
    pub memory_bytes: u64,
    /// Where the system's configuration lies: `/etc/stockade`.
    pub system: PathBuf,
}

impl Env {
    /// Reads the surroundings.
    ///
    /// # Errors
    ///
    /// When the current folder is gone.
    pub fn snapshot() -> std::io::Result<Self> {
        let vars: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let home =
            vars.get(OsStr::new("HOME")).map(PathBuf::from).filter(|path| path.is_absolute());
        let info = rustix::system::sysinfo();
        Ok(Self {
            home,
            current: std::env::current_dir()?,
            uid: rustix::process::geteuid().as_raw(),
            memory_bytes: info.totalram.saturating_mul(u64::from(info.mem_unit)),
            system: PathBuf::from("/etc/stockade"),
            vars,
        })
    }

    /// `$XDG_CONFIG_HOME/stockade` or `~/.config/stockade`.
    pub(crate) fn user_folder(&self) -> Option<PathBuf> {
        let xdg = self.vars.get(OsStr::new("XDG_CONFIG_HOME")).map(Path::new);
        let base = match xdg.filter(|path| path.is_absolute()) {
            Some(path) => path.to_owned(),
            None => self.home.as_ref()?.join(".config"),
        };
        Some(base.join("stockade"))
    }

    /// `path` with a leading `~` replaced by home, relative ones taken from `base`.
    pub(crate) fn resolve(&self, path: &Path, base: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => base.join(path),
        }
    }
}
