//! The second backend: where user namespaces cannot be had.
//!
//! Landlock, seccomp and the supervisor hold it. The same two processes stand around the command, in
//! the host's own namespaces: the inner one is no PID 1, so it becomes the reaper of what the
//! command leaves behind (`prctl(2)`, `PR_SET_CHILD_SUBREAPER`), as does the outer one should it be
//! ended first. There is no view: what is hidden cannot be read, and what is not a root cannot be
//! written. Of the network there are ports of the loopback that were bound inside (`supervisor/peers`),
//! and hosts by the guardian, who leads connections to the gateway (`gate`).
//!
//! Where not even a supervisor can be had, because another filter with a listener stands above this
//! one, Landlock and seccomp alone hold what they can: no socket reaches anything, and protected
//! names are not held. If it is a Stockade that stands there, what is written is carried out by that
//! one, outside the walls of this.
//!
//! What of the policy that cannot be held is refused, unless the user lets it go (`--degrade`).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::net::SocketType;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};
use stockade_policy::caches::{Instead, MOVED};
use stockade_policy::environment::BUNDLE_VARIABLES;
use stockade_policy::{AbsPath, Mode};

use super::apart::{self, Store};
use super::failure::{Failure, step};
use super::leash::Leash;
use super::mounts::DENIALS;
use super::moved::Moved;
use super::plan::{Content, Placement, Plan, Walls};
use super::ssh::{self, Agent};
use super::ssh_config::Configuration;
use super::supervisor::{Fixed, Peers};
use super::sys::process_unsafe::{self, Fork};
use super::sys::{credentials_unsafe, exec_unsafe, landlock_unsafe, memory_unsafe, seccomp_unsafe};
use super::temporary::Temporary;
use super::trust::Trust;
use super::{outside, seccomp_second};
use crate::error::{DATAGRAM, DRAFT};
use crate::launch::{Asked, Ties, Told};
use crate::{Command, Launch, Outcome, SetupError};

/// Landlock cuts off signals and abstract sockets since.
const SCOPES_SINCE: u32 = 6;

/// Variables that lead to the private `/tmp` of the first backend, besides those of caches.
const TEMPORARY: [&str; 3] = ["TMPDIR", "TMP", "TEMP"];

/// What of the run's own folder is `/tmp`.
const TMP: &str = "tmp";

/// Certificates to trust, in the temporary folder.
const CERTIFICATES: &str = "stockade-certificates.pem";

const WEAKER: &str = "no user namespaces here: Landlock, seccomp and a supervisor hold this run. \
    `/tmp`, `/var/tmp` and `/dev/shm` are private by name (`$TMPDIR` is the place); caches are read-only, \
    but cargo, npm, pip, uv, Go and Maven have places of their own; the loopback is the host's: servers \
    inside can be reached by others on this machine; your other processes can be seen, and names of \
    hidden files";

const WITHOUT_SOCKETS: &str = "no user namespaces here, nor `pidfd_getfd`: Landlock, seccomp and a supervisor \
    hold this run. There is no network, loopback included (in a container `--cap-add SYS_PTRACE` gives \
    one); `/tmp`, `/var/tmp` and `/dev/shm` are private by name (`$TMPDIR` is the place); caches are \
    read-only, but cargo, npm, pip, uv, Go and Maven have places of their own; your other processes can \
    be seen, and names of hidden files";

const WEAKEST: &str = "no user namespaces and no supervisor here: Landlock and seccomp alone hold \
    this run. There is no network, loopback included; `/tmp` is read-only and `$TMPDIR` a private \
    folder; caches are read-only; your other processes can be seen, names of hidden files too, and \
    modes and times of your files can be changed";

const NESTED: &str = "inside another Stockade, whose walls hold this run: Landlock narrows what can be \
    read. There is no network, loopback included; `$TMPDIR` is a private folder";

const HOSTS: &str = "allowed hosts are reached by led connections: programs see the loopback as their \
    peer, and those that look up names in a way of their own need their proxy settings \
    (`$HTTPS_PROXY`)";

/// How much there is besides Landlock and seccomp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Help {
    Supervisor,
    /// One that cannot have the descriptors of its callers.
    OfFiles,
    /// Of the Stockade that this one runs in.
    Outer,
    None,
}

