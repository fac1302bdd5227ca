//! What a run leaves on the host: nothing that the command did not make, also when Stockade is
//! killed at any moment; and what becomes of roots of every shape.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod asking;
mod denials;
mod doctor;
mod draft;
mod events;
mod execs;
mod held;
mod leftovers;
mod limits;
mod network;
mod package;
mod recipes;
mod record;
mod roots;
mod second;
mod undo;
mod undo_tools;
mod written;
mod wrote;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use stockade_testkit::again_as_ordinary_user;

/// Where homes are made: outside the private temporary folders.
fn homes() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/homes")
}

/// Runs the test `name` once more as an ordinary user, where this one is root.
fn also_as_ordinary_user(name: &str) {
    if rustix::process::geteuid().is_root() {
        let output = again_as_ordinary_user(&homes(), name).unwrap();
        assert!(output.status.success() && text(&output).contains("1 passed"), "{}", text(&output));
    }
}

/// A home with a project in it, outside the private temporary folders.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let base = homes();
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

    /// Until the clock of file times has moved on.
    fn wait_for_file_times(&self) {
        let time = || {
            fs::write(self.path("clock"), "").unwrap();
            let data = fs::metadata(self.path("clock")).unwrap();
            (data.ctime(), data.ctime_nsec())
        };
        let first = time();
        while time() == first {}
    }

    fn command(&self) -> Command {
        self.command_of("run")
    }

    fn command_of(&self, verb: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stockade"));
        command
            .arg(verb)
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
