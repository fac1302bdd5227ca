//! Programs of the host: where they are, and running them as filters.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::event::{Timespec, poll};
use rustix::fs::{Access, access};

/// Where programs of the system are. Not the caller's `PATH`, in which a project may have put
/// something.
const FOLDERS: &[&str] = &[
    "/usr/bin",
    "/usr/sbin",
    "/bin",
    "/sbin",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/libexec",
];

/// How often it is asked whether a program is to stop.
const ASKED_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// The first of `names` that there is.
pub(crate) fn find(names: &[&str]) -> Option<PathBuf> {
    let paths =
        FOLDERS.iter().flat_map(|folder| names.iter().map(|name| Path::new(folder).join(name)));
    paths.into_iter().find(|path| path.is_file() && access(path, Access::EXEC_OK).is_ok())
}

/// A program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not there.
    #[error("`{0}` is not installed")]
    Missing(&'static str),
    /// It could not be run.
    #[error("cannot run `{0}`")]
    Run(&'static str, #[source] io::Error),
    /// It ended with an error of its own.
    #[error("`{0}` failed: {1}")]
    Failed(&'static str, String),
    /// The caller asked to stop.
    #[error("stopped")]
    Stopped,
}

/// Runs a program to its end, or until `stop` says so.
pub(crate) fn run(
    name: &'static str,
    arguments: impl FnOnce(&mut Command),
    (input, output): (Stdio, Stdio),
    stop: &dyn Fn() -> bool,
) -> Result<(), ToolError> {
    let path = find(&[name]).ok_or(ToolError::Missing(name))?;
    let mut command = Command::new(path);
    command.env_clear().stdin(input).stdout(output).stderr(Stdio::piped());
    arguments(&mut command);
    let failed = |error| ToolError::Run(name, error);
    let mut child = command.spawn().map_err(failed)?;
    let errors = child.stderr.take();
    // Read meanwhile: a program that nobody reads waits.
    let (ended, words) = thread::scope(|scope| {
        let words = scope.spawn(|| read(errors));
        (wait(&mut child, stop), words.join().unwrap_or_default())
    });
    let status = ended.map_err(failed)?.ok_or(ToolError::Stopped)?;
    if status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&words);
    let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(ToolError::Failed(name, format!("{status} ({last})")))
}

/// What can be read of it.
fn read(source: Option<impl io::Read>) -> Vec<u8> {
    let mut read = Vec::new();
    source.map(|mut source| source.read_to_end(&mut read));
    read
}

/// How it ended; `None` when `stop` said so, and then it is gone as well.
fn wait(child: &mut Child, stop: &dyn Fn() -> bool) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if stop() {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        poll(&mut [], Some(&ASKED_EVERY)).ok();
    }
}

/// Decompresses `input` into `output`.
pub(crate) fn decompress(
    name: &'static str,
    (input, output): (File, File),
    stop: &dyn Fn() -> bool,
) -> Result<(), ToolError> {
    let arguments = |command: &mut Command| {
        command.args(["-d", "-c"]);
    };
    run(name, arguments, (Stdio::from(input), Stdio::from(output)), stop)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn run_shell(line: &str, stop: &dyn Fn() -> bool) -> Result<(), ToolError> {
        let arguments = |command: &mut Command| {
            command.args(["-c", line]);
        };
        run("sh", arguments, (Stdio::null(), Stdio::null()), stop)
    }

    #[test]
    fn a_program_that_does_not_end_is_ended_when_the_caller_stops() {
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= 2;
        let stopped = run_shell("exec sleep infinity", &stop);
        assert!(matches!(stopped, Err(ToolError::Stopped)), "{stopped:?}");
    }

    #[test]
    fn a_program_that_fails_is_told_by_its_last_words_however_many_there_are() {
        let line = "yes word | head -n 100000 >&2; echo; echo why >&2; exit 3";
        let failed = run_shell(line, &|| false).unwrap_err().to_string();
        assert_eq!(failed, "`sh` failed: exit status: 3 (why)");
        run_shell("true", &|| false).unwrap();
    }
}