impl Help {
    fn says(self) -> &'static str {
        match self {
            Self::Supervisor => WEAKER,
            Self::OfFiles => WITHOUT_SOCKETS,
            Self::Outer => NESTED,
            Self::None => WEAKEST,
        }
    }

    fn supervises(self) -> bool {
        matches!(self, Self::Supervisor | Self::OfFiles)
    }
}

/// What the supervisor knows in the place of mounts and of a network namespace.
pub(super) struct Alone {
    pub(super) fixed: Fixed,
    pub(super) peers: Peers,
}

impl Alone {
    /// `None` where there are namespaces.
    pub(super) fn of(plan: &Plan) -> Option<Self> {
        let with = |content| {
            let those = plan.placements.iter().filter(move |place| place.content == content);
            those.map(|place| place.path.as_path().to_owned()).collect()
        };
        let hidden = plan.placements.iter().filter_map(|place| {
            let is_hidden = match place.content {
                Content::Hidden => true,
                Content::Readable | Content::Writable => false,
                Content::Pinned
                | Content::Protected
                | Content::Cached
                | Content::PrivateEmpty
                | Content::PrivateWritable => return None,
            };
            Some((place.path.as_path().to_owned(), is_hidden))
        });
        let mut fixed = Fixed {
            protected: with(Content::Protected),
            pinned: with(Content::Pinned),
            hidden: hidden.collect(),
        };
        // What the guardian alone writes, in its own walls, which are those of the command.
        for name in [DENIALS, CERTIFICATES, ssh::AGENT, ssh::KNOWN_HOSTS] {
            fixed.protected.extend(plan.temporary.as_ref().map(|folder| folder.join(name)));
        }
        let files = plan.moved.iter().flat_map(Moved::files);
        fixed.protected.extend(files.map(Path::to_owned));
        fixed.protected.extend(plan.keeping.as_ref().map(|it| it.store.as_path().to_owned()));
        let peers = || Peers::new(plan.host_ports.clone());
        (!plan.walls.namespaces).then(|| Self { fixed, peers: peers() })
    }
}

/// The list of what was refused, which lies in the temporary folder here.
pub(super) fn denials(plan: &Plan) -> Result<Option<File>, Failure> {
    let Some(folder) = plan.temporary.as_ref().filter(|_| plan.walls.supervisor) else {
        return Ok(None);
    };
    let path = folder.join(DENIALS);
    let made = File::options().append(true).create_new(true).mode(0o444).open(&path);
    made.map(Some).map_err(step("make", path))
}

/// The same of the ssh agent.
pub(super) fn agent(plan: &Plan) -> Result<Option<(Agent, File)>, Failure> {
    let folder = plan.temporary.as_ref().filter(|_| plan.walls.supervisor);
    Ok(folder.map(|folder| Agent::make(plan, folder)).transpose()?.flatten())
}

/// Whether `error` says that the namespaces of the first backend cannot be had, or are empty of
/// rights (Ubuntu's rule for `AppArmor`, a Landlock domain around this process).
pub(super) fn is_called_for(error: &SetupError) -> bool {
    let is_refused =
        |source: &io::Error| matches!(source.raw_os_error(), Some(libc::EPERM | libc::EACCES));
    match error {
        // Without a number it is this process that has a second thread.
        SetupError::Namespaces(source) => source.raw_os_error().is_some(),
        SetupError::Step { step, subject, source } => {
            let step = step.as_str();
            let is_map = step == "write" && subject.starts_with("/proc/self");
            let is_mount = ["clone", "make read-only", "mount over", "mount", "bring up"]
                .contains(&step)
                || step.starts_with("make a private tmpfs");
            (is_map || is_mount) && is_refused(source)
        }
        SetupError::Host(step, source) => step == "map user and group ids" && is_refused(source),
        SetupError::Canary { .. }
        | SetupError::Unheld { .. }
        | SetupError::Lost { .. }
        | SetupError::NotRun { .. } => false,
    }
}

