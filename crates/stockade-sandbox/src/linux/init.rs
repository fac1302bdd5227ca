//! PID 1 inside: puts up the walls, starts the command, and stays as its init and supervisor.
//!
//! It reaps, passes signals on, answers trapped calls, and takes everything with it when it
//! ends; it ends when the command ends or when the parent outside is gone.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Resource, Rlimit};
use rustix::termios::Termios;

use super::control::{End, Order, Report};
use super::failure::{Failure, step};
use super::gate::{self, Gate};
use super::mounts;
use super::plan::{Plan, RUNTIME};
use super::stdio::Reopened;
use super::supervisor::{Beneath, Denials, Files, Supervisor};
use super::sys::exec_unsafe;
use super::sys::process_unsafe::{self, Change, Fork};
use super::sys::signal_unsafe::{self, SignalSet};
use super::sys::{credentials_unsafe, socket_unsafe};
use super::target::{self, Refusal, Target};
use super::{landlock, terminal, unconfined, usage};
use crate::Command;

/// Names the list of refusals to the programs inside.
const DENIALS_VARIABLE: &str = "STOCKADE_DENIALS";

/// What PID 1 is born with.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) command: &'a Command,
    /// The socket to the parent.
    pub(crate) channel: OwnedFd,
    /// The end of the way out, if there is one.
    pub(crate) gate: Option<OwnedFd>,
    /// The signals that were blocked, and ignored, when Stockade was started.
    pub(crate) mask: SignalSet,
    pub(crate) ignored: &'a [i32],
    /// Whether the parent writes the id maps (it can map more than one id).
    pub(crate) mapped_outside: bool,
    /// Ids of the user, outside and inside alike.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) canary_port: Option<u16>,
    /// The user's terminal with its settings, to restore should the parent be killed, and
    /// which of the descriptors 0–2 are terminals.
    pub(crate) outer: Option<(OwnedFd, Termios)>,
    pub(crate) terminals: [bool; 3],
}

