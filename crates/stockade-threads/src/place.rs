//! Where a thread's commands run, and its files are read and written.
//!
//! The boundary is put up once and stays up; a further command costs a fork and an execve inside
//! it. What a place does is decided before it is asked: it judges nothing, it holds.

mod local;
mod vm;
mod walls;

use std::path::Path;

use stockade_guest::Client;

use crate::record::{Denial, Event};

pub use local::{Kept, Local, PlaceError, enter_if_hands, walls};
pub use vm::Vm;
pub(crate) use walls::Boundary;

/// What a place saw of its commands.
#[derive(Debug, Default)]
pub struct Noted {
    /// Refusals, each with its words for the agent. One that was told before is not told again.
    pub denials: Vec<(Denial, String)>,
    /// Connections that began, ended or were refused, for the record.
    pub connections: Vec<Event>,
}

/// A boundary that is up, with hands inside.
pub trait Place: Send + Sync {
    /// The channel to the hands. What comes back over it is hostile.
    fn client(&self) -> &Client;

    /// The shell that reads command lines there.
    fn shell(&self) -> &Path;

    /// What was refused and connected since this was asked last, as far as somebody sees it.
    fn noted(&self) -> Noted {
        Noted::default()
    }

    /// The connections of that alone, which may be asked for while a command runs.
    fn connections(&self) -> Vec<Event> {
        Vec::new()
    }

    /// The walls that are up, for the record.
    fn enforcement(&self) -> &[&'static str];
}

/// What reads command lines here, and in a machine that has this system's files.
fn shell() -> &'static Path {
    let bash = Path::new("/bin/bash");
    if bash.exists() { bash } else { Path::new("/bin/sh") }
}