/// Runs `launch` here, after the first backend failed with `why`.
pub(super) fn launch(
    launch: &Launch,
    why: SetupError,
    (plan, leash, ties): (&Plan, &Leash, &mut Ties<'_>),
) -> Result<Outcome, SetupError> {
    let Ok(abi) = landlock_unsafe::abi() else { return Err(why) };
    if !launch.layers.is_empty() {
        return Err(SetupError::Unheld { what: DRAFT.to_owned() });
    }
    if (0..3).any(takes_addresses) {
        return Err(SetupError::Unheld { what: DATAGRAM.to_owned() });
    }
    let failed = |error| SetupError::Host("make a private temporary folder".into(), error);
    let temporary = Temporary::make().map_err(failed)?;
    let own = temporary.path.as_path();
    Moved::make(own).map_err(failed)?;
    let (certificates, files) = files(plan, own)?;
    let help = match supervised() {
        Ok(true) => Help::Supervisor,
        Ok(false) => Help::OfFiles,
        // By the value that a Stockade gives it; who sets it alone deceives themselves.
        Err(_) if std::env::var_os("STOCKADE").is_some_and(|it| it == "1") => Help::Outer,
        Err(_) => Help::None,
    };
    let lost = lost(launch, (abi, help));
    if !launch.may_degrade && !lost.is_empty() {
        return Err(SetupError::Unheld { what: lost.join("; ") });
    }
    refuse_own(launch, help)?;
    if help.supervises() {
        Moved::lead_on(own).map_err(failed)?;
    }
    let tell = &mut ties.tell;
    let store = Store::take(launch).unwrap_or_else(|error| {
        tell(Told::Note(&format!("caches are read-only: no place for them: {error}")));
        None
    });
    let store = store.filter(|_| help.supervises());
    let command = moved(launch, (&temporary.path, store.as_ref()), certificates.as_deref());
    tell(Told::Note(help.says()));
    if help == Help::Supervisor && launch.policy.network.has_hosts() {
        tell(Told::Note(HOSTS));
    }
    for what in lost {
        tell(Told::Note(&format!("--degrade: not held: {what}")));
    }
    if plan.keeping.is_some() && help != Help::Supervisor {
        tell(Told::Note("what this run changes cannot be taken back by `stockade undo`"));
        tell(Told::Unkept);
    }
    let mut plan = narrowed(plan, (&temporary.path, store.as_ref()), help);
    plan.moved = plan.moved.map(|moved| moved.with_files(files));
    if help != Help::Supervisor {
        ties.ask = Asked::Nobody;
    }
    outside::run(&plan, &command, &launch.policy, (leash, ties))
}

/// What decides about the next run is not the user's to let go in passing.
fn refuse_own(launch: &Launch, help: Help) -> Result<(), SetupError> {
    let is_own =
        |path: &&AbsPath| path.as_path().file_name().is_some_and(|name| name == "stockade");
    match launch.policy.protected.iter().find(is_own) {
        Some(own) if help == Help::None => {
            let what = format!("`{}`, Stockade's own, in a writable root", own.as_path().display());
            Err(SetupError::Unheld { what })
        }
        _ => Ok(()),
    }
}

/// Tries whether a filter with a listener can be had, and whether processes under it can be looked into.
/// The value is whether their descriptors can be taken as well: Docker's filter refuses that without
/// `CAP_SYS_PTRACE`.
pub(super) fn supervised() -> io::Result<bool> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (hold, held) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    match process_unsafe::fork()? {
        Fork::Child => {
            drop(held);
            let installed = credentials_unsafe::set_no_new_privs().and_then(|()| {
                seccomp_unsafe::install(&seccomp_second::filter(false, true, None), true)
            });
            let number = match &installed {
                Ok(Some(listener)) => listener.as_raw_fd(),
                _ => -1,
            };
            File::from(write).write_all(&number.to_le_bytes()).ok();
            // Until the parent has it.
            File::from(hold).read_exact(&mut [0]).ok();
            process_unsafe::exit_now(0)
        }
        Fork::Parent(child) => {
            drop((write, hold));
            let mut number = [0; 4];
            let taken = File::from(read).read_exact(&mut number).and_then(|()| {
                let pid = Pid::from_raw(child).ok_or(io::ErrorKind::NotFound)?;
                let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
                let number = i32::from_le_bytes(number);
                if number < 0 {
                    return Err(io::ErrorKind::ResourceBusy.into());
                }
                // The child has the same program at the same place.
                memory_unsafe::read_memory(child, WEAKER.as_ptr() as u64, &mut [0])?;
                match rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty()) {
                    Ok(_listener) => Ok(true),
                    Err(rustix::io::Errno::PERM | rustix::io::Errno::NOSYS) => Ok(false),
                    Err(errno) => Err(errno.into()),
                }
            });
            drop(held);
            process_unsafe::wait_for_end(child)?;
            taken
        }
    }
}