impl Inside<'_> {
    /// The whole life of PID 1; the value is its exit status, which nobody but a person with
    /// a debugger sees.
    pub(crate) fn live(mut self) -> i32 {
        let status = match self.start() {
            Ok(Some(running)) => running.serve(&self),
            Ok(None) => 0,
            Err(failure) => {
                // A parent that is gone needs no report.
                Report::Failed(failure).send(&self.channel, &[]).ok();
                1
            }
        };
        if !self.plan.walls.namespaces {
            // As the kernel does with what is left of a PID namespace.
            unconfined::end_descendants();
        }
        status
    }

    /// `Ok(None)` when the failure has been reported already.
    fn start(&mut self) -> Result<Option<Running>, Failure> {
        if self.plan.walls.namespaces {
            credentials_unsafe::set_parent_death_signal(libc::SIGKILL)
                .map_err(step("follow", "the parent"))?;
            self.map_ids()?;
        } else {
            // It has to outlive the parent for a moment, to end what is left: `turn` sees its end.
            process_unsafe::become_subreaper().map_err(step("become", "the reaper of orphans"))?;
        }
        if self.plan.walls.network {
            self.network()?;
        }
        let mut beneath = Beneath::new();
        let mut list = None;
        if self.plan.walls.mounts {
            beneath = mounts::beneath(self.plan)?;
            let built = mounts::build(self.plan)?;
            list = built.denials;
            if let Some(note) = built.note {
                let note = Report::Note(note.to_owned());
                note.send(&self.channel, &[]).map_err(step("reach", "the parent"))?;
            }
        }
        self.limits()?;
        let mut reopened = Reopened::default();
        if self.plan.walls.mounts {
            mounts::close_proc()?;
            reopened = Reopened::in_view()?;
        }
        let slave = self.inner_terminal()?;
        credentials_unsafe::set_no_new_privs().map_err(step("set", "no_new_privs"))?;
        credentials_unsafe::set_undumpable().map_err(step("guard", "PID 1"))?;
        if self.plan.walls.landlock {
            landlock::restrict(self.plan)?;
        }
        match credentials_unsafe::forsake_privileges() {
            // Without namespaces it may be that there is no right to; with `no_new_privs` nothing
            // that is executed gains what this process does not hold (prctl(2)).
            Err(error) if !self.plan.walls.namespaces && is_refused(&error) => {}
            other => other.map_err(step("drop", "privileges"))?,
        }
        let mut kept = u32::from(self.plan.walls.namespaces) << credentials_unsafe::CAP_SYS_PTRACE;
        if self.gate.is_some() {
            // Over the sandbox's own ports, on which connections to hosts begin.
            kept |= 1 << credentials_unsafe::CAP_NET_BIND_SERVICE;
        }
        credentials_unsafe::keep_capabilities(kept).map_err(step("drop", "capabilities"))?;
        self.start_target(slave, (reopened, beneath, list))
    }

    /// The way out, for the supervisor. Nothing is forked any more, so there may be threads.
    fn open_gate(&mut self) -> Result<Option<Gate>, Failure> {
        let Some(channel) = self.gate.take() else { return Ok(None) };
        gate::make_sockets(&channel).map_err(step("offer", "sockets"))?;
        Ok(Some(Gate::new(channel)))
    }

    fn denials(&self, list: Option<File>) -> io::Result<Arc<Denials>> {
        let walls = self.plan.walls;
        let canary = (walls.canary && walls.mounts).then(|| self.plan.canary.clone());
        Ok(Arc::new(Denials::new(self.channel.try_clone()?, list, canary)))
    }

    fn map_ids(&self) -> Result<(), Failure> {
        if self.mapped_outside {
            return match Order::receive(&self.channel) {
                Ok(Some(Order::Mapped)) => Ok(()),
                Ok(_) => Err(Failure::canary("the parent did not map the ids")),
                Err(error) => Err(step("wait for", "the parent")(error)),
            };
        }
        map_own_ids((self.uid, self.gid))
    }

    fn network(&self) -> Result<(), Failure> {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::DGRAM,
            None,
        )
        .map_err(step("open", "a socket"))?;
        socket_unsafe::bring_loopback_up(socket.as_fd()).map_err(step("bring up", "lo"))?;
        for &port in &self.plan.host_ports {
            let mut listeners: Vec<OwnedFd> = Vec::new();
            let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
            listeners.push(bound.map_err(step("listen on", "127.0.0.1"))?.into());
            // A kernel without IPv6 has no ::1 to offer.
            if let Ok(bound) = TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
                listeners.push(bound.into());
            }
            Report::Listeners
                .send(&self.channel, &listeners)
                .map_err(step("reach", "the parent"))?;
        }
        match (&self.plan.way_out, &self.gate) {
            (Some(way), Some(channel)) => match Order::receive(&self.channel) {
                Ok(Some(Order::Served)) => gate::set_up(way, channel),
                Ok(_) => Err(Failure::canary("the parent does not serve the network")),
                Err(error) => Err(step("wait for", "the parent")(error)),
            },
            _ => Ok(()),
        }
    }

    fn limits(&self) -> Result<(), Failure> {
        // 1 is less than any core file needs, and tells a pipe in core_pattern to take none
        // (core(5), "Piping core dumps to a program").
        let core = Rlimit { current: Some(1), maximum: Some(1) };
        rustix::process::setrlimit(Resource::Core, core).map_err(step("limit", "core dumps"))?;
        // Where memory runs out, the kernel shall end what is inside before anything of the
        // user's (proc_pid_oom_score_adj(5)). Without such a file there is no such killer.
        fs::write("/proc/self/oom_score_adj", "1000").ok();
        lower(Resource::Nofile, self.plan.open_files.into(), "open files")?;
        let processes = u64::from(self.plan.processes);
        // `pid_max` is a limit of this PID namespace since Linux 6.14 and of the machine
        // before; RLIMIT_NPROC counts the processes of this user namespace since 5.14.
        // Root owns the machine's, with or without capabilities.
        let is_ours = !rustix::process::geteuid().is_root() || kernel_is_since(6, 14);
        let is_ours = is_ours && self.plan.walls.namespaces;
        let write = || fs::write("/proc/sys/kernel/pid_max", processes.max(301).to_string());
        if is_ours && write().is_ok() {
            return Ok(());
        }
        lower(Resource::Nproc, processes, "processes")
    }

    fn inner_terminal(&self) -> Result<Option<OwnedFd>, Failure> {
        if !self.terminals.contains(&true) {
            target::new_session(None)?;
            return Ok(None);
        }
        let (master, slave) = terminal::open_inner().map_err(step("open", "/dev/ptmx"))?;
        target::new_session(Some(&slave))?;
        Report::Terminal.send(&self.channel, &[master]).map_err(step("reach", "the parent"))?;
        Ok(Some(slave))
    }

    fn start_target(
        &mut self,
        slave: Option<OwnedFd>,
        (reopened, beneath, list): (Reopened, Beneath, Option<File>),
    ) -> Result<Option<Running>, Failure> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (status_read, status_write) = pipe().map_err(step("make", "a pipe"))?;
        let (go_read, go_write) = pipe().map_err(step("make", "a pipe"))?;
        let denials = self.denials(list).map_err(step("reach", "the parent"))?;
        let command = with_list(self.command, &denials);
        let child_signals = SignalSet::of(&[libc::SIGCHLD]);
        signal_unsafe::block(&child_signals).map_err(step("block", "SIGCHLD"))?;
        let signals =
            signal_unsafe::signalfd(&child_signals).map_err(step("open", "a signalfd"))?;
        let fork = process_unsafe::fork().map_err(step("fork", "the command"))?;
        let pid = match fork {
            Fork::Parent(pid) => pid,
            Fork::Child => {
                let terminals = self.terminals;
                let target = Target {
                    plan: self.plan,
                    command: &command,
                    mask: self.mask,
                    ignored: self.ignored,
                    terminal: slave.map(|slave| (slave, terminals)),
                    canary_port: self.canary_port,
                    status: File::from(status_write),
                    go: File::from(go_read),
                };
                refuse_and_exit(target)
            }
        };
        drop((status_write, go_read, slave));
        // The command's own are the only ones that count: whoever reads its output must see the
        // end when it closes it.
        exec_unsafe::detach_stdio(&[0, 1, 2]).map_err(step("detach from", "standard output"))?;
        let status = File::from(status_read);
        let supervisor = if self.plan.walls.seccomp && self.plan.walls.namespaces {
            match take_listener(pid, &status)? {
                Some(listener) => {
                    let files = |guard| Files::new(guard, beneath, self.plan.writable());
                    let files = self.plan.guard.clone().map(files);
                    let judges = (files, self.plan.execs.clone());
                    let told = Arc::clone(&denials);
                    let started = Supervisor::start(listener, judges, self.open_gate()?, told);
                    Some(started.map_err(step("start", "the supervisor"))?)
                }
                None => return Err(read_refusal(&status).map_or_else(lost, as_failure)),
            }
        } else {
            None
        };
        File::from(go_write).write_all(&[1]).map_err(step("start", "the command"))?;
        Ok(Some(Running { pid, status: Some(status), signals, supervisor, denials, reopened }))
    }
}

