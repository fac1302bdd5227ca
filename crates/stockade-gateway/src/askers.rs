//! Who inside asks for names that do not exist there.
//!
//! To find that out costs more than the answer, so it is done for as many as a person would read.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::event::Caller;

/// Questions whose program is looked for.
const LOOKS_MAX: usize = 256;

type Find = dyn Fn(bool, u16) -> Option<Caller> + Send + Sync;
type Parents = dyn Fn(u32) -> Option<Vec<u32>> + Send + Sync;

/// How a program is found by the port of its socket, and who started it.
#[derive(Default)]
pub(crate) struct Askers {
    find: OnceLock<Box<Find>>,
    looks: AtomicUsize,
    parents: OnceLock<Box<Parents>>,
}

impl std::fmt::Debug for Askers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Askers").field("looks", &self.looks).finish_non_exhaustive()
    }
}

impl Askers {
    /// From now on `find` finds them; it is told whether the port is one of datagrams.
    pub(crate) fn found_by(
        &self,
        find: impl Fn(bool, u16) -> Option<Caller> + Send + Sync + 'static,
    ) {
        // There is one sandbox.
        self.find.set(Box::new(find)).ok();
    }

    /// From now on `find` says who started a process, from the first of them on.
    pub(crate) fn parents_by(
        &self,
        find: impl Fn(u32) -> Option<Vec<u32>> + Send + Sync + 'static,
    ) {
        // There is one sandbox.
        self.parents.set(Box::new(find)).ok();
    }

    /// Who started `process`, from the first of them on; `None` when that is not known.
    pub(crate) fn parents(&self, process: u32) -> Option<Vec<u32>> {
        self.parents.get()?(process)
    }

    /// Whose socket inside has `port`. It has to wait for what is asked here, or it may be gone.
    pub(crate) fn who(&self, is_datagram: bool, port: u16) -> Option<Caller> {
        let find = self.find.get()?;
        (self.looks.fetch_add(1, Ordering::Relaxed) < LOOKS_MAX).then(|| find(is_datagram, port))?
    }
}
