//! Programs of the host: where they are, and running them as filters.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

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
}

/// Runs a program to its end.
pub(crate) fn run(
    name: &'static str,
    arguments: impl FnOnce(&mut Command),
    (input, output): (Stdio, Stdio),
) -> Result<(), ToolError> {
    let path = find(&[name]).ok_or(ToolError::Missing(name))?;
    let mut command = Command::new(path);
    command.env_clear().stdin(input).stdout(output).stderr(Stdio::piped());
    arguments(&mut command);
    let output = command
        .spawn()
        .and_then(std::process::Child::wait_with_output)
        .map_err(|error| ToolError::Run(name, error))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(ToolError::Failed(name, format!("{} ({last})", output.status)))
}

/// Decompresses `input` into `output`.
pub(crate) fn decompress(name: &'static str, input: File, output: File) -> Result<(), ToolError> {
    let arguments = |command: &mut Command| {
        command.args(["-d", "-c"]);
    };
    run(name, arguments, (Stdio::from(input), Stdio::from(output)))
}
