//! Places for connections: how many there are at one time, and how many of them one program may have.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections at one time; more are refused, as a full server would.
const CONNECTIONS_MAX: usize = 512;
/// Those of one process: others are served beside a program that lets go of none.
const OF_ONE_MAX: usize = 384;

/// Connections by the process inside.
type Open = HashMap<Option<u32>, usize>;

/// The connections that are served now. Those of nobody known are one's.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<Open>);

impl Slots {
    /// Whether `process` could have a further one; else why not, for a person.
    pub(crate) fn room(&self, process: Option<u32>) -> Result<(), String> {
        room(&self.locked(), process)
    }

    /// Takes a place, if there is one. Each that is taken is to be [left](Self::leave).
    pub(crate) fn take(&self, process: Option<u32>) -> bool {
        let mut open = self.locked();
        let is_there = room(&open, process).is_ok();
        if is_there {
            *open.entry(process).or_default() += 1;
        }
        is_there
    }

    pub(crate) fn leave(&self, process: Option<u32>) {
        let mut open = self.locked();
        if let Some(count) = open.get_mut(&process) {
            *count -= 1;
            if *count == 0 {
                open.remove(&process);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.locked().is_empty()
    }

    fn locked(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn room(open: &Open, process: Option<u32>) -> Result<(), String> {
    if open.get(&process).is_some_and(|count| *count >= OF_ONE_MAX) {
        return Err(format!("beyond the {OF_ONE_MAX} connections of one program at a time"));
    }
    if open.values().sum::<usize>() >= CONNECTIONS_MAX {
        return Err(format!("beyond the {CONNECTIONS_MAX} connections at a time"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_program_leaves_room_for_others_and_all_have_a_bound() {
        let slots = Slots::default();
        assert_eq!((0..1000).filter(|_| slots.take(Some(7))).count(), OF_ONE_MAX);
        assert!(slots.room(Some(7)).unwrap_err().contains("of one program"));
        let others = (0..1000).filter(|other| slots.take(Some(100 + other))).count();
        assert_eq!(others, CONNECTIONS_MAX - OF_ONE_MAX);
        assert!(!slots.take(None) && !slots.is_empty());
        slots.leave(Some(7));
        assert!(slots.take(None));
        slots.leave(None);
        (1..OF_ONE_MAX).for_each(|_| slots.leave(Some(7)));
        (0..others).for_each(|other| slots.leave(Some(100 + u32::try_from(other).unwrap())));
        assert!(slots.is_empty());
    }
}
