//! Standard input, for a command in a machine: read only while the command could take it.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::tcgetpgrp;
use stockade_threads::screen::{Feed, Typing};

/// How often it is looked at whether anybody still reads, and whether a terminal is this process' own:
/// one in the background would be stopped by a read.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// As much is read at once.
const PIECE: usize = 64 * 1024;

/// What stands before this process.
#[derive(Debug)]
pub(crate) struct Stdin;

impl Feed for Stdin {
    fn begin(&self) -> Arc<Typing> {
        let typing = Arc::<Typing>::default();
        let to = Arc::clone(&typing);
        if thread::Builder::new().name("stdin".to_owned()).spawn(move || pass(&to)).is_err() {
            // A command that reads nothing is better than one that waits for ever.
            typing.end();
        }
        typing
    }
}

/// Hands on what is read until there is no more, or nobody to take it.
fn pass(to: &Typing) {
    let stdin = std::io::stdin();
    let mut buffer = vec![0; PIECE];
    while !to.is_gone() {
        let is_ours = !stdin.is_terminal()
            || tcgetpgrp(&stdin).is_ok_and(|group| group == rustix::process::getpgrp());
        let mut ready = vec![PollFd::new(&stdin, PollFlags::IN)];
        ready.retain(|_| is_ours);
        if !matches!(poll(&mut ready, Some(&TURN)), Ok(1..)) {
            continue;
        }
        match rustix::io::read(&stdin, &mut buffer) {
            Ok(0) | Err(Errno::BADF | Errno::IO) => return to.end(),
            Ok(count) if to.put(buffer.get(..count).unwrap_or_default()) => {}
            Ok(_) => return,
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(_) => return to.end(),
        }
    }
}
