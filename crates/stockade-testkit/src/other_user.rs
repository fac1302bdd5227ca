//! A test that is run once more, as somebody without privileges.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Nobody in particular, with a group of the same number.
const ORDINARY: &str = "61500";

/// Runs the ignored test `name` of the running test binary as an ordinary user, without any
/// capability. Only root can. `homes` becomes a folder in which that user can make homes.
///
/// # Errors
///
/// When the folder cannot be made or the binary not be started.
pub fn again_as_ordinary_user(homes: &Path, name: &str) -> io::Result<Output> {
    fs::create_dir_all(homes)?;
    fs::set_permissions(homes, fs::Permissions::from_mode(0o1777))?;
    Command::new("setpriv")
        .args(["--reuid", ORDINARY, "--regid", ORDINARY, "--clear-groups"])
        .args(["--inh-caps=-all", "--bounding-set=-all"])
        .arg(std::env::current_exe()?)
        .args(["--exact", name, "--ignored", "--nocapture"])
        .stdin(Stdio::null())
        .output()
}