/// Whether descriptor `number` is a socket that each message can give another address.
fn takes_addresses(number: i32) -> bool {
    let kind = exec_unsafe::duplicate_stdio(number)
        .and_then(|fd| rustix::net::sockopt::socket_type(&fd).ok());
    kind.is_some_and(|kind| kind != SocketType::STREAM && kind != SocketType::SEQPACKET)
}

/// What the policy says and nothing here holds.
fn lost(launch: &Launch, (abi, help): (u32, Help)) -> Vec<&'static str> {
    let policy = &launch.policy;
    let is_writable = |path: &AbsPath| policy.writable.iter().any(|root| path.is_within(root));
    let mut lost = Vec::new();
    if help == Help::Outer {
        lost.push(
            "which folders can be written (the Stockade around this one carries writes out, by its \
             own roots)",
        );
    }
    if policy.mode == Mode::WorkspaceWrite && help == Help::None {
        lost.push("protected names in writable roots (git's hooks and configuration, `.env`, …)");
    }
    if policy.hidden.iter().any(is_writable) {
        lost.push("hidden paths in writable roots");
    }
    let network = &policy.network;
    // One that is there to be asked about only is nothing that anybody wanted.
    let has_ways =
        network.has_hosts() || !(network.published.is_empty() && network.host_ports.is_empty());
    if has_ways && help != Help::Supervisor {
        lost.push("a way to hosts or ports that are allowed");
    }
    if launch.execs.is_some() && !help.supervises() {
        lost.push("rules that ask or deny, for what the command starts");
    }
    if abi < SCOPES_SINCE {
        lost.push("signals to your other processes (Landlock here is older than Linux 6.12)");
    }
    lost
}

/// The same plan with what Landlock can say of it.
fn narrowed(plan: &Plan, (temporary, store): (&AbsPath, Option<&Store>), help: Help) -> Plan {
    let mut plan = plan.clone();
    let (supervisor, descriptors) = (help.supervises(), help != Help::OfFiles);
    // The outer one would carry out what the canary tries; its own have been tried.
    let canary = help != Help::Outer;
    plan.walls = Walls { supervisor, descriptors, canary, ..Walls::SECOND };
    plan.caches = None;
    if !supervisor {
        (plan.execs, plan.guard, plan.way_out, plan.keeping) = (None, None, None, None);
        plan.host_ports.clear();
    }
    if let Some(way) = &mut plan.way_out {
        way.name_servers = name_servers();
    }
    plan.placements.retain_mut(|placement| match placement.content {
        Content::Cached => false,
        // Where paths in it lead elsewhere nothing of it is read.
        Content::PrivateWritable => {
            placement.content = Content::Hidden;
            supervisor
        }
        // Paths in caches among them, which nothing writes anyway.
        Content::Pinned | Content::Protected => supervisor,
        Content::PrivateEmpty => {
            placement.content = Content::Hidden;
            true
        }
        Content::Readable | Content::Writable | Content::Hidden => true,
    });
    let mut place = |path: &str, content| {
        let path = AbsPath::new(path).expect("invariant: an absolute path");
        plan.placements.push(Placement { path, content });
    };
    // The user's own terminals and cameras; harmless devices have a rule of their own each.
    place("/dev", Content::Hidden);
    plan.placements.extend(store.into_iter().flat_map(Store::placements));
    temporary.as_path().parent().unwrap_or(Path::new("/")).clone_into(&mut plan.canary);
    plan.temporary = Some(temporary.as_path().to_owned());
    let names = store.map_or(&[][..], Store::names);
    plan.moved = supervisor.then(|| Moved::new(&plan.placements, temporary.as_path(), names));
    let content = Content::Writable;
    plan.placements.push(Placement { path: temporary.clone(), content });
    // As everybody who reads a plan expects.
    plan.placements.sort_by(|a, b| a.path.cmp(&b.path));
    plan
}

/// Whom programs of this machine ask for names, as their C library does (resolv.conf(5)): without
/// a file that they can read, the loopback.
fn name_servers() -> Vec<IpAddr> {
    let file = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let mut servers = named(&file);
    servers.extend([Ipv4Addr::LOCALHOST.into(), IpAddr::from(Ipv6Addr::LOCALHOST)]);
    servers
}

