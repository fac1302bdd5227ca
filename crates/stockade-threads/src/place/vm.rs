//! A place that is a machine of its own, with a clone of the user's repository.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stockade_guest::Client;
use stockade_vm::{Accelerator, BootError, Kept, Progress, VmSpec};

use super::{Noted, Place};
use crate::cloud::allowing;
use crate::network::{Connections, Event};
use crate::record::{self, Denial};

/// A machine. It is switched off, with everything inside, when this is dropped.
#[derive(Debug)]
pub struct Vm {
    client: Client,
    /// What the gateway saw of its programs, while they could reach it.
    seen: Arc<Seen>,
    /// Its end is waited for by one thread at a time.
    machine: Mutex<stockade_vm::Vm>,
}

/// What the gateway has seen of a machine's programs and was not recorded yet.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    connections: Connections,
    /// Each host once, as it was refused first.
    denials: Mutex<Vec<Denial>>,
}

/// Hosts whose refusal is kept until it is recorded.
const DENIALS_MAX: usize = 100;

impl Seen {
    pub(crate) fn note(&self, event: &Event) {
        self.connections.note(event);
        let Event::Refused { host, port, why, remedy, .. } = event else { return };
        let target = port.map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        if denials.len() < DENIALS_MAX && denials.iter().all(|denial| denial.target != target) {
            let alternatives = remedy.iter().map(|entry| allowing(entry)).collect();
            let denial = Denial::new("connect", target.as_ref(), why);
            denials.push(Denial { alternatives, ..denial });
        }
    }

    fn take(&self) -> Noted {
        let mut denials = self.denials.lock().unwrap_or_else(PoisonError::into_inner);
        let denials = std::mem::take(&mut *denials);
        let told = |denial: Denial| {
            let words = format!("refused: connect to {}: {}", denial.target, denial.decided_by);
            (denial, words)
        };
        let denials = denials.into_iter().map(told).collect();
        Noted { denials, connections: self.connections.take() }
    }
}

impl Vm {
    /// The walls of every machine, for the record.
    pub(crate) const ENFORCEMENT: &[&str] = &["microvm", "no-network-device"];

    /// Boots a machine.
    ///
    /// # Errors
    ///
    /// [`BootError`]; nothing has run then.
    pub fn boot(
        spec: &VmSpec,
        stop: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, BootError> {
        let machine = stockade_vm::Vm::boot(spec, stop, progress)?;
        let client = machine.client().clone();
        Ok(Self { client, seen: Arc::default(), machine: Mutex::new(machine) })
    }

    /// Where the gateway tells what it sees.
    pub(crate) fn seen(&self) -> &Arc<Seen> {
        &self.seen
    }

    /// Where what its set-up leaves is kept.
    pub(crate) fn kept(&self) -> Option<Kept> {
        self.machine().kept().cloned()
    }

    /// What carries out its instructions.
    pub fn accelerator(&self) -> Accelerator {
        self.machine().chosen().accelerator
    }

    /// The last that it said on its console: hostile text without control characters.
    pub fn last_words(&self) -> String {
        self.machine().last_words()
    }

    /// Switches it off in good order.
    ///
    /// # Errors
    ///
    /// When its disk could not be removed.
    pub fn stop(self) -> io::Result<()> {
        self.machine.into_inner().unwrap_or_else(PoisonError::into_inner).stop()
    }

    fn machine(&self) -> MutexGuard<'_, stockade_vm::Vm> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place for Vm {
    fn client(&self) -> &Client {
        &self.client
    }

    fn shell(&self) -> &Path {
        super::shell()
    }

    fn noted(&self) -> Noted {
        self.seen.take()
    }

    fn connections(&self) -> Vec<record::Event> {
        self.seen.connections.take()
    }

    fn enforcement(&self) -> &[&'static str] {
        Self::ENFORCEMENT
    }
}
