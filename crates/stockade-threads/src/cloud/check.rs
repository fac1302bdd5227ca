//! Whether cloud threads would have a machine here.

use std::sync::Arc;

use stockade_vm::check::CheckSpec;

use super::Machine;
use crate::place::Boundary;

pub use stockade_vm::check::Check;

fn spec(machine: &Machine) -> CheckSpec {
    let home = machine.home.iter().filter(|home| home.parent().is_some() && home.exists());
    CheckSpec {
        cache: machine.cache.clone(),
        memory_bytes: machine.memory_bytes,
        walls: Some(Arc::new(Boundary { hidden: home.cloned().collect() })),
    }
}

/// Looks for what machines are made of; nothing is started, and it takes no time.
pub fn look(machine: &Machine) -> Vec<Check> {
    stockade_vm::check::look(&spec(machine))
}

/// Starts machines without disks, and measures the image of the system: some seconds, on a busy host
/// more.
pub fn boot(machine: &Machine) -> Vec<Check> {
    stockade_vm::check::boot(&spec(machine))
}