/// The command, told where to read what was refused to it.
fn with_list(command: &Command, denials: &Denials) -> Command {
    let mut command = command.clone();
    command.environment.retain(|(name, _)| name != DENIALS_VARIABLE);
    if denials.has_list() {
        let path = Path::new(RUNTIME).join(mounts::DENIALS);
        command.environment.push((DENIALS_VARIABLE.into(), path.into()));
    }
    command
}

/// Lowers a limit of this process and its children to `most`.
fn lower(resource: Resource, most: u64, what: &'static str) -> Result<(), Failure> {
    let old = rustix::process::getrlimit(resource);
    let lower = |old: Option<u64>| Some(old.map_or(most, |old| old.min(most)));
    let new = Rlimit { current: lower(old.current), maximum: lower(old.maximum) };
    rustix::process::setrlimit(resource, new).map_err(step("limit", what))
}

fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

/// Maps the one id that an ordinary user can map: their own.
pub(super) fn map_own_ids((uid, gid): (u32, u32)) -> Result<(), Failure> {
    let write = |name: &str, text: String| {
        let path = format!("/proc/self/{name}");
        fs::write(&path, text).map_err(step("write", path))
    };
    write("uid_map", format!("{uid} {uid} 1\n"))?;
    // Without this an ordinary user may not map a group (user_namespaces(7)).
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{gid} {gid} 1\n"))
}

/// Whether the running kernel's version is at least this one.
fn kernel_is_since(major: u32, minor: u32) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    found >= (major, minor)
}

