//! Docker's service, started by who first speaks to its socket: a service manager does it the same way
//! (`sd_listen_fds(3)`), so the service is told nothing new, and a machine that has no use for it has no cost.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{FdFlags, fcntl_setfd};
use stockade_guest::ENVIRONMENT;

use super::Failure;

const SOCKET: &str = "/run/docker.sock";

/// What the service has to say.
const LOG: &str = "/var/log/dockerd.log";

/// The first descriptor that is handed over.
const FIRST: i32 = 3;

/// Its program, where the system has it.
fn program() -> Option<PathBuf> {
    let folders = ENVIRONMENT.iter().find(|(name, _)| *name == "PATH")?.1.split(':');
    folders.map(|folder| Path::new(folder).join("dockerd")).find(|path| path.exists())
}

/// Has another process wait, when there is something to wait for.
pub(super) fn wait_for_it() -> Result<(), Failure> {
    if program().is_none() {
        return Ok(());
    }
    Command::new("/proc/self/exe")
        .arg("docker")
        .env_clear()
        .envs(ENVIRONMENT)
        .env("HOME", "/root")
        .current_dir("/")
        .stdin(Stdio::null())
        .spawn()
        .map(drop)
        .map_err(|error| Failure::because("start", "what waits for Docker", &error))
}

/// That process.
pub(super) fn run() -> Result<(), Failure> {
    let failed = |step: &str, error: io::Error| Failure::because(step, SOCKET, &error);
    let program = program().ok_or_else(|| Failure::new("find", "`dockerd`"))?;
    rustix::process::setsid().map_err(|error| failed("leave the session for", error.into()))?;
    let listener = UnixListener::bind(SOCKET).map_err(|error| failed("listen at", error))?;
    if listener.as_raw_fd() != FIRST {
        return Err(Failure::new("hand over", format!("descriptor {}", listener.as_raw_fd())));
    }
    loop {
        let mut waited = [PollFd::new(&listener, PollFlags::IN)];
        match poll(&mut waited, None) {
            Ok(_) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed("wait at", error.into())),
        }
    }
    fcntl_setfd(&listener, FdFlags::empty()).map_err(|error| failed("hand over", error.into()))?;
    fs::create_dir_all("/var/log").map_err(|error| Failure::because("make", LOG, &error))?;
    let log = File::create(LOG).map_err(|error| Failure::because("make", LOG, &error))?;
    let again = log.try_clone().map_err(|error| Failure::because("open", LOG, &error))?;
    let error = Command::new(&program)
        .args(["--host", "fd://"])
        .env("LISTEN_PID", std::process::id().to_string())
        .env("LISTEN_FDS", "1")
        .stdout(log)
        .stderr(again)
        .exec();
    Err(Failure::because("start", program.display(), &error))
}
