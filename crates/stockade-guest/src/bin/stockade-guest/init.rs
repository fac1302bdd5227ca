//! PID 1: brings the machine up, keeps it going while the channel is served, ends it.
//!
//! Half way it waits to be told whose machine it is. What comes before that is the same for everybody, and may
//! have happened in another machine, of which this one is a copy; so nothing of it may be random, an identity,
//! or somebody's.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, WaitOptions, wait};
use rustix::system::{RebootCommand, reboot};
use stockade_guest::{
    ENVIRONMENT, PORT_NAME, Parameters, Start, TRIAL, TRIAL_PASSED, await_start, renew_index,
};

use super::{Failure, docker, full, machine, mounts, say};

/// How long the host's end of the port may take to be seen, after which it has hung up.
const PORT_WAIT: Duration = Duration::from_secs(10);

/// The life of the machine; when it returns, that is over.
pub(super) fn run() -> ExitCode {
    if let Err(failure) = live() {
        say(&failure);
    }
    end()
}

fn live() -> Result<(), Failure> {
    mounts::early()?;
    let words = fs::read_to_string("/proc/cmdline")
        .map_err(|error| Failure::because("read", "the kernel's command line", &error))?;
    if words.split_ascii_whitespace().any(|word| word == TRIAL) {
        say(&TRIAL_PASSED);
        return Ok(());
    }
    machine::load_modules()?;
    mounts::root()?;
    machine::set_up()?;
    let mut port = open_port()?;
    // A machine without a timer must not say that it has come up, let alone be a template.
    machine::pause();
    let waited = await_start(&mut port);
    let told = waited.map_err(|error| Failure::because("start for", "the host", &error))?;
    // The host has what it wanted of a machine that waits.
    let Some(Start { parameters, clock, seed }) = told else { return Ok(()) };
    seed.sow().map_err(|error| Failure::because("seed", "the random numbers", &error))?;
    machine::set_clock(clock)?;
    machine::name_machine()?;
    mounts::disks(&parameters)?;
    if parameters.is_root {
        full::put_up(&parameters.folder)?;
        docker::wait_for_it()?;
    } else {
        machine::close_modules()?;
    }
    // Where the repository's files are by now is where they stay.
    renew_index(&parameters.folder).map_err(|error| {
        Failure::because("renew the index in", parameters.folder.display(), &error)
    })?;
    let serving = start_serving(&parameters, port)?;
    reap_until(serving)
}

/// The channel's port, once the host's end of it is there: a port without one reads as ended.
fn open_port() -> Result<File, Failure> {
    let deadline = Instant::now() + PORT_WAIT;
    let path = machine::wait_for(deadline, find_port)
        .ok_or_else(|| Failure::new("find", format!("the port `{PORT_NAME}`")))?;
    let failed = |error: io::Error| Failure::because("open", path.display(), &error);
    let port = OpenOptions::new().read(true).write(true).open(&path).map_err(failed)?;
    let is_connected = || {
        let mut waited = [PollFd::new(&port, PollFlags::OUT)];
        poll(&mut waited, Some(&rustix::event::Timespec::default())).ok()?;
        (!waited.first()?.revents().contains(PollFlags::HUP)).then_some(())
    };
    machine::wait_for(deadline, is_connected)
        .ok_or_else(|| Failure::new("reach", "the host at the other end of the port"))?;
    Ok(port)
}

fn find_port() -> Option<PathBuf> {
    let ports = fs::read_dir("/sys/class/virtio-ports").ok()?;
    let is_ours = |port: &fs::DirEntry| {
        let name = fs::read_to_string(port.path().join("name"));
        name.is_ok_and(|name| name.trim_end() == PORT_NAME)
    };
    let port = ports.flatten().find(is_ours)?;
    let device = Path::new("/dev").join(port.file_name());
    device.exists().then_some(device)
}

/// Starts the second form of this program as the ordinary user.
fn start_serving(parameters: &Parameters, port: File) -> Result<Pid, Failure> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg("serve")
        .arg(&parameters.folder)
        .uid(if parameters.is_root { 0 } else { parameters.uid })
        .gid(if parameters.is_root { 0 } else { parameters.gid })
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir(&parameters.folder)
        .stdin(Stdio::from(port));
    let child = command
        .spawn()
        .map_err(|error| Failure::because("start", "what serves the channel", &error))?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| Failure::new("start", "what serves the channel"))
}

/// Takes in what ends, until that is the one that serves.
fn reap_until(serving: Pid) -> Result<(), Failure> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, _))) if pid == serving => return Ok(()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::because("wait for", "processes", &error)),
        }
    }
}

/// Ends the machine. The emulator is told not to start it again (`-no-reboot`), and a restart is
/// what every machine without power management can do.
fn end() -> ExitCode {
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::Restart) {
        say(&Failure::because("switch off", "the machine", &error));
    }
    // The kernel panics when PID 1 ends, and restarts after that (`panic=-1`).
    ExitCode::FAILURE
}
