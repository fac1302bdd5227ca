//! The kernel's side of the machine: modules, clock, name, loopback, limits.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::system::{finit_module, sethostname};
use rustix::time::{ClockId, clock_settime};
use stockade_guest::MODULES_FOLDER;

use super::Failure;

/// Descriptors: what a service manager of today gives (systemd's 1024 and 524288).
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// Asks again and again, every millisecond, until there is an answer or the time is over. Devices
/// come up in their own time, and what tells of them (netlink, inotify) would be more than this.
pub(super) fn wait_for<T>(deadline: Instant, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        pause();
    }
}

/// Sleeps for a millisecond. Where the kernel has found no timer that works, on a host that was too busy while it
/// looked for one, this never ends: nor would anything else that waits.
pub(super) fn pause() {
    let moment = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    poll(&mut [], Some(&moment)).ok();
}

/// Loads every module in the initial file system; their names are in the order they need.
pub(super) fn load_modules() -> Result<(), Failure> {
    let folder = Path::new("/").join(MODULES_FOLDER);
    let listed = fs::read_dir(&folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut modules = listed.map_err(|error| Failure::because("list", folder.display(), &error))?;
    modules.sort_by_key(fs::DirEntry::file_name);
    for module in modules {
        let path = module.path();
        let loaded =
            File::open(&path).and_then(|file| finit_module(file, c"", 0).map_err(io::Error::from));
        let is_there =
            |error: &io::Error| error.raw_os_error() == Some(Errno::EXIST.raw_os_error());
        match loaded {
            Err(error) if !is_there(&error) => {
                return Err(Failure::because("load", path.display(), &error));
            }
            // Its memory is wanted more than its file.
            _ => fs::remove_file(&path).unwrap_or_default(),
        }
    }
    Ok(())
}

/// Nothing is loaded any more: an ordinary user has the kernel load what they name (a family of sockets, a file
/// system), and all of it is in the image.
pub(super) fn close_modules() -> Result<(), Failure> {
    const SWITCH: &str = "/proc/sys/kernel/modules_disabled";
    match fs::write(SWITCH, "1") {
        // This kernel loads none at all.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(|error| Failure::because("write", SWITCH, &error)),
    }
}

/// The machine has no clock of its own.
pub(super) fn set_clock(now: Duration) -> Result<(), Failure> {
    let seconds = i64::try_from(now.as_secs()).unwrap_or(0);
    let now = Timespec { tv_sec: seconds, tv_nsec: i64::from(now.subsec_nanos()) };
    clock_settime(ClockId::Realtime, now)
        .map_err(|error| Failure::because("set", "the clock", &error))
}

/// Name, loopback and limits, which everything started later has.
pub(super) fn set_up() -> Result<(), Failure> {
    sethostname(b"stockade").map_err(|error| Failure::because("set", "the host's name", &error))?;
    loopback_up().map_err(|error| Failure::because("start", "the loopback", &error))?;
    let (current, maximum) = OPEN_FILES;
    setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: Some(maximum) })
        .map_err(|error| Failure::because("set", "the limit of open files", &error))
}

/// Its machine id, which systemd's programs and D-Bus do not start without: one of its own, as
/// machine-id(5) has it. Call it after the random numbers were seeded, or all that start from one
/// template have the same.
pub(super) fn name_machine() -> Result<(), Failure> {
    const PATH: &str = "/etc/machine-id";
    let write = || -> io::Result<()> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let mut number = u128::from_be_bytes(bytes);
        // A UUID of the fourth version, without its dashes.
        number = (number & !(0xf << 76)) | (4 << 76);
        number = (number & !(3 << 62)) | (2 << 62);
        fs::write(PATH, format!("{number:032x}\n"))?;
        fs::set_permissions(PATH, fs::Permissions::from_mode(0o444))
    };
    write().map_err(|error| Failure::because("write", PATH, &error))
}

/// Brings up `lo`, the only network device there is: `RTM_NEWLINK` by rtnetlink(7).
fn loopback_up() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    const NLM_F_REQUEST_ACK: u16 = 1 | 4;
    const NLMSG_ERROR: u16 = 2;
    const IFF_UP: u32 = 1;
    const LENGTH: u32 = 32;
    // The first device of every network namespace (net/core/dev.c, LOOPBACK_IFINDEX).
    const LOOPBACK_INDEX: u32 = 1;

    let header = [
        &LENGTH.to_ne_bytes()[..],
        &RTM_NEWLINK.to_ne_bytes(),
        &NLM_F_REQUEST_ACK.to_ne_bytes(),
        &[0; 8],
    ];
    let body =
        [&[0; 4][..], &LOOPBACK_INDEX.to_ne_bytes(), &IFF_UP.to_ne_bytes(), &IFF_UP.to_ne_bytes()];
    let request = [header.concat(), body.concat()].concat();
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        // NETLINK_ROUTE is protocol 0, the one of a socket that names none.
        None,
    )?;
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut answer = [0; 64];
    rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    let [_, _, _, _, k0, k1, ..] = answer;
    let error = answer.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match error {
        Some(0) if u16::from_ne_bytes([k0, k1]) == NLMSG_ERROR => Ok(()),
        Some(error) if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
