//! PID 1 inside: puts up the walls, starts the command, and stays as its init and supervisor.
//!
//! It reaps, passes signals on, answers trapped calls, and takes everything with it when it
//! ends; it ends when the command ends or when the parent outside is gone.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit};
use rustix::termios::Termios;

use super::asks::Asker;
use super::control::{self, End, Order, Report};
use super::doors;
use super::failure::{Failure, step};
use super::gate::{self, Gate};
use super::hand::Hand;
use super::mounts;
use super::plan::{Plan, RUNTIME};
use super::refusal::{as_failure, lost, read_refusal, refuse_and_exit, take_listener};
use super::ssh::{self, Agent};
use super::stdio::{Given, Reopened};
use super::supervisor::{Around, Denials, Files, Peers, Supervisor, Terminals, system_v};
use super::sys::exec_unsafe;
use super::sys::process_unsafe::{self, Change, Fork};
use super::sys::signal_unsafe::{self, SignalSet};
use super::sys::{credentials_unsafe, socket_unsafe};
use super::target::{self, Refusal, Target};
use super::{keeping, landlock, second, temporary, terminal, unconfined, usage, watches};
use crate::Command;

/// Names the list of refusals to the programs inside.
const DENIALS_VARIABLE: &str = "STOCKADE_DENIALS";

/// What is made in the view for the command.
#[derive(Debug)]
struct Shown {
    /// Where refusals are written.
    list: Option<File>,
    /// Where its ssh agent is.
    agent: Option<Agent>,
}