/// The child's side: becomes the command, or writes why not and ends.
fn refuse_and_exit(target: Target<'_>) -> ! {
    let mut status = target.status.try_clone();
    let refusal = target.run();
    if let Ok(status) = &mut status {
        // Nobody is left to hear of an error here; PID 1 then sees an early end.
        status.write_all(&encode(&refusal)).ok();
    }
    super::sys::process_unsafe::exit_now(125)
}

/// `number` on the pipe is the listener's; a refusal starts with -2.
const REFUSED: i32 = -2;

fn encode(refusal: &Refusal) -> Vec<u8> {
    let mut packet = REFUSED.to_le_bytes().to_vec();
    match refusal {
        Refusal::Program(errno) => {
            packet.push(b'p');
            packet.extend(errno.to_le_bytes());
        }
        Refusal::Setup(failure) => {
            packet.push(b's');
            packet.extend(failure.errno.to_le_bytes());
            packet.extend(failure.step.as_bytes());
            packet.push(0);
            packet.extend(std::os::unix::ffi::OsStrExt::as_bytes(failure.subject.as_os_str()));
        }
    }
    packet
}

/// Reads what is left on the pipe. `None` when the program was executed, or the child died.
fn read_refusal(mut status: &File) -> Option<Refusal> {
    let mut packet = Vec::new();
    status.read_to_end(&mut packet).ok()?;
    let marker = REFUSED.to_le_bytes();
    let packet = packet.strip_prefix(&marker).unwrap_or(&packet);
    let (&[kind, a, b, c, d], rest) = packet.split_first_chunk::<5>()?;
    let errno = i32::from_le_bytes([a, b, c, d]);
    if kind == b'p' {
        return Some(Refusal::Program(errno));
    }
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let subject: &std::ffi::OsStr =
        std::os::unix::ffi::OsStrExt::from_bytes(parts.next().unwrap_or_default());
    Some(Refusal::Setup(Failure { step: text, subject: subject.into(), errno }))
}

fn as_failure(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Setup(failure) => failure,
        Refusal::Program(errno) => {
            Failure { step: "start".to_owned(), subject: "the command".into(), errno }
        }
    }
}

fn lost() -> Failure {
    Failure { step: "start".to_owned(), subject: "the command".into(), errno: libc::ECHILD }
}

/// Takes the listener out of the target; `None` when the target refused before it had one.
fn take_listener(pid: i32, mut status: &File) -> Result<Option<OwnedFd>, Failure> {
    let mut number = [0; 4];
    status.read_exact(&mut number).map_err(step("start", "the command"))?;
    let number = i32::from_le_bytes(number);
    if number == REFUSED {
        return Ok(None);
    }
    let take = || -> io::Result<OwnedFd> {
        let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
        Ok(rustix::process::pidfd_getfd(pidfd, number, PidfdGetfdFlags::empty())?)
    };
    take().map(Some).map_err(step("supervise", "the command"))
}

/// Ends this process, and so everything inside, as soon as the parent is gone.
fn watch_parent(inside: &Inside<'_>) -> io::Result<()> {
    let channel = inside.channel.try_clone()?;
    let outer = match &inside.outer {
        Some((terminal, settings)) => Some((terminal.try_clone()?, settings.clone())),
        None => None,
    };
    let watch = move || {
        // Asks for nothing but the hang-up, which is always told.
        let mut fds = [PollFd::new(&channel, PollFlags::empty())];
        while let Ok(0) | Err(rustix::io::Errno::INTR) = poll(&mut fds, None) {}
        terminal::restore(outer.as_ref());
        process_unsafe::exit_now(1)
    };
    std::thread::Builder::new().stack_size(64 * 1024).spawn(watch).map(drop)
}

/// The command runs, or is about to.
#[derive(Debug)]
struct Running {
    pid: i32,
    /// Open until the program was executed or refused.
    status: Option<File>,
    signals: OwnedFd,
    supervisor: Option<Supervisor>,
    denials: Arc<Denials>,
    reopened: Reopened,
}

