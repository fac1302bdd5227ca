//! Calls that write to a path: judged where they land, and carried out from a copy.
//!
//! Ordinary calls run side by side. One whose path has a name that may be protected runs alone,
//! so that what was found out about its surroundings still holds when it is carried out: every
//! call inside that could change them waits.

mod across;
mod anew;
mod config;
mod disk;
mod fixed;
mod kept;
mod looks;
mod metadata;
mod names;
mod noted;
mod open;
mod outside;
mod shared;
mod staged;
mod terminals;
mod tracked;
mod wish;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustix::io::Errno;
use stockade_policy::guard::{Act, Denied, Guard, Judgement};
use stockade_policy::{Denial, Operation};

use super::Answer;
use super::caller::Caller;
use super::place;
use crate::keep::Keep;
use crate::linux::asks::Change;
use crate::linux::hand::Hand;
use crate::linux::moved::Moved;
use crate::notes::Notebook;
use config::Configs;
pub(crate) use disk::Disk;
pub(crate) use fixed::Fixed;
pub(super) use looks::Looked;
pub(super) use open::Waiting;
use shared::Shared;
pub(super) use staged::Staged;
use staged::Staging;
pub(crate) use terminals::Terminals;
use tracked::{Installed, Versions};
use wish::Wish;
pub(super) use wish::{may_make_executable, needs_umask};

/// The judge of a run and what it remembers.
#[derive(Debug)]
pub(crate) struct Files {
    guard: Guard,
    disk: Disk,
    configs: Configs,
    /// Where the view lets write, for what is said of the rest.
    writable: Vec<PathBuf>,
    /// What mounts hold, where there are none.
    fixed: Option<Fixed>,
    /// Which terminals are the run's, where the others are there too.
    terminals: Option<Terminals>,
    /// Folders that are others by name.
    moved: Option<Moved>,
    staging: Staging,
    notes: Option<Notebook>,
    /// Who takes away what a mount stands on.
    hand: Option<Hand>,
    installed: Installed,
    versions: Versions,
    shared: Shared,
    /// Keeps what is replaced, if it is to be taken back.
    keep: Option<Arc<Keep>>,
    /// Held shared by ordinary calls, alone by those that are judged by more than their path.
    order: RwLock<()>,
}

/// The disk as it is here, for a judgement when a run is over.
pub fn disk() -> impl stockade_policy::guard::Tree {
    Disk::now()
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
    pub(super) const NOTHING: Self = Self::Answer(Answer::Value(0));
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
    Outside(Box<Outside>),
}

/// What a read-only mount refused.
#[derive(Debug)]
pub(super) struct Outside {
    pub(super) denial: Denial,
    /// What of it somebody may be asked about, besides opening a file.
    pub(super) change: Option<Change>,
    /// Whether it goes without a word where nobody is asked.
    pub(super) is_quiet: bool,
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

/// What the judge of a run works with.
#[derive(Debug, Default)]
pub(crate) struct Around {
    pub(crate) beneath: Beneath,
    /// Keeps what is replaced, if it is to be taken back.
    pub(crate) keep: Option<Arc<Keep>>,
    /// Where it is noted what is looked at when the run is over.
    pub(crate) notes: Option<File>,
    /// Who takes away what a mount stands on.
    pub(crate) hand: Option<Hand>,
    /// What mounts hold, where there are none.
    pub(crate) fixed: Option<Fixed>,
    /// Which terminals are the run's, where the others are there too.
    pub(crate) terminals: Option<Terminals>,
    /// Folders that are others by name.
    pub(crate) moved: Option<Moved>,
}

/// One call on its way.
pub(super) struct Turn<'a> {
    caller: &'a Caller<'a>,
    /// Whether no other call runs now.
    alone: bool,
    op: Operation,
}

impl Files {
    pub(crate) fn new(
        guard: Guard,
        Around { beneath, keep, notes, hand, fixed, terminals, moved }: Around,
        writable: Vec<PathBuf>,
    ) -> Self {
        let disk = Disk::now();
        Self {
            guard,
            disk,
            configs: Configs::new(beneath, keep.clone()),
            writable,
            fixed,
            terminals,
            moved,
            staging: Staging::default(),
            notes: notes.map(Notebook::new),
            hand,
            installed: Installed::default(),
            versions: Versions::default(),
            shared: Shared::default(),
            keep,
            order: RwLock::new(()),
        }
    }

    /// Folders that are others by name.
    pub(super) fn moved(&self) -> Option<&Moved> {
        self.moved.as_ref()
    }

