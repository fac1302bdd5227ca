//! What a run leaves on the host: nothing that the command did not make, also when Stockade is
//! killed at any moment; and what becomes of roots of every shape.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod denials;
mod doctor;
mod draft;
mod execs;
mod leftovers;
mod limits;
mod network;
mod recipes;
mod record;
mod roots;
mod second;

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A home with a project in it, outside the private temporary folders.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/homes");
        fs::create_dir_all(&base).unwrap();
        let folder = tempfile::tempdir_in(base.canonicalize().unwrap()).unwrap();
        for name in ["work/src", "work/tests", "work/.vscode", ".ssh", "outside"] {
            fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        for name in ["work/.env", "work/package.json", ".ssh/id", "notes.txt", "outside/file"] {
            fs::write(folder.path().join(name), "original\n").unwrap();
        }
        let home = Self { folder };
        let git = Command::new("git").args(["init", "-q"]).current_dir(home.path("work")).status();
        assert!(git.unwrap().success());
        home
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command
            .arg("run")
            .current_dir(self.path("work"))
            .env_clear()
            .env("HOME", self.folder.path())
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null());
        command
    }

    /// Runs `script` with further options.
    fn run(&self, options: &[&OsStr], script: &str) -> Output {
        self.command().args(options).args(["--", "sh", "-c", script]).output().unwrap()
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