/// What PID 1 is born with.
#[derive(Debug)]
pub(crate) struct Inside<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) command: &'a Command,
    /// The socket to the parent.
    pub(crate) channel: OwnedFd,
    /// The end of the way out, if there is one.
    pub(crate) gate: Option<OwnedFd>,
    /// Where the proxy is inside, once the network is up.
    pub(crate) proxy: Option<OwnedFd>,
    /// Where questions are put, if anybody answers them.
    pub(crate) asks: Option<OwnedFd>,
    /// What is noted for the end goes there. It was opened outside: a mount of the view that
    /// somebody writes to cannot be made read-only.
    pub(crate) notes: Option<File>,
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
        end_rest(self.plan.walls.namespaces, self.plan.temporary.as_deref());
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
            if let Some(way) = &self.plan.way_out {
                gate::let_go_of(&way.published).map_err(step("free", "published ports"))?;
            }
        }
        if self.plan.walls.network {
            self.proxy = self.network()?;
        }
        let (mut list, mut agent, mut mask) = (None, None, None);
        let mut given = Given::default();
        let mut around = Around { notes: self.notes.take(), ..Around::default() };
        let has_view = self.plan.walls.mounts;
        let keep = |keeping| keeping::begin(keeping, has_view).map(Arc::new);
        around.keep = self.plan.keeping.as_ref().map(keep).transpose()?;
        if has_view {
            let channel = self.channel.try_clone().map_err(step("reach", "the parent"))?;
            around.hand = Some(Hand::new(channel));
            around.beneath = mounts::beneath(self.plan)?;
            given = Given::before_view();
            let built = mounts::build(self.plan)?;
            (list, agent, mask) = (built.denials, built.agent, Some(built.mask));
            if let Some(note) = built.note {
                let note = Report::Note(note.to_owned());
                note.send(&self.channel, &[]).map_err(step("reach", "the parent"))?;
            }
        }
        if !self.plan.walls.namespaces {
            list = second::denials(self.plan)?;
            agent = second::agent(self.plan)?;
        }
        let shown = Shown { list, agent: self.offer(agent)? };
        self.limits()?;
        let mut reopened = Reopened::default();
        if self.plan.walls.mounts {
            mounts::close_proc()?;
            reopened = Reopened::in_view(given)?;
        }
        let slave = self.inner_terminal()?;
        credentials_unsafe::set_no_new_privs().map_err(step("set", "no_new_privs"))?;
        credentials_unsafe::set_undumpable().map_err(step("guard", "PID 1"))?;
        if self.plan.walls.landlock {
            let ours = (slave.as_ref(), mask.as_ref());
            landlock::restrict(self.plan, ours, around.keep.as_deref())?;
        }
        match credentials_unsafe::forsake_privileges() {
            // Without namespaces it may be that there is no right to; with `no_new_privs` nothing
            // that is executed gains what this process does not hold (prctl(2)).
            Err(error) if !self.plan.walls.namespaces && is_refused(&error) => {}
            other => other.map_err(step("drop", "privileges"))?,
        }
        let mut kept = u32::from(self.plan.walls.namespaces) << credentials_unsafe::CAP_SYS_PTRACE;
        if self.gate.is_some() && self.plan.walls.namespaces {
            // Over the sandbox's own ports, on which connections to hosts begin.
            kept |= 1 << credentials_unsafe::CAP_NET_BIND_SERVICE;
        }
        credentials_unsafe::keep_capabilities(kept).map_err(step("drop", "capabilities"))?;
        self.start_target(slave, (reopened, around, shown))
    }

    /// The way out, for the supervisor. Nothing is forked any more, so there may be threads.
    fn open_gate(
        &mut self,
        peers: Option<&Arc<Peers>>,
        agent: Option<Agent>,
    ) -> Result<Option<Gate>, Failure> {
        let Some(channel) = self.gate.take() else { return Ok(None) };
        if let (Some(way), Some(peers)) = (&self.plan.way_out, peers) {
            gate::set_up_shared(way, &channel, peers)?;
        }
        gate::make_sockets(&channel, peers.cloned()).map_err(step("offer", "sockets"))?;
        Ok(Some(Gate::new((channel, self.proxy.take()), peers.cloned(), agent)))
    }

    /// Hands out what the agent is served with; the value is its socket. Without a way out nobody serves it.
    fn offer(&self, agent: Option<(Agent, File)>) -> Result<Option<Agent>, Failure> {
        let (Some((agent, known_hosts)), Some(channel)) = (agent, &self.gate) else {
            return Ok(None);
        };
        doors::Inside(channel).known_hosts(known_hosts).map_err(step("reach", "the gateway"))?;
        Ok(Some(agent))
    }

    fn denials(&self, list: Option<File>) -> io::Result<Arc<Denials>> {
        let walls = self.plan.walls;
        let is_noted = walls.mounts || walls.supervisor;
        let canary = (walls.canary && is_noted).then(|| self.plan.canary.clone());
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

    /// The value is where the proxy is.
    fn network(&self) -> Result<Option<OwnedFd>, Failure> {
        let socket = rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::DGRAM,
            None,
        )
        .map_err(step("open", "a socket"))?;
        socket_unsafe::bring_loopback_up(socket.as_fd()).map_err(step("bring up", "lo"))?;
        let has_hosts = self.plan.way_out.as_ref().is_some_and(|way| way.has_hosts);
        if has_hosts || rustix::process::geteuid().is_root() {
            // For programs inside, which have no capability for it; PID 1 keeps its own. Where
            // `/proc/sys` cannot be written (a container) they have the ports above 1023.
            std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").ok();
        }
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
            (Some(way), Some(channel)) => gate::set_up(way, channel),
            _ => Ok(None),
        }
    }

    /// Tells the parent that the walls stand, and waits until it serves what comes out, if anything
    /// does. The value is the signals that came meanwhile, for a command that is not there yet.
    fn stand(&self) -> Result<Vec<i32>, Failure> {
        let mut early = Vec::new();
        if self.gate.is_none() {
            return Ok(early);
        }
        Report::Standing.send(&self.channel, &[]).map_err(step("reach", "the parent"))?;
        loop {
            match Order::receive(&self.channel).map_err(step("wait for", "the parent"))? {
                Some(Order::Served) => return Ok(early),
                Some(Order::Signal(signal)) => early.push(signal),
                Some(Order::Mapped | Order::Resume) => {}
                None => return Err(Failure::canary("the parent does not serve the network")),
            }
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
        if self.plan.walls.namespaces {
            watches::leave_half();
        }
        lower(Resource::Nofile, self.plan.open_files.into(), "open files")?;
        watches::leave_half_of_signals().map_err(step("limit", "signals that wait"))?;
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
        (reopened, around, shown): (Reopened, Around, Shown),
    ) -> Result<Option<Running>, Failure> {
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
        let (status_read, status_write) = pipe().map_err(step("make", "a pipe"))?;
        let (go_read, go_write) = pipe().map_err(step("make", "a pipe"))?;
        let handing = (!self.plan.walls.descriptors).then(control::pair).transpose();
        let (taking, handing) = handing.map_err(step("make", "a socket pair"))?.unzip();
        let early = self.stand()?;
        let Shown { list, agent } = shown;
        let denials = self.denials(list).map_err(step("reach", "the parent"))?;
        let command = with_list(self.command, (&denials, agent.as_ref()), self.plan);
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
                    asks: self.asks.is_some(),
                    status: File::from(status_write),
                    go: File::from(go_read),
                    handing,
                };
                refuse_and_exit(target)
            }
        };
        let is_second = !self.plan.walls.namespaces;
        let terminals = is_second.then(|| Terminals::new(slave.as_ref())).transpose();
        let around =
            Around { terminals: terminals.map_err(step("name", "the terminal"))?, ..around };
        drop((status_write, go_read, slave, handing));
        // The command's own are the only ones that count: whoever reads its output must see the
        // end when it closes it.
        exec_unsafe::detach_stdio(&[0, 1, 2]).map_err(step("detach from", "standard output"))?;
        let status = File::from(status_read);
        let supervisor = if self.plan.walls.seccomp && self.plan.walls.supervisor {
            match take_listener(pid, &status, taking.as_ref())? {
                Some(listener) => {
                    let alone = second::Alone::of(self.plan);
                    let (fixed, peers) = alone.map(|it| (it.fixed, Arc::new(it.peers))).unzip();
                    let around = Around { fixed, moved: self.plan.moved.clone(), ..around };
                    let files = |guard| Files::new(guard, around, self.plan.writable());
                    let files = self.plan.guard.clone().map(files);
                    let judges = (files, self.plan.execs.clone());
                    let told = (Arc::clone(&denials), self.asks.take().map(Asker::new));
                    system_v::allow(self.plan.segment_bytes);
                    let gate = self.open_gate(peers.as_ref(), agent)?;
                    Some(Supervisor::new(listener, judges, (gate, peers), told))
                }
                None => return Err(read_refusal(&status).map_or_else(lost, as_failure)),
            }
        } else {
            None
        };
        // Without a supervisor nobody waits for it.
        if supervisor.is_some() {
            File::from(go_write).write_all(&[1]).map_err(step("start", "the command"))?;
        }
        for signal in early {
            // It gets them when it no longer holds them back.
            process_unsafe::kill(pid, signal).ok();
        }
        Ok(Some(Running { pid, status: Some(status), signals, supervisor, denials, reopened }))
    }
}

