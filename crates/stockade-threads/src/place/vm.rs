//! A place that is a machine of its own, with a clone of the user's repository.

use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stockade_guest::Client;
use stockade_vm::{Accelerator, BootError, Progress, VmSpec};

use super::Place;

/// A machine. It is switched off, with everything inside, when this is dropped.
#[derive(Debug)]
pub struct Vm {
    client: Client,
    /// Its end is waited for by one thread at a time.
    machine: Mutex<stockade_vm::Vm>,
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
        Ok(Self { client: machine.client().clone(), machine: Mutex::new(machine) })
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

    fn enforcement(&self) -> &[&'static str] {
        Self::ENFORCEMENT
    }
}
