//! Running one case in a laboratory of its own (`corpus/lab.sh`).

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use crate::corpus::Case;

/// Whom a case runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// A user without privileges.
    Ordinary,
    /// Uid 0.
    Root,
}

impl User {
    /// The word in the corpus and the matrix.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ordinary => "user",
            Self::Root => "root",
        }
    }
}

/// What stands around the case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: the control.
    Control,
    /// `stockade run -s read-only`.
    ReadOnly,
    /// `stockade run -s workspace-write`.
    WorkspaceWrite,
}

impl Mode {
    /// The word in the corpus and the matrix.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
        }
    }
}

/// What was seen on the host's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Whether the effect is there.
    pub effect: bool,
    /// Whether the laboratory itself failed, so that nothing was shown.
    pub broken: bool,
    /// What it printed.
    pub output: String,
}

/// Makes laboratories.
#[derive(Debug)]
pub struct Lab {
    stockade: PathBuf,
    is_root: bool,
    /// Where root's Rust toolchain lies, which nobody else may be able to read.
    toolchain: Option<PathBuf>,
    /// With which options, as whom and in which mode the names of a case were seen inside.
    checked: Mutex<HashSet<(String, &'static str, &'static str)>>,
}

impl Lab {
    /// For this binary.
    pub fn new(stockade: impl Into<PathBuf>) -> Self {
        let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        let toolchain = toolchain().filter(|_| is_root);
        Self { stockade: stockade.into(), is_root, toolchain, checked: Mutex::default() }
    }

    /// Whether cells of this user can be run by whoever runs the tests.
    pub fn can_be(&self, user: User, case: &Case) -> bool {
        self.is_root || (user == User::Ordinary && !case.real_root)
    }

    /// Programs of `case` that this machine lacks.
    pub fn missing<'a>(&self, case: &'a Case) -> Vec<&'a str> {
        let shown = self.toolchain.as_ref().map(|folder| folder.join("bin"));
        let mut folders: Vec<PathBuf> = self.path().split(':').map(PathBuf::from).collect();
        folders.extend(shown);
        let found = |name: &str| folders.iter().any(|folder| folder.join(name).exists());
        case.needs.iter().map(String::as_str).filter(|name| !found(name)).collect()
    }

    fn path(&self) -> String {
        match &self.toolchain {
            Some(_) => format!("{}:/srv/toolchain/bin", lab_path()),
            None => lab_path(),
        }
    }

    /// Runs `case` once.
    ///
    /// # Panics
    ///
    /// When the scripts cannot be written or `unshare` is not there.
    pub fn run(&self, case: &Case, user: User, mode: Mode) -> Seen {
        // A laboratory that could not be set up on a busy machine has shown nothing yet.
        let mut seen = self.run_once(case, user, mode);
        for _ in 0..2 {
            if seen.broken {
                seen = self.run_once(case, user, mode);
            }
        }
        seen
    }

    fn run_once(&self, case: &Case, user: User, mode: Mode) -> Seen {
        let key = (case.options.clone(), user.as_str(), mode.as_str());
        let is_checked = self.checked.lock().is_ok_and(|checked| checked.contains(&key));
        let folder = tempfile::tempdir().expect("a temporary folder");
        case.write_to(folder.path()).expect("the case's scripts");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../corpus/lab.sh");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup"]);
        command.args(["--fork", "--kill-child", "--mount-proc"]);
        if self.is_root {
            command.env("LAB_REAL_ROOT", "1");
            if is_second_backend() && !case.real_root {
                command.env("LAB_WHOLE", "1");
            }
        } else {
            command.args(["--user", "--map-current-user", "--keep-caps"]);
            let uid = fs::metadata("/proc/self").map(|own| own.uid()).unwrap_or_default();
            command.env("LAB_UID", uid.to_string());
        }
        command
            .arg("bash")
            .arg(script)
            .env("LAB_CASE", folder.path())
            .env("LAB_MODE", mode.as_str())
            .env("LAB_USER", user.as_str())
            .env("LAB_STOCKADE", &self.stockade)
            .env("LAB_OPTIONS", &case.options)
            .env("LAB_BACKEND", if is_second_backend() { "second" } else { "" })
            .env("LAB_ATTACK", if case.claim.is_empty() { "" } else { "1" })
            .env("LAB_CHECK", if is_checked { "" } else { "1" })
            .env("LAB_PATH", self.path())
            .envs(self.toolchain.iter().map(|folder| ("LAB_TOOLCHAIN", folder)))
            .stdin(Stdio::null());
        let output = command.output().expect("unshare, of util-linux");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        let code = output.status.code();
        let broken = code == Some(99) || code.is_none();
        if let (false, Ok(mut checked)) = (broken, self.checked.lock()) {
            checked.insert(key);
        }
        Seen { effect: code == Some(0), broken, output: text }
    }
}

/// Whether the cases run where there are no user namespaces: `STOCKADE_BACKEND=second`.
pub fn is_second_backend() -> bool {
    std::env::var_os("STOCKADE_BACKEND").is_some_and(|backend| backend == "second")
}

/// The toolchain that `rustc` on the `PATH` belongs to.
fn toolchain() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let path = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    path.join("bin/cargo").exists().then_some(path)
}

/// The `PATH` of the laboratory's user: the system's, and a toolchain that all can read.
fn lab_path() -> String {
    let system = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
    let cargo = std::env::var("PATH").unwrap_or_default();
    let readable = |folder: &&str| {
        !system.split(':').any(|known| known == *folder)
            && fs::metadata(folder).is_ok_and(|folder| folder.mode() & 0o005 == 0o005)
            && Path::new(folder)
                .ancestors()
                .all(|above| fs::metadata(above).is_ok_and(|folder| folder.mode() & 0o001 != 0))
    };
    let extra: Vec<&str> = cargo.split(':').filter(readable).collect();
    [vec![system], extra].concat().join(":")
}
