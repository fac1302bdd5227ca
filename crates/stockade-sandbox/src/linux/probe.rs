//! Trying each mechanism that the boundary is made of, for real, in processes that end after it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::Mode;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::sys::mount_unsafe::{Attributes, mount_setattr};
use super::sys::process_unsafe::{self, Fork};
use super::sys::{credentials_unsafe, landlock_unsafe, seccomp_unsafe, socket_unsafe};
use super::{cgroup, init, layers, mounts, outside, plan, seccomp, second, terminal};

/// What came of trying one mechanism.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Its name, one word.
    pub name: &'static str,
    /// What is to be said of it where it works; else what the system said.
    pub result: Result<String, String>,
    /// What is lost without it.
    pub lost: &'static str,
    /// What brings it back, in one line.
    pub remedy: &'static str,
    /// Whether nothing is lost without it that is promised.
    pub is_optional: bool,
}

const NAMESPACES: &str = "namespaces";
const UNTRIED: &str = "needs namespaces";
const SECOND: &str = "drafts, a view of caches, a `/tmp` and a loopback of its own: the second backend runs, \
    weaker";
const USER_NAMESPACES: &str = "`sysctl user.max_user_namespaces` above 0; on Ubuntu the profile of the `.deb`; \
    in a container `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`";

/// What a machine says of user namespaces, and the remedy where it is that.
const HINDRANCES: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "`sysctl user.max_user_namespaces=10000` (to keep it, a line in `/etc/sysctl.d`)",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "`sysctl kernel.unprivileged_userns_clone=1` (to keep it, a line in `/etc/sysctl.d`)",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "the AppArmor profile that the `.deb` installs (`packaging/apparmor.profile`), or `sysctl \
         kernel.apparmor_restrict_unprivileged_userns=0`",
    ),
];

/// Of those who run containers.
const MARKS_OF_CONTAINERS: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
const CONTAINER: &str = "`--security-opt seccomp=unconfined --security-opt apparmor=unconfined` for this \
    container";
const PROC: &str = "in a container also `--security-opt systempaths=unconfined`";
const KERNEL: &str = "a newer kernel (6.12 or later has everything)";