impl Running {
    /// Serves until the command ends or the parent is gone.
    fn serve(mut self, inside: &Inside<'_>) -> i32 {
        if inside.outer.is_some() {
            // From here on the terminal has to be restored when the parent is killed, so its
            // end is noticed on the channel instead; by a thread of its own, because the command
            // can make this one wait (a socket that becomes a blocking one while it is used).
            if watch_parent(inside).is_ok() {
                credentials_unsafe::set_parent_death_signal(0).ok();
            }
        }
        loop {
            match self.turn(inside) {
                Ok(None) => {}
                Ok(Some(status)) => return status,
                Err(_) => {
                    terminal::restore(inside.outer.as_ref());
                    return 1;
                }
            }
        }
    }

    fn turn(&mut self, inside: &Inside<'_>) -> io::Result<Option<i32>> {
        let ready = {
            let mut fds = vec![
                PollFd::new(&inside.channel, PollFlags::IN),
                PollFd::new(&self.signals, PollFlags::IN),
            ];
            fds.extend(
                self.supervisor.as_ref().map(|s| PollFd::new(s.listener(), PollFlags::empty())),
            );
            fds.extend(self.status.as_ref().map(|status| PollFd::new(status, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let flags: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            flags
        };
        let is_ready = |index: usize| ready.get(index).is_some_and(|flags| !flags.is_empty());
        let listener_index = 2;
        let status_index = 2 + usize::from(self.supervisor.is_some());
        if self.supervisor.is_some()
            && ready.get(listener_index).is_some_and(|flags| flags.contains(PollFlags::HUP))
        {
            // Every process under the filter has ended.
            self.supervisor = None;
        } else if self.status.is_some() && is_ready(status_index) && !self.executed(inside)? {
            return Ok(Some(0));
        }
        if is_ready(0) && !self.obey(inside)? {
            terminal::restore(inside.outer.as_ref());
            return Ok(Some(1));
        }
        if is_ready(1) {
            return self.reap(inside);
        }
        Ok(None)
    }

    /// The status pipe spoke or closed: whether the program was executed.
    fn executed(&mut self, inside: &Inside<'_>) -> io::Result<bool> {
        let Some(status) = self.status.take() else { return Ok(true) };
        let report = match read_refusal(&status) {
            None => {
                let processes = usage::sources(inside.plan.walls.mounts)?;
                Report::Started.send(&inside.channel, &processes)?;
                return Ok(true);
            }
            Some(Refusal::Program(errno)) => {
                Report::NotRun(inside.command.program.clone().into(), errno)
            }
            Some(Refusal::Setup(failure)) => Report::Failed(failure),
        };
        report.send(&inside.channel, &[])?;
        Ok(false)
    }

    /// Carries out one order; `false` when the parent is gone.
    fn obey(&self, inside: &Inside<'_>) -> io::Result<bool> {
        let Some(order) = Order::receive(&inside.channel)? else { return Ok(false) };
        match order {
            Order::Signal(signal) => {
                // Those that a terminal sends go to the whole group, as there.
                let all = matches!(
                    signal,
                    libc::SIGINT | libc::SIGQUIT | libc::SIGTSTP | libc::SIGHUP | libc::SIGCONT
                );
                let whom = if all { -self.pid } else { self.pid };
                // A command that has just ended is about to be reaped.
                process_unsafe::kill(whom, signal).ok();
            }
            Order::Resume => {
                process_unsafe::kill(-self.pid, libc::SIGCONT).ok();
            }
            Order::Mapped | Order::Served => {}
        }
        Ok(true)
    }

    fn reap(&mut self, inside: &Inside<'_>) -> io::Result<Option<i32>> {
        signal_unsafe::next_signal(self.signals.as_fd())?;
        let mut ended = None;
        while let Some((pid, change)) = process_unsafe::reap()? {
            if pid != self.pid {
                continue;
            }
            match change {
                Change::Stopped(signal) => {
                    Report::Stopped(signal).send(&inside.channel, &[])?;
                }
                Change::Exited(status) => ended = Some(End::Exited(status)),
                Change::Killed(signal) => ended = Some(End::Killed(signal)),
            }
        }
        let Some(end) = ended else { return Ok(None) };
        // The end may be noticed before the pipe that says why nothing was executed.
        if self.status.is_some() && !self.executed(inside)? {
            return Ok(Some(0));
        }
        self.reopened.give_positions_back();
        self.denials.finish();
        Report::Ended(end).send(&inside.channel, &[])?;
        Ok(Some(0))
    }
}
