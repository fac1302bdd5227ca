//! The inner terminal and the user's own, and what passes between them.
//!
//! A program inside never holds the user's terminal: each of its descriptors 0–2 that was one
//! becomes the slave of a pseudoterminal made inside. What it could do to a terminal (push
//! input back, change its settings and die) it does to that one.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, OutputModes, SpecialCodeIndex, Termios, Winsize,
    isatty, tcgetattr, tcsetattr,
};

use super::modes::Modes;
use super::sys::exec_unsafe;

/// Input that the inner side has not taken yet; more is left in the user's terminal.
const PENDING_MAX: usize = 64 * 1024;

/// A program that shall draw its screen anew has another size for a moment. Before, so long: it may
/// be in the call that was asked about, and a signal that comes then is no news to what it calls next.
const GOES_ON: Duration = Duration::from_millis(150);
/// So long from its first output on, and so long when it writes nothing.
const DRAWS: Duration = Duration::from_millis(100);
const DRAWS_NOT: Duration = Duration::from_secs(2);

/// What is still to be done until a program has drawn its screen anew.
#[derive(Debug, Clone, Copy)]
enum Redraw {
    /// It is told of another size.
    Begin(Instant),
    /// It has its own back.
    End(Instant),
}

/// Opens a new pseudoterminal of the `/dev/pts` in view: master, slave.
pub(crate) fn open_inner() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/ptmx", flags, rustix::fs::Mode::empty())?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let slave = ioctl_tiocgptpeer(&master, flags)?;
    Ok((master, slave))
}

/// Gives a terminal its settings back; nothing can be done where that fails.
pub(crate) fn restore(outer: Option<&(OwnedFd, Termios)>) {
    if let Some((fd, settings)) = outer {
        tcsetattr(fd, OptionalActions::Now, settings).ok();
    }
}

/// The user's side.
#[derive(Debug)]
pub(crate) struct Terminal {
    outer: OwnedFd,
    settings: Termios,
    /// Whether keys are read from it: only when it is standard input or output, so that a
    /// pipeline's other programs keep theirs.
    has_keyboard: bool,
    is_raw: bool,
    master: Option<OwnedFd>,
    pending: Vec<u8>,
    modes: Modes,
    /// Whether somebody else has it.
    is_held: bool,
    redraw: Option<Redraw>,
}

/// Which of the descriptors 0–2 are terminals.
pub(crate) fn which() -> [bool; 3] {
    [
        isatty(rustix::stdio::stdin()),
        isatty(rustix::stdio::stdout()),
        isatty(rustix::stdio::stderr()),
    ]
}

impl Terminal {
    /// The user's terminal, if any of 0–2 is one.
    pub(crate) fn of_user(terminals: [bool; 3]) -> Option<Self> {
        let number = (0..).zip(terminals).find(|(_, is_terminal)| *is_terminal)?.0;
        let outer = exec_unsafe::duplicate_stdio(number)?;
        let settings = tcgetattr(&outer).ok()?;
        Some(Self {
            outer,
            settings,
            has_keyboard: number < 2,
            is_raw: false,
            master: None,
            pending: Vec::new(),
            modes: Modes::default(),
            is_held: false,
            redraw: None,
        })
    }

    /// A second handle for PID 1, which restores the settings should this process be killed.
    pub(crate) fn for_restoring(&self) -> Option<(OwnedFd, Termios)> {
        Some((self.outer.try_clone().ok()?, self.settings.clone()))
    }