/// The command, told where to read what was refused to it, and where its ssh agent is.
fn with_list(
    command: &Command,
    (denials, agent): (&Denials, Option<&Agent>),
    plan: &Plan,
) -> Command {
    let mut command = command.clone();
    command.environment.retain(|(name, _)| name != DENIALS_VARIABLE);
    let folder = plan.temporary.as_deref().unwrap_or(Path::new(RUNTIME));
    if agent.is_some() {
        ssh::lead(&mut command.environment, folder);
    }
    if denials.has_list() {
        let path = folder.join(mounts::DENIALS);
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

/// Without namespaces: as the kernel does with what is left of a PID namespace and its mounts.
fn end_rest(has_namespaces: bool, temporary: Option<&Path>) {
    if !has_namespaces {
        unconfined::end_descendants();
        system_v::remove_all();
        if let Some(folder) = temporary {
            temporary::empty(folder);
        }
    }
}

/// Ends this process, and so everything inside, as soon as the parent is gone.
fn watch_parent(inside: &Inside<'_>) -> io::Result<()> {
    let channel = inside.channel.try_clone()?;
    let (has_namespaces, temporary) = (inside.plan.walls.namespaces, inside.plan.temporary.clone());
    let outer = match &inside.outer {
        Some((terminal, settings)) => Some((terminal.try_clone()?, settings.clone())),
        None => None,
    };
    let watch = move || {
        // Asks for nothing but the hang-up, which is always told.
        let mut fds = [PollFd::new(&channel, PollFlags::empty())];
        while let Ok(0) | Err(rustix::io::Errno::INTR) = poll(&mut fds, None) {}
        terminal::restore(outer.as_ref());
        end_rest(has_namespaces, temporary.as_deref());
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
            fds.extend(self.supervisor.as_ref().map(|s| PollFd::new(s.listener(), s.awaited())));
            fds.extend(self.status.as_ref().map(|status| PollFd::new(status, PollFlags::IN)));
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let flags: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
            flags
        };
        let is_ready = |index: usize| ready.get(index).is_some_and(|flags| !flags.is_empty());
        let status_index = 2 + usize::from(self.supervisor.is_some());
        let of_listener = self.supervisor.as_ref().and(ready.get(2).copied());
        if of_listener.is_some_and(|flags| flags.contains(PollFlags::HUP)) {
            // Every process under the filter has ended.
            self.supervisor = None;
        } else if self.status.is_some() && is_ready(status_index) && !self.executed(inside)? {
            return Ok(Some(0));
        }
        if let Some(supervisor) = &mut self.supervisor
            && of_listener.is_some_and(|flags| flags.contains(PollFlags::IN))
        {
            // The status closes before the command's first call, and is looked at after it.
            supervisor.attend(self.status.is_none())?;
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
        while let Some((pid, change, status)) = process_unsafe::reap()? {
            let is_led = self.supervisor.as_ref().is_some_and(|it| it.hears(pid, status));
            if pid != self.pid || is_led {
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
        if inside.plan.walls.namespaces && std::process::id() == 1 {
            // What is left, by a signal and not by this end alone: as long as it lives its calls would
            // fail (`ENOSYS`, seccomp_unotify(2)) when nobody listens any more, and it would say so.
            process_unsafe::kill(-1, libc::SIGKILL).ok();
        }
        self.reopened.give_positions_back();
        self.denials.finish();
        Report::Ended(end).send(&inside.channel, &[])?;
        Ok(Some(0))
    }
}