/// Tries them all. The process must have one thread.
///
/// # Errors
///
/// When not even a process could be started to try them in.
pub fn probe() -> io::Result<Vec<Probe>> {
    let mut probes = in_namespaces()?;
    probes.push(landlock());
    let filter = in_child(listen)?;
    probes.push(Probe {
        name: "seccomp",
        result: filter.map(|()| "a trapped call was answered".to_owned()),
        lost: "nothing runs in a walled mode: sockets of the host with a name could be reached",
        remedy: "a kernel of 5.19 or later; not below another filter with a listener (WSL)",
        is_optional: false,
    });
    let descriptors = match second::supervised() {
        Ok(true) => Ok(String::new()),
        Ok(false) => Err("`pidfd_getfd` is refused".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    probes.push(Probe {
        name: "descriptors",
        result: descriptors,
        lost: "where there are no namespaces: the loopback, and sockets with a name",
        remedy: "in a container `--cap-add SYS_PTRACE`; `sysctl kernel.yama.ptrace_scope` at 1 or 0",
        is_optional: false,
    });
    let pty = terminal::open_inner().map(drop).map_err(|error| error.to_string());
    probes.push(Probe {
        name: "terminal",
        result: pty.map(|()| String::new()),
        lost: "nothing runs from a terminal: it could be written to later",
        remedy: "mount `devpts` at `/dev/pts`",
        is_optional: false,
    });
    probes.push(control_group()?);
    Ok(probes)
}

fn landlock() -> Probe {
    let result = match landlock_unsafe::abi() {
        Ok(abi @ 6..) => Ok(format!("ABI {abi}")),
        Ok(abi) => Err(format!("ABI {abi}, before 6")),
        Err(error) => Err(error.to_string()),
    };
    Probe {
        name: "landlock",
        result,
        lost: "the second wall around files or, before ABI 6, around signals and abstract sockets",
        remedy: "a kernel of 6.12 or later with `landlock` in its `lsm=` parameter",
        is_optional: false,
    }
}

/// A step that is tried inside: its name, what it is, what is lost and what helps.
type Step = (&'static str, fn() -> io::Result<()>, &'static str, &'static str);

const STEPS: [Step; 5] = [
    (
        "mounts",
        mount_view,
        "the first wall around files; the second backend runs instead",
        USER_NAMESPACES,
    ),
    ("proc", proc, "a `/proc` without the host's processes; the second backend runs instead", PROC),
    ("overlay", overlay, "caches that can be written to, and drafts", KERNEL),
    ("network", loopback, "a network of its own; the second backend runs instead", USER_NAMESPACES),
    (
        "ipv6",
        loopback_of_ipv6,
        "`::1` inside",
        "a kernel with IPv6 (`sysctl net.ipv6.conf.all.disable_ipv6=0`)",
    ),
];

/// The namespaces, and in them the steps in turn.
fn in_namespaces() -> io::Result<Vec<Probe>> {
    let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let said = match process_unsafe::clone_into(outside::namespaces(plan::Walls::ALL)) {
        Ok(Fork::Child) => {
            drop(read);
            let mut write = File::from(write);
            let mapped = init::map_own_ids(ids).map_err(|failure| failure.to_string());
            let mut tell = |result: Result<(), String>| {
                let line = result.err().unwrap_or_default().replace('\n', " ");
                // The parent reads an end for what it is not told.
                writeln!(write, "{line}").ok();
            };
            let goes_on = mapped.is_ok();
            tell(mapped);
            if goes_on {
                for (_, step, ..) in STEPS {
                    tell(step().map_err(|error| error.to_string()));
                }
            }
            process_unsafe::exit_now(0)
        }
        Ok(Fork::Parent(child)) => {
            drop(write);
            let mut said = String::new();
            File::from(read).read_to_string(&mut said)?;
            process_unsafe::wait_for_end(child.pid)?;
            said
        }
        Err(error) => format!("{error}\n"),
    };
    let mut lines = said.lines();
    let mut next = |name, lost, remedy| {
        let result = match lines.next() {
            Some("") => Ok(String::new()),
            Some(error) => Err(error.to_owned()),
            None => Err(UNTRIED.to_owned()),
        };
        let remedy = remedy_of(&result, remedy);
        Probe { name, result, lost, remedy, is_optional: false }
    };
    let mut probes = vec![next(NAMESPACES, SECOND, USER_NAMESPACES)];
    probes.extend(STEPS.iter().map(|&(name, _, lost, remedy)| next(name, lost, remedy)));
    Ok(probes)
}

/// What helps where a step came to `result`. One that could not be tried has no fault that is known.
fn remedy_of(result: &Result<String, String>, remedy: &'static str) -> &'static str {
    let is_untried = result.as_ref().is_err_and(|error| error == UNTRIED);
    if is_untried || remedy == USER_NAMESPACES { hindrance() } else { remedy }
}

/// What brings user namespaces back on this machine.
fn hindrance() -> &'static str {
    let says = |(file, value, _): &&(&str, &str, &str)| {
        std::fs::read_to_string(file).is_ok_and(|text| text.trim() == *value)
    };
    match HINDRANCES.iter().find(says) {
        Some((.., remedy)) => remedy,
        None if MARKS_OF_CONTAINERS.iter().any(|mark| Path::new(mark).exists()) => CONTAINER,
        None => USER_NAMESPACES,
    }
}

/// Has one thread make a call that its filter traps, and answers it in another.
fn listen() -> io::Result<()> {
    /// What no folder system would answer.
    const ANSWER: i32 = libc::EXFULL;
    let (send, receive) = std::sync::mpsc::sync_channel(1);
    let trapped = std::thread::spawn(move || -> io::Result<()> {
        credentials_unsafe::set_no_new_privs()?;
        let traps = seccomp::Traps { writes: true, execs: true, ..seccomp::Traps::default() };
        let listener = seccomp_unsafe::install(&seccomp::filter(traps, None), true)?;
        send.send(listener).map_err(io::Error::other)?;
        Ok(rustix::fs::mkdir("/", Mode::RWXU)?)
    });
    let listener = receive.recv().ok().flatten();
    if let Some(listener) = &listener
        && let Some(call) = seccomp_unsafe::receive(listener.as_fd())?
    {
        let answer = seccomp_unsafe::Answer::Errno(ANSWER);
        seccomp_unsafe::respond(listener.as_fd(), call.id, answer)?;
    }
    match trapped.join() {
        Ok(Err(error)) if error.raw_os_error() == Some(ANSWER) => Ok(()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(())) | Err(_) => Err(io::Error::other("the trapped call was not answered")),
    }
}

/// Whether a control group (version 2) of one's own can be had: by making one and going in.
fn control_group() -> io::Result<Probe> {
    let made = cgroup::Group::make();
    let result = match &made {
        Ok(group) => in_child(|| group.enter())?.map(|()| group.path().display().to_string()),
        Err(error) => Err(error.to_string()),
    };
    Ok(Probe {
        name: "cgroup",
        result,
        lost: "nothing that is promised: the memory and files of a run are bounded by looking at them, with a \
               group or without",
        remedy: "not needed; `systemd-run --user --scope -p Delegate=yes` gives one",
        is_optional: true,
    })
}

fn mount_view() -> io::Result<()> {
    let tree = mounts::open("/").map_err(io::Error::from)?;
    let set = (MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID).bits();
    let attributes = Attributes { set: set.into(), clear: 0, private: true, recursive: true };
    mount_setattr(tree.as_fd(), attributes)?;
    let memory = new("tmpfs")?;
    mounts::attach(&memory, Path::new("/tmp")).map_err(io::Error::from)
}

fn proc() -> io::Result<()> {
    new("proc").map(drop)
}

/// In the private `/tmp` that was mounted before.
fn overlay() -> io::Result<()> {
    let folder = |name: &str| -> io::Result<OwnedFd> {
        let path = Path::new("/tmp").join(name);
        rustix::fs::mkdir(&path, Mode::RWXU)?;
        mounts::open(&path).map_err(io::Error::from)
    };
    let [lower, upper, work] = [folder("lower")?, folder("upper")?, folder("work")?];
    layers::overlay([&lower, &upper, &work], false).map(drop)
}

fn new(kind: &str) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

fn loopback() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType};
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    socket_unsafe::bring_loopback_up(socket.as_fd())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    TcpStream::connect(listener.local_addr()?).map(drop)
}

fn loopback_of_ipv6() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0))?;
    TcpStream::connect(listener.local_addr()?).map(drop)
}

/// Does `work` in a process that ends after it; the inner error is what it said.
fn in_child(work: impl FnOnce() -> io::Result<()>) -> io::Result<Result<(), String>> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    match process_unsafe::fork()? {
        Fork::Child => {
            let said = work().err().map(|error| error.to_string()).unwrap_or_default();
            // Only the write that the filter does not trap.
            File::from(write).write_all(format!("{said}\n").as_bytes()).ok();
            process_unsafe::exit_now(0)
        }
        Fork::Parent(pid) => {
            drop(write);
            let mut said = String::new();
            File::from(read).read_to_string(&mut said)?;
            process_unsafe::wait_for_end(pid)?;
            Ok(match said.trim_end() {
                "" if said.is_empty() => Err("it ended the process that tried it".to_owned()),
                "" => Ok(()),
                error => Err(error.to_owned()),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_tried_is_helped_by_what_brings_namespaces_back() {
        let untried = Err(UNTRIED.to_owned());
        assert_eq!(remedy_of(&untried, KERNEL), hindrance());
        assert_eq!(remedy_of(&Err("refused".to_owned()), KERNEL), KERNEL);
        assert_eq!(remedy_of(&Ok(String::new()), USER_NAMESPACES), hindrance());
    }
}
