//! The parent outside: makes PID 1, keeps the terminal, passes signals on, waits for the end.

use std::fs;
use std::io::{self, Read as _};
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags};
use stockade_policy::{AbsPath, Limits, Policy};

use super::control::{self, End, Order, Report};
use super::forward;
use super::hand;
use super::init::Inside;
use super::keeping::Beat;
use super::leash::Leash;
use super::mounts;
use super::pause::Pauser;
use super::plan::{Plan, Walls};
use super::second;
use super::services::Services;
use super::space::Space;
use super::sys::exec_unsafe;
use super::sys::pages_unsafe;
use super::sys::process_unsafe::{self, Change, Fork, Namespaced};
use super::sys::signal_unsafe::{self, SignalSet};
use super::terminal::{self, Terminal};
use super::unconfined;
use super::usage::Usage;
use crate::launch::{Asked, OWN_PROGRAM, Ties, Told};
use crate::{Command, Launch, Outcome, SetupError, notes};

/// Signals that are passed on to the command.
const FORWARDED: [i32; 9] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGTSTP,
    libc::SIGALRM,
    libc::SIGWINCH,
];

/// Further ones that must not end or stop this process while it keeps a terminal.
const HELD: [i32; 4] = [libc::SIGCONT, libc::SIGTTIN, libc::SIGTTOU, libc::SIGCHLD];

/// How long a command may take to end after a signal that asks it to.
const GRACE: Duration = Duration::from_secs(10);

/// How long a command has to run before this process lets go of what it needed to start it.
const REST: Duration = Duration::from_millis(500);

/// Runs `launch` behind every wall, until it or `leash` ends.
pub(crate) fn launch(
    launch: &Launch,
    leash: &Leash,
    ties: &mut Ties<'_>,
) -> Result<Outcome, SetupError> {
    // Never freed, as the launch is not.
    let mut plan = ManuallyDrop::new(Plan::new(&launch.policy, &host_sockets()));
    plan.layers.clone_from(&launch.layers);
    plan.caches.clone_from(&launch.caches);
    plan.execs.clone_from(&launch.execs);
    plan.notes.clone_from(&launch.notes);
    plan.keeping = launch.keeping.clone().filter(|_| plan.guard.is_some());
    plan.runs_itself = launch.command.program == OWN_PROGRAM;
    match run(&plan, &launch.command, &launch.policy, (leash, ties)) {
        Err(error) if second::is_called_for(&error) => {
            second::launch(launch, error, (&plan, leash, ties))
        }
        other => other,
    }
}