/// Those that a `resolv.conf` names. A zone (`%eth0`) says how an address is reached.
fn named(file: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let (key, value) = line.trim_start().split_once(char::is_whitespace)?;
        let address = value.split_whitespace().next()?.split('%').next()?;
        (key == "nameserver").then(|| address.parse::<IpAddr>().ok()).flatten()
    };
    file.lines().filter_map(server).map(|ip| ip.to_canonical()).collect()
}

/// Files that are read as others, by their real paths.
type Files = Vec<(PathBuf, PathBuf)>;

/// Makes in `own` what programs inside read in the place of the system's files: certificates to trust,
/// where the gateway vouches for hosts, and ssh's configuration. A file with all certificates comes
/// first, to which variables lead.
fn files(plan: &Plan, own: &Path) -> Result<(Option<PathBuf>, Files), SetupError> {
    let authorities = plan.way_out.as_ref().map_or("", |way| &way.authorities);
    let all = own.join(CERTIFICATES);
    let trust = Trust::of(authorities)?;
    let mut files = match &trust {
        Some(trust) => {
            trust.write(&all).map_err(step("make", &all))?;
            trust.beside(own, &all).map_err(step("make certificates in", own))?
        }
        None => Vec::new(),
    };
    if ssh::logs_in(plan) {
        let made = Configuration::of(own).beside(own);
        files.extend(made.map_err(step("make ssh's configuration in", own))?);
    }
    Ok((trust.map(|_| all), files))
}

/// The command with its temporary folder and places for caches, and led to the file of certificates.
fn moved(
    launch: &Launch,
    (temporary, store): (&AbsPath, Option<&Store>),
    certificates: Option<&Path>,
) -> Command {
    let mut command = launch.command.clone();
    let tmp = temporary.as_path().join(TMP);
    let base = store.map_or(tmp.as_path(), Store::folder);
    apart::lead(&mut command.environment, &launch.policy, (base, store));
    let of_caches = MOVED.iter().flat_map(|cache| cache.instead).map(|instead| match instead {
        Instead::Set(name, _) | Instead::Front(name, _) => *name,
    });
    let ours: Vec<&str> = TEMPORARY.into_iter().chain(of_caches).collect();
    for (name, value) in &mut command.environment {
        if let Some(path) = certificates
            && BUNDLE_VARIABLES.iter().any(|known| name == known)
        {
            *value = path.into();
        }
        let is_ours = ours.iter().any(|known| *known == name.as_os_str());
        if is_ours && let Ok(inner) = Path::new(&value).strip_prefix("/tmp") {
            let path = tmp.join(inner);
            *value = OsString::from(path.components().collect::<PathBuf>());
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_a_c_library_does() {
        let file = "# nameserver 192.0.2.9\nsearch x\nnameserver 192.0.2.1\n nameserver\tfe80::1%eth0 \
                    \nnameserver ::ffff:192.0.2.2\nnameserver\noptions nameserver 192.0.2.8\n";
        let found: Vec<_> = named(file).iter().map(IpAddr::to_string).collect();
        assert_eq!(found, ["192.0.2.1", "fe80::1", "192.0.2.2"]);
    }

    #[test]
    fn only_what_namespaces_refuse_calls_for_it() {
        let error = |number| io::Error::from_raw_os_error(number);
        let step = |step: &str, subject: &str, number| SetupError::Step {
            step: step.to_owned(),
            subject: subject.into(),
            source: error(number),
        };
        for called in [
            SetupError::Namespaces(error(libc::EPERM)),
            SetupError::Namespaces(error(libc::ENOSPC)),
            SetupError::Namespaces(error(libc::ENOSYS)),
            step("write", "/proc/self/uid_map", libc::EPERM),
            step("clone", "/home/u/w", libc::EPERM),
            step("make read-only", "/", libc::EACCES),
        ] {
            assert!(is_called_for(&called), "{called:?}");
        }
        for other in [
            step("open", "/home/u/w", libc::EACCES),
            step("write", "/proc/sys/x", libc::EPERM),
            step("clone", "/home/u/w", libc::EINVAL),
            SetupError::Canary { wall: "mounts".to_owned() },
            SetupError::Lost { how: "signal 9".to_owned() },
        ] {
            assert!(!is_called_for(&other), "a fault is no reason for less: {other:?}");
        }
    }
}