    /// Takes the inner side and gives it the size of the user's.
    pub(crate) fn attach(&mut self, master: OwnedFd) -> io::Result<()> {
        let flags = rustix::fs::fcntl_getfl(&master)?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK)?;
        self.master = Some(master);
        // What a program sees first should be what the user had.
        if let Some(master) = &self.master {
            tcsetattr(master, OptionalActions::Now, &self.settings).ok();
        }
        self.resize();
        self.enter();
        Ok(())
    }

    /// Hands the user's window size on.
    pub(crate) fn resize(&mut self) {
        self.redraw = None;
        if let Ok(size) = rustix::termios::tcgetwinsize(&self.outer) {
            self.set_size(size);
        }
    }

    fn set_size(&self, size: Winsize) {
        if let Some(master) = &self.master {
            rustix::termios::tcsetwinsize(master, size).ok();
        }
    }

    /// Makes the user's terminal pass every key on, if Stockade is in the foreground.
    pub(crate) fn enter(&mut self) {
        let ours = Some(rustix::process::getpgrp());
        let foreground = rustix::termios::tcgetpgrp(&self.outer).ok();
        if self.is_held || !self.has_keyboard || foreground != ours {
            return;
        }
        self.take_lines();
        let mut raw = self.settings.clone();
        raw.make_raw();
        self.is_raw = tcsetattr(&self.outer, OptionalActions::Now, &raw).is_ok();
    }

    /// Takes the lines that were typed before keys are passed on one by one. The end of a file among
    /// them would be a byte 0 then, and a program that waits for the end would wait for ever
    /// (`__DISABLED_CHAR`, `drivers/tty/n_tty.c`).
    fn take_lines(&mut self) {
        let end = self.settings.special_codes[SpecialCodeIndex::VEOF];
        let has_lines = self.settings.local_modes.contains(LocalModes::ICANON);
        while has_lines && self.pending.len() < PENDING_MAX {
            let mut ready = [PollFd::new(&self.outer, PollFlags::IN)];
            let is_there = poll(&mut ready, Some(&Timespec::default())).is_ok()
                && ready.iter().all(|it| it.revents() == PollFlags::IN);
            let mut line = [0; 4096];
            match is_there.then(|| rustix::io::read(&self.outer, &mut line)) {
                Some(Ok(0)) => self.pending.push(end),
                Some(Ok(count)) => self.pending.extend(line.iter().take(count)),
                Some(Err(_)) | None => return,
            }
        }
    }

    /// Gives the user's terminal its settings back.
    pub(crate) fn leave(&mut self) {
        if self.is_raw {
            tcsetattr(&self.outer, OptionalActions::Now, &self.settings).ok();
            self.is_raw = false;
        }
    }

    /// Gives the terminal to somebody who asks the user something; `None` where that fails.
    pub(crate) fn hold(&mut self) -> Option<OwnedFd> {
        let terminal = self.outer.try_clone().ok()?;
        let mut lines = self.settings.clone();
        let local = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ISIG;
        lines.local_modes |= local;
        lines.input_modes |= InputModes::ICRNL;
        lines.output_modes |= OutputModes::OPOST | OutputModes::ONLCR;
        // Nobody stops a question.
        lines.special_codes[SpecialCodeIndex::VSUSP] = 0;
        write_all(&self.outer, self.modes.suspended().as_bytes());
        tcsetattr(&self.outer, OptionalActions::Now, &lines).ok()?;
        self.is_held = true;
        Some(terminal)
    }

    /// Takes it back.
    pub(crate) fn release(&mut self) {
        if !std::mem::take(&mut self.is_held) {
            return;
        }
        write_all(&self.outer, self.modes.resumed().as_bytes());
        self.enter();
        if self.modes.has_own_screen() {
            self.redraw = Some(Redraw::Begin(Instant::now() + GOES_ON));
        }
    }

    /// When [`settle`](Self::settle) has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        let (Redraw::Begin(when) | Redraw::End(when)) = self.redraw?;
        Some(when)
    }

    /// Has the program draw its screen anew, once it is time: it is told of a size when that changes.
    /// Who looks at the size when the signal comes, as curses and Node do, has to find the other one.
    pub(crate) fn settle(&mut self, now: Instant) {
        match self.redraw {
            Some(Redraw::Begin(when)) if now >= when => {
                self.redraw = Some(Redraw::End(now + DRAWS_NOT));
                if let Ok(size) = rustix::termios::tcgetwinsize(&self.outer) {
                    self.set_size(Winsize { ws_row: size.ws_row.saturating_add(1), ..size });
                }
            }
            Some(Redraw::End(when)) if now >= when => self.resize(),
            _ => {}
        }
    }

    /// Whether somebody else has it.
    pub(crate) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether the command's own terminal is there.
    pub(crate) fn is_attached(&self) -> bool {
        self.master.is_some()
    }

    /// Whether every key of the user's terminal passes through here.
    pub(crate) fn is_raw(&self) -> bool {
        self.is_raw
    }

    /// The user's side, when there are keys to be read and room for them.
    pub(crate) fn keyboard(&self) -> Option<BorrowedFd<'_>> {
        let wants = self.is_raw
            && !self.is_held
            && self.master.is_some()
            && self.pending.len() < PENDING_MAX;
        wants.then(|| self.outer.as_fd())
    }

    /// The inner side, and whether it has to take input.
    pub(crate) fn inner(&self) -> Option<(BorrowedFd<'_>, bool)> {
        let master = self.master.as_ref().filter(|_| !self.is_held)?;
        Some((master.as_fd(), !self.pending.is_empty()))
    }

    /// Takes keys from the user.
    pub(crate) fn read_keys(&mut self) {
        let mut buffer = [0; 4096];
        match rustix::io::read(&self.outer, &mut buffer) {
            Ok(0) => self.has_keyboard = false,
            Ok(count) => {
                self.pending.extend(buffer.iter().take(count));
                self.write_inner();
                return;
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return,
            Err(_) => self.has_keyboard = false,
        }
        self.leave();
    }

    /// Hands pending input to the inner side.
    pub(crate) fn write_inner(&mut self) {
        let Some(master) = &self.master else { return };
        while !self.pending.is_empty() {
            match rustix::io::write(master, &self.pending) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return,
                // Nobody will ever read it.
                Err(_) => self.pending.clear(),
            }
        }
    }

    /// Shows what the inner side wrote; `false` when there is nothing more for now.
    pub(crate) fn show(&mut self) -> bool {
        let Some(master) = &self.master else { return false };
        let mut buffer = [0; 16 * 1024];
        match rustix::io::read(master, &mut buffer) {
            Ok(count) if count > 0 => {
                let text = buffer.get(..count).unwrap_or_default();
                self.modes.see(text);
                write_all(&self.outer, text);
                if let Some(Redraw::End(when)) = &mut self.redraw {
                    *when = (*when).min(Instant::now() + DRAWS);
                }
                true
            }
            Err(rustix::io::Errno::INTR) => true,
            Err(rustix::io::Errno::AGAIN) => false,
            // EIO: no process holds the other side any more.
            Ok(_) | Err(_) => {
                self.master = None;
                false
            }
        }
    }

    /// After everything inside has ended: shows the rest and gives the terminal back.
    pub(crate) fn finish(&mut self) {
        self.release();
        while self.show() {}
        self.leave();
    }
}

/// Writes to the user's terminal. One that is gone has nobody to tell.
fn write_all(fd: &OwnedFd, mut text: &[u8]) {
    while !text.is_empty() {
        match rustix::io::write(fd, text) {
            Ok(count) => text = text.get(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let mut wait = [rustix::event::PollFd::new(fd, rustix::event::PollFlags::OUT)];
                rustix::event::poll(&mut wait, None).ok();
            }
            Err(_) => return,
        }
    }
}
