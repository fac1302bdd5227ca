//! Calls that write to a path: judged where they land, and carried out from a copy.
//!
//! Ordinary calls run side by side. One whose path has a name that may be protected runs alone,
//! so that what was found out about its surroundings still holds when it is carried out: every
//! call inside that could change them waits.

mod config;
mod disk;
mod names;
mod open;
mod outside;
mod staged;
mod wish;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use stockade_policy::guard::{Act, Denied, Guard, Judgement};
use stockade_policy::{Denial, Operation};

use super::Answer;
use super::caller::Caller;
use super::place;

use config::Configs;
pub(crate) use disk::Disk;
pub(super) use open::Waiting;
pub(super) use staged::Staged;
use staged::Staging;
use wish::Wish;
pub(super) use wish::needs_umask;

/// The judge of a run and what it remembers.
#[derive(Debug)]
pub(crate) struct Files {
    guard: Guard,
    disk: Disk,
    configs: Configs,
    /// Where the view lets write, for what is said of the rest.
    writable: Vec<PathBuf>,
    staging: Staging,
    /// Held shared by ordinary calls, alone by those that are judged by more than their path.
    order: RwLock<()>,
}

/// The roots as the host has them, without what is mounted in them here.
pub(crate) type Beneath = Vec<(PathBuf, OwnedFd)>;

/// What the caller gets.
#[derive(Debug)]
pub(super) enum Done {
    Answer(Answer),
    File {
        file: OwnedFd,
        close_on_exec: bool,
    },
    /// A file that stands for another until it is closed.
    Staged {
        close_on_exec: bool,
        staged: Arc<Staged>,
    },
    /// A FIFO that nobody reads yet.
    Waits(Waiting),
}

impl Done {
    const NOTHING: Self = Self::Answer(Answer::Value(0));
}

/// Why a call did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// It has to run alone.
    Notable,
    /// As the kernel said.
    Error(io::Error),
    /// Refused.
    Denied(Box<Denial>),
    /// Refused by a mount that is read-only, with the kernel's own word for it.
    Outside(Box<Denial>),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Error(error)
    }
}

impl From<rustix::io::Errno> for Stop {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Error(errno.into())
    }
}

/// One call on its way.
pub(super) struct Turn<'a> {
    caller: &'a Caller<'a>,
    /// Whether no other call runs now.
    alone: bool,
    op: Operation,
}

impl Files {
    pub(crate) fn new(guard: Guard, beneath: Beneath, writable: Vec<PathBuf>) -> Self {
        let disk = Disk::now();
        Self {
            guard,
            disk,
            configs: Configs::new(beneath),
            writable,
            staging: Staging::default(),
            order: RwLock::new(()),
        }
    }

    /// Carries out one call.
    pub(super) fn serve(&self, caller: &Caller<'_>, call: i64) -> Result<Done, Stop> {
        let wish = Wish::of(caller, call)?;
        let op = wish.operation();
        {
            let _shared = self.order.read().unwrap_or_else(PoisonError::into_inner);
            let turn = Turn { caller, alone: false, op };
            match self.fulfil(&turn, &wish) {
                Err(Stop::Notable) => {}
                done => return done.map_err(|stop| self.explained(&turn, &wish, stop)),
            }
        }
        let _alone = self.order.write().unwrap_or_else(PoisonError::into_inner);
        let turn = Turn { caller, alone: true, op };
        // What was closed before this call was made is there by the time it is carried out.
        self.settle_closed(&turn);
        self.fulfil(&turn, &wish).map_err(|stop| self.explained(&turn, &wish, stop))
    }

    /// What only a read-only mount refused is a denial too. Only the words depend on where the
    /// path leads by now.
    fn explained(&self, turn: &Turn<'_>, wish: &Wish, stop: Stop) -> Stop {
        let read_only = Some(libc::EROFS);
        if !matches!(&stop, Stop::Error(error) if error.raw_os_error() == read_only) {
            return stop;
        }
        let Some(target) = self.landing(turn, wish) else { return stop };
        let (decided_by, alternatives) = if self.is_writable(&target) {
            ("protected: read-only inside a writable root".to_owned(), Vec::new())
        } else {
            (Denial::OUTSIDE.to_owned(), outside::alternatives(&self.writable, &target))
        };
        Stop::Outside(Box::new(Denial { op: turn.op, target, decided_by, alternatives }))
    }

    /// Judges one act, and refuses what needs no look at a content.
    fn judge(&self, turn: &Turn<'_>, path: &Path, act: &Act<'_>) -> Result<Judgement, Stop> {
        if let Some(inner) = place::in_proc(path)
            && !place::is_own(turn.caller, inner)?
        {
            return Err(io::Error::from_raw_os_error(libc::EACCES).into());
        }
        if !Guard::is_notable(path) {
            return Ok(Judgement::Ordinary);
        }
        if !turn.alone {
            return Err(Stop::Notable);
        }
        match self.guard.judge(&self.disk, path, act) {
            Judgement::Denied(denied) => Err(refused(turn, path, &denied)),
            judgement @ (Judgement::Ordinary
            | Judgement::Config(_)
            | Judgement::GitFile
            | Judgement::Commondir
            | Judgement::Completes(_)) => Ok(judgement),
        }
    }

    /// The same for an act that no content can make harmless.
    fn permit(&self, turn: &Turn<'_>, path: &Path, act: &Act<'_>) -> Result<(), Stop> {
        match self.judge(turn, path, act)? {
            Judgement::Ordinary => Ok(()),
            Judgement::Completes(folder) => Ok(config::renew(&folder)?),
            Judgement::Config(_) | Judgement::GitFile | Judgement::Commondir => {
                let why = "its content would have to be known";
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Err(refused(turn, path, &Denied { name, why }))
            }
            Judgement::Denied(denied) => Err(refused(turn, path, &denied)),
        }
    }
}

fn refused(turn: &Turn<'_>, path: &Path, denied: &Denied) -> Stop {
    Stop::Denied(Box::new(Denial {
        op: turn.op,
        target: path.to_owned(),
        decided_by: format!("protected name `{}`: {}", denied.name, denied.why),
        alternatives: alternatives(&denied.name),
    }))
}

fn alternatives(name: &str) -> Vec<String> {
    if name.starts_with(".git/hooks") || name == "hooks" {
        return Vec::new();
    }
    vec![format!("the user can lift it: unprotected = [\"{name}\"] in their own configuration")]
}

fn error<T>(number: i32) -> Result<T, Stop> {
    Err(io::Error::from_raw_os_error(number).into())
}
