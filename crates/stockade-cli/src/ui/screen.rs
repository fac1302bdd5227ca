//! The user's terminal, while a command in a machine has it: keys pass through unread, its window
//! is followed, and afterwards it is as it was.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::prompt::Turns;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::termios::{
    LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcgetwinsize, tcsetattr,
};
use stockade_config::Env;
use stockade_threads::screen::{Lent, Screen, Terminal, Typing, WindowSize};

/// How often the window's size is looked at, and whether this process is in the foreground: the
/// signals that tell of both would have to be held back from every thread.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Keys that are read at once.
const KEYS: usize = 4096;

/// The terminal that all three standard streams are.
#[derive(Debug)]
pub(crate) struct OwnTerminal {
    name: OsString,
    turns: Arc<Turns>,
}

impl OwnTerminal {
    /// `None` where one of the streams is something else: that command is a part of something.
    pub(crate) fn of_user(env: &Env, turns: Arc<Turns>) -> Option<Self> {
        let name = env.vars.get(OsStr::new("TERM")).cloned().unwrap_or_default();
        let is_one = std::io::stdin().is_terminal()
            && std::io::stdout().is_terminal()
            && std::io::stderr().is_terminal();
        is_one.then_some(Self { name, turns })
    }
}

impl Screen for OwnTerminal {
    fn lend(&self) -> Option<Box<dyn Lent>> {
        // Not while the user is asked what else they want, and not when they are gone.
        if !self.turns.waits_to_be_free() {
            return None;
        }
        Loan::begin(self.name.clone()).ok().map(|loan| Box::new(loan) as Box<dyn Lent>)
    }
}

/// The terminal as long as it is lent.
#[derive(Debug)]
struct Loan {
    terminal: Terminal,
    keys: Arc<Keys>,
    watching: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Keys {
    tty: OwnedFd,
    settings: Termios,
    /// Readable when the loan is over.
    over: OwnedFd,
}

impl Loan {
    fn begin(name: OsString) -> std::io::Result<Self> {
        let tty = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3)?;
        let settings = tcgetattr(&tty)?;
        let size = size_of(&tty)?;
        let over = eventfd(0, EventfdFlags::CLOEXEC)?;
        let typing = Arc::<Typing>::default();
        let keys = Arc::new(Keys { tty, settings, over });
        let watching = {
            let (keys, typing) = (Arc::clone(&keys), Arc::clone(&typing));
            thread::Builder::new()
                .name("keys".to_owned())
                .spawn(move || keys.pass(size, &typing))?
        };
        let terminal = Terminal { name, size, typing };
        Ok(Self { terminal, keys, watching: Some(watching) })
    }
}

impl Lent for Loan {
    fn terminal(&self) -> Terminal {
        self.terminal.clone()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // It cannot be full.
        rustix::io::write(&self.keys.over, &1_u64.to_ne_bytes()).ok();
        if let Some(watching) = self.watching.take() {
            // A panic there was told, and the terminal is given back all the same.
            watching.join().ok();
        }
        if self.keys.is_foreground() {
            tcsetattr(&self.keys.tty, OptionalActions::Now, &self.keys.settings).ok();
        }
    }
}

impl Keys {
    /// In the background the terminal belongs to somebody else, usually a shell.
    fn is_foreground(&self) -> bool {
        tcgetpgrp(&self.tty).ok() == Some(rustix::process::getpgrp())
    }

    /// Makes every key a byte for the command. Looked at again and again: a shell that had stopped
    /// this process has set the terminal anew.
    fn make_raw(&self) {
        let keys = LocalModes::ICANON | LocalModes::ISIG | LocalModes::ECHO;
        if tcgetattr(&self.tty).is_ok_and(|now| now.local_modes.intersects(keys)) {
            let mut raw = self.settings.clone();
            raw.make_raw();
            tcsetattr(&self.tty, OptionalActions::Now, &raw).ok();
        }
    }

    /// Hands keys and sizes on until the loan is over.
    fn pass(&self, mut size: WindowSize, typing: &Typing) {
        let mut has_ended = false;
        loop {
            let is_foreground = self.is_foreground();
            if is_foreground {
                self.make_raw();
            }
            let now = size_of(&self.tty).unwrap_or(size);
            if now != size {
                size = now;
                typing.resize(size);
            }
            let mut ready = vec![PollFd::new(&self.over, PollFlags::IN)];
            if is_foreground && !has_ended && typing.room() > 0 {
                ready.push(PollFd::new(&self.tty, PollFlags::IN));
            }
            if poll(&mut ready, Some(&TURN)).is_err() {
                continue;
            }
            let is_ready = |at: usize| ready.get(at).is_some_and(|fd| !fd.revents().is_empty());
            if is_ready(0) {
                return;
            }
            if is_ready(1) && !self.read(typing) {
                typing.end();
                has_ended = true;
            }
        }
    }

    /// Reads what is there; false when there will be no more.
    fn read(&self, typing: &Typing) -> bool {
        let mut buffer = [0; KEYS];
        let room = typing.room().min(KEYS);
        match rustix::io::read(&self.tty, buffer.get_mut(..room).unwrap_or_default()) {
            Ok(0) => false,
            Ok(count) => {
                typing.keys(buffer.get(..count).unwrap_or_default());
                true
            }
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => true,
            Err(_) => false,
        }
    }
}

fn size_of(tty: &OwnedFd) -> std::io::Result<WindowSize> {
    let size = tcgetwinsize(tty)?;
    Ok(WindowSize { rows: size.ws_row, columns: size.ws_col })
}
