//! What this process does for a sandbox in threads of its own: it serves the way out, and answers
//! what is asked from inside.
//!
//! The one begins when the walls stand, the other with the first question. Up to then this process may
//! have to try the other backend, and only a process with one thread forks.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::asks::Asks;
use super::doors::Doors;
use super::plan::Plan;
use crate::SetupError;
use crate::launch::{Asked, Ties, WayOut};

/// The outer ends.
#[derive(Debug)]
pub(super) struct Services {
    doors: Option<Doors>,
    asks: Option<Asks>,
}

/// The sandbox's ends.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) gate: Option<OwnedFd>,
    pub(super) asks: Option<OwnedFd>,
}

impl Services {
    /// Both sides of what `plan` and `ties` have.
    pub(super) fn of(plan: &Plan, ties: &Ties<'_>) -> io::Result<(Self, Inner)> {
        let (doors, gate) = match &ties.way_out {
            _ if plan.way_out.is_none() => (None, None),
            WayOut::Elsewhere(gate) => (None, gate.as_ref().map(OwnedFd::try_clone).transpose()?),
            WayOut::Served(_) => Some(Doors::pair()?).unzip(),
        };
        let (asks, asked) = match &ties.ask {
            Asked::Nobody => (None, None),
            Asked::Elsewhere(inside) => (None, Some(inside.try_clone()?)),
            Asked::Served(_) => Some(Asks::pair()?).unzip(),
        };
        Ok((Self { doors, asks }, Inner { gate, asks: asked }))
    }

    /// Serves the way out; threads may be started from here on.
    pub(super) fn begin(&mut self, ties: &mut Ties<'_>) -> Result<(), SetupError> {
        let failed = |step: &'static str| move |error| SetupError::Host(step.into(), error);
        match (&mut ties.way_out, self.doors.take()) {
            (WayOut::Served(serve), Some(doors)) => {
                let serve = serve.take().map_or(Ok(()), |serve| serve(doors));
                serve.map_err(failed("serve the network"))?;
            }
            (WayOut::Elsewhere(_), _) | (WayOut::Served(_), None) => {}
        }
        Ok(())
    }

    /// The end that a question comes by, until the first.
    pub(super) fn asks(&self) -> Option<BorrowedFd<'_>> {
        self.asks.as_ref().map(Asks::fd)
    }

    /// Has the first question answered, and what follows. There is none from a sandbox that is gone.
    pub(super) fn answer(&mut self, ties: &mut Ties<'_>) {
        let ask = std::mem::replace(&mut ties.ask, Asked::Nobody);
        if let (Some(asks), Asked::Served(ask)) = (self.asks.take(), ask)
            && !asks.is_over()
        {
            // Without a thread nobody answers, which leaves every denial what it is.
            (ask.serve)(asks).ok();
        }
    }

    /// Only what has begun has the ends that others gave: they are then nobody else's.
    pub(super) fn let_go(ties: &mut Ties<'_>) {
        if let WayOut::Elsewhere(gate) = &mut ties.way_out {
            gate.take();
        }
        if let Asked::Elsewhere(_) = &ties.ask {
            ties.ask = Asked::Nobody;
        }
    }
}