/// Runs `command` as `plan` says. The tests of single walls start here.
pub(super) fn run(
    plan: &Plan,
    command: &Command,
    policy: &Policy,
    (leash, ties): (&Leash, &mut Ties<'_>),
) -> Result<Outcome, SetupError> {
    let ignored = signal_unsafe::ignored(&FORWARDED);
    let mut held = FORWARDED.to_vec();
    held.extend(HELD);
    let set = SignalSet::of(&held);
    let mask = signal_unsafe::block(&set).map_err(host("block signals"))?;
    let result = run_masked(plan, command, (policy, leash, ties), (mask, &set, &ignored));
    signal_unsafe::set_mask(&mask).map_err(host("restore the signal mask"))?;
    result
}

fn run_masked(
    plan: &Plan,
    command: &Command,
    (policy, leash, ties): (&Policy, &Leash, &mut Ties<'_>),
    (mask, set, ignored): (SignalSet, &SignalSet, &[i32]),
) -> Result<Outcome, SetupError> {
    // Without a loopback here there is nothing for the canary to reach.
    let canary = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok();
    let canary_port = canary.as_ref().and_then(|listener| Some(listener.local_addr().ok()?.port()));
    let terminals = terminal::which();
    let mut terminal = Terminal::of_user(terminals);
    let (ours, theirs) = control::pair().map_err(host("make a socket pair"))?;
    let (services, inner) = Services::of(plan, ties).map_err(host("make a socket pair"))?;
    let pauser = match &ties.ask {
        Asked::Served(ask) => ask.pauser.clone(),
        Asked::Nobody | Asked::Elsewhere(_) => None,
    };
    // Before the clone: in a user namespace without a map every id is the overflow id.
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    let is_root = uid.is_root() && plan.walls.namespaces;
    if !plan.walls.namespaces {
        process_unsafe::become_subreaper().map_err(host("become the reaper of orphans"))?;
    }
    let notes = opened_notes(plan)?;
    let child = match begin(plan.walls) {
        Ok(Fork::Parent(child)) => child,
        Ok(Fork::Child) => {
            drop(ours);
            let inside = Inside {
                plan,
                command,
                channel: theirs,
                gate: inner.gate,
                proxy: None,
                asks: inner.asks,
                notes,
                mask,
                ignored,
                mapped_outside: is_root,
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                canary_port,
                outer: terminal.as_ref().and_then(Terminal::for_restoring),
                terminals,
            };
            process_unsafe::exit_now(inside.live())
        }
        Err(error) => return Err(SetupError::Namespaces(error)),
    };
    drop((theirs, inner, notes));
    if is_root {
        map_ids(&child).map_err(host("map user and group ids"))?;
        Order::Mapped.send(&ours).map_err(host("reach PID 1"))?;
    }
    if let Some(meanwhile) = ties.meanwhile.take() {
        meanwhile();
    }
    let mut outside = Outside {
        child,
        channel: ours,
        leash,
        ties,
        services,
        signals: signal_unsafe::signalfd(set).map_err(host("open a signalfd"))?,
        terminal: terminal.take(),
        pauser,
        deadline: policy.limits.wall_time.map(|limit| (Instant::now() + limit, limit)),
        limits: &policy.limits,
        plan,
        beat: beat(plan),
        usage: None,
        rest: None,
        last_chance: None,
        is_asked_to_stop: false,
    };
    let result = outside.watch();
    outside.close(result)
}

/// Where PID 1 notes what is looked at when the run is over.
fn opened_notes(plan: &Plan) -> Result<Option<fs::File>, SetupError> {
    let path = plan.notes.as_deref().filter(|_| plan.guard.is_some());
    path.map(notes::open).transpose().map_err(host("open the list of what is looked at"))
}

/// Tells what is kept that the run lives.
fn beat(plan: &Plan) -> Option<Beat> {
    plan.keeping.as_ref().map(Beat::begin)
}

/// The process inside. In the namespaces of the host it is forked without `clone3`, which the filters
/// of containers may not let pass.
fn begin(walls: Walls) -> io::Result<Fork<Namespaced>> {
    if walls.namespaces {
        return process_unsafe::clone_into(namespaces(walls));
    }
    Ok(match process_unsafe::fork()? {
        Fork::Child => Fork::Child,
        Fork::Parent(pid) => {
            let number = Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?;
            let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty())?;
            Fork::Parent(Namespaced { pid, pidfd })
        }
    })
}

fn host(step: &'static str) -> impl FnOnce(io::Error) -> SetupError {
    move |error| SetupError::Host(step.into(), error)
}

pub(super) fn namespaces(walls: Walls) -> i32 {
    let mut flags = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    if walls.network {
        flags |= libc::CLONE_NEWNET;
    }
    flags
}

/// Gives root's sandbox every id that this process has itself, so that the owners of files
/// are seen as they are. No capability comes with it.
fn map_ids(child: &Namespaced) -> io::Result<()> {
    for name in ["uid_map", "gid_map"] {
        let own = fs::read_to_string(format!("/proc/self/{name}"))?;
        let mut map = String::new();
        for line in own.lines() {
            let mut fields = line.split_whitespace();
            if let (Some(first), Some(_), Some(count)) =
                (fields.next(), fields.next(), fields.next())
            {
                map.extend([first, " ", first, " ", count, "\n"]);
            }
        }
        fs::write(format!("/proc/{}/{name}", child.pid), map)?;
    }
    Ok(())
}

/// Named sockets that somebody on this host listens on now.
///
/// The list of the host's network namespace, `proc_net(5)`: one line each, the path last. What
/// is not an absolute path is an abstract name or relative to a folder that is not known.
fn host_sockets() -> Vec<AbsPath> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut list = Vec::with_capacity(16 * 1024);
    // `take` keeps it from asking for a size, which such a file does not have.
    let whole = fs::File::open("/proc/self/net/unix")
        .and_then(|file| file.take(u64::MAX).read_to_end(&mut list));
    if whole.is_err() {
        return Vec::new();
    }
    let mut found: Vec<_> = list
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let start = line.windows(2).position(|pair| pair == b" /")?;
            Some(std::path::Path::new(std::ffi::OsStr::from_bytes(line.get(start + 1..)?)))
        })
        .filter(|path| {
            !["/run", "/tmp", "/var/tmp", "/dev"].iter().any(|root| path.starts_with(root))
        })
        .filter_map(|path| AbsPath::new(mounts::canonical(path)?).ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// The run as seen from outside.
struct Outside<'a, 'b> {
    child: Namespaced,
    channel: OwnedFd,
    leash: &'a Leash,
    ties: &'a mut Ties<'b>,
    /// Begun when the walls stand.
    services: Services,
    signals: OwnedFd,
    terminal: Option<Terminal>,
    /// By whom the terminal is asked for.
    pauser: Option<Pauser>,
    deadline: Option<(Instant, Duration)>,
    limits: &'a Limits,
    plan: &'a Plan,
    beat: Option<Beat>,
    /// Known when the command runs.
    usage: Option<Usage>,
    /// When the pages are let go of that were read until the command ran.
    rest: Option<Instant>,
    /// When the command is ended that was asked to end, and by which signal.
    last_chance: Option<(Instant, i32)>,
    /// Whether somebody outside asked this process to stop.
    is_asked_to_stop: bool,
}

/// What became readable.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "one for each descriptor that is polled")]
struct Ready {
    channel: bool,
    leash: bool,
    signals: bool,
    keyboard: bool,
    inner_output: bool,
    inner_input: bool,
    question: bool,
}

impl Outside<'_, '_> {
    /// Serves until the command has ended or could not be started.
    fn watch(&mut self) -> Result<Outcome, SetupError> {
        loop {
            if let Some(outcome) = self.overdue() {
                return Ok(outcome);
            }
            if let Some(pauser) = &self.pauser {
                pauser.serve(self.terminal.as_mut());
            }
            let ready = self.wait().map_err(host("wait for the command"))?;
            if ready.leash {
                return Ok(Outcome::Killed(libc::SIGKILL));
            }
            if ready.signals {
                self.pass_signals()?;
            }
            if ready.question {
                self.answer();
            }
            if let Some(terminal) = &mut self.terminal {
                if ready.keyboard {
                    terminal.read_keys();
                }
                if ready.inner_input {
                    terminal.write_inner();
                }
                if ready.inner_output {
                    terminal.show();
                }
            }
            if ready.channel
                && let Some(outcome) = self.hear()?
            {
                return Ok(outcome);
            }
        }
    }

    /// Has the first question answered, and what follows. There is none from a sandbox that is gone.
    fn answer(&mut self) {
        self.services.answer(self.ties);
    }

    fn overdue(&mut self) -> Option<Outcome> {
        if let Some(beat) = &mut self.beat {
            beat.beat();
        }
        if let Some(exceeded) = self.usage.as_mut().and_then(Usage::look) {
            return Some(Outcome::OverLimit(exceeded));
        }
        let now = Instant::now();
        if let Some(terminal) = &mut self.terminal {
            terminal.settle(now);
        }
        if self.rest.is_some_and(|when| now >= when) {
            self.rest = None;
            pages_unsafe::let_go_of_program();
        }
        if let Some((when, limit)) = self.deadline
            && now >= when
        {
            return Some(Outcome::TimedOut(limit));
        }
        let (when, signal) = self.last_chance?;
        (now >= when).then_some(Outcome::Killed(signal))
    }

    fn wait(&self) -> io::Result<Ready> {
        let next = self.deadline.map(|(when, _)| when).into_iter();
        let next = next.chain(self.last_chance.map(|(when, _)| when));
        let next = next.chain(self.terminal.as_ref().and_then(Terminal::next));
        let next = next.chain(self.usage.as_ref().map(Usage::next)).chain(self.rest).min();
        let timeout = next.map(|when| {
            let left = when.saturating_duration_since(Instant::now());
            Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            }
        });
        let mut fds = vec![
            PollFd::new(&self.channel, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
        ];
        let terminal = self.terminal.as_ref();
        let inner = terminal.and_then(Terminal::inner);
        let keyboard = terminal.and_then(Terminal::keyboard);
        if let Some((fd, has_input)) = inner {
            let out = if has_input { PollFlags::OUT } else { PollFlags::empty() };
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN | out));
        }
        if let Some(fd) = keyboard {
            fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let leash_index = fds.len();
        fds.extend(self.leash.fd().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        // Looked at in every turn.
        let wishes = self.pauser.as_ref().filter(|_| self.terminal.is_some()).map(Pauser::fd);
        fds.extend(wishes.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let asks_index = fds.len();
        let asks = self.services.asks();
        let has_asks = asks.is_some();
        fds.extend(asks.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = |index: usize| fds.get(index).map_or(PollFlags::empty(), PollFd::revents);
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        let keyboard_index = 2 + usize::from(inner.is_some());
        Ok(Ready {
            channel: flags(0).intersects(readable),
            leash: self.leash.fd().is_some() && flags(leash_index).intersects(readable),
            signals: flags(1).intersects(readable),
            inner_output: inner.is_some() && flags(2).intersects(readable),
            inner_input: inner.is_some() && flags(2).contains(PollFlags::OUT),
            keyboard: keyboard.is_some() && flags(keyboard_index).intersects(readable),
            question: has_asks && flags(asks_index).intersects(readable),
        })
    }

    fn pass_signals(&mut self) -> Result<(), SetupError> {
        let step = "read signals";
        while let Some(signal) =
            signal_unsafe::next_signal(self.signals.as_fd()).map_err(host(step))?
        {
            match signal {
                libc::SIGWINCH => {
                    if let Some(terminal) = &mut self.terminal {
                        terminal.resize();
                    }
                }
                libc::SIGCONT => {
                    if let Some(terminal) = &mut self.terminal {
                        terminal.enter();
                        terminal.resize();
                    }
                    Order::Resume.send(&self.channel).ok();
                }
                signal if FORWARDED.contains(&signal) => {
                    self.is_asked_to_stop |= signal == libc::SIGTSTP;
                    if matches!(signal, libc::SIGTERM | libc::SIGHUP) {
                        self.last_chance = Some((Instant::now() + GRACE, signal));
                    }
                    // PID 1 may have just ended; the channel tells.
                    Order::Signal(signal).send(&self.channel).ok();
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes one report; `Some` when it was the last.
    fn hear(&mut self) -> Result<Option<Outcome>, SetupError> {
        let received = Report::receive(&self.channel).map_err(host("hear from PID 1"))?;
        let Some((report, descriptors)) = received else {
            let how = match process_unsafe::wait_for_end(self.child.pid) {
                Ok(Change::Exited(status)) => format!("exit status {status}"),
                Ok(Change::Killed(signal) | Change::Stopped(signal)) => format!("signal {signal}"),
                Err(error) => error.to_string(),
            };
            return Err(SetupError::Lost { how });
        };
        match report {
            Report::Failed(failure) => Err(failure.into()),
            Report::NotRun(program, errno) => {
                Err(SetupError::NotRun { program, source: io::Error::from_raw_os_error(errno) })
            }
            Report::Note(text) => {
                (self.ties.tell)(Told::Note(&text));
                Ok(None)
            }
            Report::Denied(denial) => {
                (self.ties.tell)(Told::Denied(denial));
                Ok(None)
            }
            Report::DeniedMore(count) => {
                (self.ties.tell)(Told::DeniedMore(count));
                Ok(None)
            }
            Report::Standing => {
                self.services.begin(self.ties)?;
                Order::Served.send(&self.channel).map_err(host("reach PID 1"))?;
                Ok(None)
            }
            Report::Started => {
                Services::let_go(self.ties);
                let root = (!self.plan.walls.namespaces).then_some(self.child.pid);
                let folder = self.plan.temporary.as_deref().filter(|_| root.is_some());
                let space = folder.map(|folder| Space::of(folder, self.limits.tmp_bytes));
                let space = space.transpose().map_err(host("look at the temporary folder"))?;
                self.usage = Usage::of(descriptors, (root, space), self.limits);
                // Standard error stays: what ends a run is said there.
                exec_unsafe::detach_stdio(&[0, 1]).map_err(host("detach from standard output"))?;
                self.leash.started();
                self.rest = Some(Instant::now() + REST);
                Ok(None)
            }
            Report::Terminal => {
                if let (Some(terminal), Some(master)) =
                    (&mut self.terminal, descriptors.into_iter().next())
                {
                    terminal.attach(master).map_err(host("use the inner terminal"))?;
                }
                Ok(None)
            }
            Report::Listeners => {
                forward::serve(descriptors).map_err(host("serve a host port"))?;
                Ok(None)
            }
            Report::TakeAway { path, is_folder } => {
                hand::serve(self.plan, &path, is_folder, descriptors.into_iter().next());
                Ok(None)
            }
            Report::Stopped(_) => {
                self.stop();
                Ok(None)
            }
            Report::Ended(end) => Ok(Some(self.ended(end))),
        }
    }

    /// Says at which limits calls have failed.
    fn ended(&mut self, end: End) -> Outcome {
        for what in self.usage.iter().flat_map(Usage::reached) {
            (self.ties.tell)(Told::Note(&what));
        }
        match end {
            End::Exited(status) => Outcome::Exited(status),
            End::Killed(signal) => Outcome::Killed(signal),
        }
    }

    /// Stops with the command, so that the user's shell has its terminal, and goes on with it
    /// when the shell continues the job.
    ///
    /// A command that stops by itself, away from the user's keyboard, stops nobody else: the time
    /// limit goes on, and programs outside that share this process' group are none of its.
    fn stop(&mut self) {
        let has_keys = self.terminal.as_ref().is_some_and(Terminal::is_raw);
        if !has_keys && !std::mem::take(&mut self.is_asked_to_stop) {
            return;
        }
        self.is_asked_to_stop = false;
        if let Some(terminal) = &mut self.terminal {
            while terminal.show() {}
            terminal.leave();
        }
        if has_keys {
            // Others in the user's job, whom the raw terminal did not tell; first, because this
            // process does not come back from the next.
            process_unsafe::kill(0, libc::SIGTSTP).ok();
        }
        process_unsafe::kill(std::process::id().cast_signed(), libc::SIGSTOP).ok();
    }

    /// Gives the guardian the time to take away what the kernel does not: objects of System V, which it
    /// alone knows. It does so after it has told how the command ended, or when nobody listens any more.
    fn await_guardian(&self) {
        const BY_ITSELF: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };
        const AT_MOST: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
        let ends = |within| {
            poll(&mut [PollFd::new(&self.child.pidfd, PollFlags::IN)], Some(within))
                .is_ok_and(|ready| ready > 0)
        };
        if !ends(&BY_ITSELF) {
            rustix::net::shutdown(&self.channel, rustix::net::Shutdown::Both).ok();
            ends(&AT_MOST);
        }
    }

    /// Ends what is left, and only then gives the terminal back and the result.
    fn close(mut self, result: Result<Outcome, SetupError>) -> Result<Outcome, SetupError> {
        let pidfd = self.child.pidfd.as_fd();
        if !self.plan.walls.namespaces {
            self.await_guardian();
        }
        // It has ended by then in every case but a time-out; ESRCH.
        rustix::process::pidfd_send_signal(pidfd, rustix::process::Signal::KILL).ok();
        // The kernel lets PID 1 go only when everything in its namespace is gone. ECHILD when
        // it was waited for already.
        process_unsafe::wait_for_end(self.child.pid).ok();
        if !self.plan.walls.namespaces {
            unconfined::end_descendants();
        }
        if let Some(terminal) = &mut self.terminal {
            terminal.finish();
        }
        result
    }
}
