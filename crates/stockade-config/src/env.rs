//! The process' surroundings, read once.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use crate::locate::canonical;

/// Everything that is taken from the surroundings. Tests build one by hand.
#[derive(Debug, Clone)]
pub struct Env {
    /// The environment.
    pub vars: BTreeMap<OsString, OsString>,
    /// The user's home: `HOME` when it is absolute, else the account's.
    pub home: Option<PathBuf>,
    /// The current folder.
    pub current: PathBuf,
    /// Effective user id.
    pub uid: u32,
    /// Physical memory, in bytes: the machine's, or a container's share of it.
    pub memory_bytes: u64,
    /// Where the system's configuration lies: `/etc/stockade`.
    pub system: PathBuf,
    /// When that was; rules may expire.
    pub now: std::time::SystemTime,
    /// The user database: `/etc/passwd` (passwd(5)). `HOME` may be missing, or may be another
    /// user's (`sudo`); the account's own secrets are hidden all the same.
    pub accounts: PathBuf,
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
        let installed = info.totalram.saturating_mul(u64::from(info.mem_unit));
        let mut env = Self {
            home,
            current: std::env::current_dir()?,
            uid: rustix::process::geteuid().as_raw(),
            memory_bytes: memory_of_container().map_or(installed, |limit| limit.min(installed)),
            system: PathBuf::from("/etc/stockade"),
            now: std::time::SystemTime::now(),
            accounts: PathBuf::from("/etc/passwd"),
            vars,
        };
        // The user's own configuration counts also where nobody set `HOME`.
        env.home = env.home.take().or_else(|| env.account_home());
        Ok(env)
    }

    /// `$XDG_CACHE_HOME` or `~/.cache`.
    pub(crate) fn caches(&self) -> Option<PathBuf> {
        self.base_folder("XDG_CACHE_HOME", ".cache")
    }

    /// `$XDG_CONFIG_HOME/stockade` or `~/.config/stockade`.
    pub fn user_folder(&self) -> Option<PathBuf> {
        Some(self.base_folder("XDG_CONFIG_HOME", ".config")?.join("stockade"))
    }

    /// Where threads are kept: `$XDG_STATE_HOME/stockade` or `~/.local/state/stockade`.
    pub fn state_folder(&self) -> Option<PathBuf> {
        Some(self.base_folder("XDG_STATE_HOME", ".local/state")?.join("stockade"))
    }

    /// Where things are kept that can be made again: `$XDG_CACHE_HOME/stockade` or
    /// `~/.cache/stockade`.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        Some(self.caches()?.join("stockade"))
    }

    /// Where the answers that the user has given for `workspace` are kept; `None` where no home is
    /// known, or for a path that TOML cannot hold. The file names its workspace, so that two whose
    /// names come to the same share nothing.
    pub fn answers_file(&self, workspace: &Path) -> Option<PathBuf> {
        let text = workspace.to_str()?;
        // FNV-1a, 64 bits.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let name = workspace.file_name()?.to_string_lossy();
        let plain = |c: &char| c.is_ascii_alphanumeric() || ['-', '_'].contains(c);
        let name: String = name.chars().filter(plain).take(40).collect();
        Some(self.user_folder()?.join("projects").join(format!("{name}-{hash:016x}.toml")))
    }

    /// A base folder of the XDG specification: what `variable` holds, else `below_home`.
    pub(crate) fn base_folder(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        let from_home = || Some(self.home.as_ref()?.join(below_home));
        self.folder_variable(variable).or_else(from_home)
    }

    /// The folder that variable `name` holds, when it is absolute: the XDG specification has
    /// relative ones ignored.
    pub(crate) fn folder_variable(&self, name: &str) -> Option<PathBuf> {
        self.vars.get(OsStr::new(name)).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// `path` with a leading `~` replaced by home, relative ones taken from `base`.
    pub(crate) fn resolve(&self, path: &Path, base: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(rest), Some(home)) => home.join(rest),
            _ => base.join(path),
        }
    }

    /// The homes whose secrets are this user's, canonical: `HOME`'s first, the account's own.
    pub(crate) fn homes(&self) -> Homes {
        let named = self.home.as_deref().and_then(canonical);
        let account = match self.account_home() {
            Some(home) if Some(&home) == self.home.as_ref() => named.clone(),
            Some(home) => canonical(&home),
            None => None,
        };
        let main = named.clone().or_else(|| account.clone());
        let mut all: Vec<PathBuf> = named.into_iter().chain(account).collect();
        all.dedup();
        Homes { main, all }
    }

    /// The home of `uid` in the user database. Names from elsewhere (LDAP) are not looked up:
    /// their sessions set `HOME`.
    fn account_home(&self) -> Option<PathBuf> {
        let accounts = std::fs::read(&self.accounts).ok()?;
        accounts.split(|byte| *byte == b'\n').find_map(|line| {
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
            let [_, _, id, _, _, home, ..] = fields.as_slice() else { return None };
            let id: u32 = std::str::from_utf8(id).ok()?.parse().ok()?;
            let home = PathBuf::from(OsString::from_vec(home.to_vec()));
            (id == self.uid && home.is_absolute()).then_some(home)
        })
    }
}

/// What the container may use that this runs in. A machine has no such file at the root of its
/// hierarchy; version 1 has one with a number that no machine reaches.
fn memory_of_container() -> Option<u64> {
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max")
        .or_else(|_| std::fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    limit.ok()?.trim().parse().ok()
}

/// Canonical, existing homes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Homes {
    /// What `~` means, and what the policy names.
    pub(crate) main: Option<PathBuf>,
    /// All that hold secrets of this user.
    pub(crate) all: Vec<PathBuf>,
}

impl Homes {
    /// Whether `path` is a home, an ancestor of one, or `/`.
    pub(crate) fn any_within(&self, path: &Path) -> bool {
        path == Path::new("/") || self.all.iter().any(|home| home.starts_with(path))
    }
}

/// `path` without `.` and `..`, by its text alone: for paths that are not there.
pub(crate) fn normalized(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                result.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => result.push(part),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accounts_home_counts_beside_the_variable() {
        let lab = tempfile::tempdir().unwrap();
        let top = lab.path().canonicalize().unwrap();
        for name in ["named", "account"] {
            std::fs::create_dir(top.join(name)).unwrap();
        }
        let accounts = top.join("passwd");
        let line =
            format!("a:x:7:7::/nowhere:\nu:x:12:12:U,,,:{}/account:/bin/sh\n", top.display());
        std::fs::write(&accounts, line).unwrap();
        let mut env = Env {
            vars: BTreeMap::new(),
            home: Some(top.join("named")),
            current: top.clone(),
            uid: 12,
            memory_bytes: 1 << 30,
            system: top.join("system"),
            now: std::time::UNIX_EPOCH,
            accounts,
        };
        let [named, account] = ["named", "account"].map(|name| top.join(name));
        assert_eq!(env.homes().all, [named.clone(), account.clone()]);
        assert_eq!(env.homes().main, Some(named));
        env.home = None;
        assert_eq!(env.homes(), Homes { main: Some(account.clone()), all: vec![account] });
        env.uid = 99;
        assert_eq!(env.homes(), Homes::default());
    }

    #[test]
    fn a_path_is_normalized_by_its_text() {
        assert_eq!(normalized(Path::new("/a/./b/../c")), Path::new("/a/c"));
        assert_eq!(normalized(Path::new("/../a/..")), Path::new("/"));
    }
}