    /// Carries out one call.
    pub(super) fn serve(&self, caller: &Caller<'_>, call: i64) -> Result<Done, Stop> {
        let wish = Wish::of(caller, call)?;
        let op = wish.operation();
        if self.has_closed() {
            // What git does next tells others that it has written a file: there it is by then.
            let _alone = self.order.write().unwrap_or_else(PoisonError::into_inner);
            self.settle_closed(&Turn { caller, alone: true, op });
        }
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
        let error = match stop {
            Stop::Error(error) => error,
            Stop::Outside(mut outside) => {
                outside.change = self.change(turn, wish, &outside.denial.target);
                return Stop::Outside(outside);
            }
            stop @ (Stop::Notable | Stop::Denied(_)) => return stop,
        };
        // Landlock has the other word, which a file's own mode has as well.
        let is_landlock = match error.raw_os_error() {
            Some(libc::EROFS) => false,
            Some(libc::EACCES) if self.fixed.is_some() => true,
            _ => return error.into(),
        };
        let Some(target) = self.landing(turn, wish) else { return error.into() };
        if is_landlock && self.crosses(turn, wish) {
            return Errno::XDEV.into();
        }
        if is_landlock && (self.is_writable(&target) || place::in_proc(&target).is_some()) {
            return error.into();
        }
        let (decided_by, alternatives) = if self.is_writable(&target) {
            ("protected: read-only inside a writable root".to_owned(), Vec::new())
        } else {
            let has_roots = self.guard.has_roots();
            let alternatives = outside::alternatives(&self.writable, has_roots, &target);
            (Denial::OUTSIDE.to_owned(), alternatives)
        };
        let change = self.change(turn, wish, &target);
        // It is trapped to be kept: where nobody is asked, no more is made of it than the kernel does.
        let is_quiet = self.fixed.is_none() && matches!(wish, Wish::Metadata(_));
        if is_quiet && change.is_none() {
            return error.into();
        }
        let denial = Denial { op: turn.op, target, decided_by, alternatives };
        Stop::Outside(Box::new(Outside { denial, change, is_quiet }))
    }

    /// Judges one act, and refuses what needs no look at a content.
    fn judge(&self, turn: &Turn<'_>, path: &Path, act: &Act<'_>) -> Result<Judgement, Stop> {
        if let Some(inner) = place::in_proc(path)
            && (!place::is_own(turn.caller, inner)? || self.is_machines(inner))
        {
            return Err(io::Error::from_raw_os_error(libc::EACCES).into());
        }
        if !self.guard.concerns(path) {
            return self.unless_fixed(turn, path, act);
        }
        if !turn.alone {
            return Err(Stop::Notable);
        }
        match self.guard.judge(&self.disk, path, act) {
            Judgement::Denied(denied) => {
                self.note_refused(path);
                Err(refused(turn, path, &denied))
            }
            Judgement::Ordinary => {
                self.note_index(path, act)?;
                self.unless_fixed(turn, path, act)
            }
            judgement @ (Judgement::Control(_)
            | Judgement::Config(_)
            | Judgement::GitFile
            | Judgement::Commondir
            | Judgement::Completes(_)) => Ok(judgement),
        }
    }

    /// The same for an act that no content can make harmless.
    fn permit(&self, turn: &Turn<'_>, path: &Path, act: &Act<'_>) -> Result<(), Stop> {
        self.permit_judged(turn, path, act, self.judge(turn, path, act)?)
    }

    fn permit_judged(
        &self,
        turn: &Turn<'_>,
        path: &Path,
        act: &Act<'_>,
        judgement: Judgement,
    ) -> Result<(), Stop> {
        match judgement {
            Judgement::Ordinary => Ok(()),
            Judgement::Completes(folder) => self.completes(folder),
            Judgement::Config(_) | Judgement::GitFile | Judgement::Commondir => {
                let why = "its content would have to be known";
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Err(refused(turn, path, &Denied { name, why }))
            }
            Judgement::Control(_) if self.is_of_the_past(path, act) => Ok(()),
            Judgement::Control(denied) => Err(self.control_refused(turn, path, &denied)),
            Judgement::Denied(denied) => Err(refused(turn, path, &denied)),
        }
    }
}

fn refused(turn: &Turn<'_>, path: &Path, denied: &Denied) -> Stop {
    Stop::Denied(Box::new(denial(turn, path, denied)))
}

fn denial(turn: &Turn<'_>, path: &Path, denied: &Denied) -> Denial {
    Denial {
        op: turn.op,
        target: path.to_owned(),
        decided_by: format!("protected name `{}`: {}", denied.name, denied.why),
        alternatives: alternatives(&denied.name),
    }
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
