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
use super::{init, layers, mounts, outside, plan, seccomp, terminal};

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
}

const NAMESPACES: &str = "namespaces";
const USER_NAMESPACES: &str = "`sysctl user.max_user_namespaces` above 0; on Ubuntu `sysctl \
    kernel.apparmor_restrict_unprivileged_userns=0`; in a container `--security-opt \
    seccomp=unconfined --security-opt apparmor=unconfined`";
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
    let filter = in_child(|| {
        credentials_unsafe::set_no_new_privs()?;
        let traps = seccomp::Traps { writes: true, execs: true };
        seccomp_unsafe::install(&seccomp::filter(traps), true).map(drop)
    })?;
    probes.push(Probe {
        name: "seccomp",
        result: filter.map(|()| "with a listener".to_owned()),
        lost: "nothing runs in a walled mode: sockets of the host with a name could be reached",
        remedy: "a kernel of 5.19 or later; not below another filter with a listener (WSL)",
    });
    let pty = terminal::open_inner().map(drop).map_err(|error| error.to_string());
    probes.push(Probe {
        name: "terminal",
        result: pty.map(|()| String::new()),
        lost: "nothing runs from a terminal: it could be written to later",
        remedy: "mount `devpts` at `/dev/pts`",
    });
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
    }
}

/// A step that is tried inside: its name, what it is, what is lost and what helps.
type Step = (&'static str, fn() -> io::Result<()>, &'static str, &'static str);

const STEPS: [Step; 5] = [
    (
        "mounts",
        mount_view,
        "the first wall around files: nothing runs in a walled mode",
        USER_NAMESPACES,
    ),
    ("proc", proc, "a `/proc` without the host's processes: nothing runs in a walled mode", PROC),
    ("overlay", overlay, "caches that can be written to, and drafts", KERNEL),
    ("network", loopback, "a network of its own: nothing runs in a walled mode", USER_NAMESPACES),
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
            None => Err(format!("needs {NAMESPACES}")),
        };
        Probe { name, result, lost, remedy }
    };
    let mut probes = vec![next(NAMESPACES, "nothing runs in a walled mode", USER_NAMESPACES)];
    probes.extend(STEPS.iter().map(|&(name, _, lost, remedy)| next(name, lost, remedy)));
    Ok(probes)
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
