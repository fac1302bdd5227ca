//! Who inside asks for names that do not exist there.
//!
//! To find that out costs more than the answer, so it is done for as many as a person would read.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::event::Caller;

/// Questions whose program is looked for.
const LOOKS_MAX: usize = 256;

type Find = dyn Fn(bool, u16) -> Option<Caller> + Send + Sync;

/// How a program is found by the port of its socket.
#[derive(Default)]
pub(crate) struct Askers {
    find: OnceLock<Box<Find>>,
    looks: AtomicUsize,
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

    /// Whose socket inside has `port`. It has to wait for what is asked here, or it may be gone.
    pub(crate) fn who(&self, is_datagram: bool, port: u16) -> Option<Caller> {
        let find = self.find.get()?;
        (self.looks.fetch_add(1, Ordering::Relaxed) < LOOKS_MAX).then(|| find(is_datagram, port))?
    }
}
