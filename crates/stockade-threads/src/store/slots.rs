//! A fair share of the machine: how many threads may have a microVM at once.
//!
//! A place is a lock on one of a few files. The kernel gives it back when its holder ends in
//! whatever way, so a queue never waits for a process that is gone.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::thread::pause;
use super::{Store, StoreError, private_folder};

/// How often one that waits looks for a free place.
const LOOK: Duration = Duration::from_millis(200);

/// A place among those that run. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    _lock: File,
}

impl Store {
    /// Takes one of `places`, and waits while there is none; `None` when `stop` says so first.
    /// `waits` is called once, before the first wait.
    pub(crate) fn slot(
        &self,
        places: u32,
        stop: &dyn Fn() -> bool,
        waits: &mut dyn FnMut(),
    ) -> Result<Option<Slot>, StoreError> {
        let folder = self.root.join("slots");
        private_folder(&folder)?;
        let mut is_first = true;
        loop {
            for number in 0..places.max(1) {
                let path = folder.join(number.to_string());
                let options = &mut OpenOptions::new();
                let opened = options.write(true).create(true).truncate(false).mode(0o600);
                let file = opened.open(&path).map_err(StoreError::io("open", &path))?;
                match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => return Ok(Some(Slot { _lock: file })),
                    Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                    Err(error) => return Err(StoreError::io("lock", &path)(error.into())),
                }
            }
            if std::mem::take(&mut is_first) {
                waits();
            }
            if stop() {
                return Ok(None);
            }
            pause(LOOK);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_taken_waited_for_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let take = |waited: &mut u32| store.slot(2, &|| true, &mut || *waited += 1).unwrap();
        let mut waited = 0;
        let first = take(&mut waited).unwrap();
        let _second = take(&mut waited).unwrap();
        assert!(take(&mut waited).is_none());
        assert_eq!(waited, 1);
        drop(first);
        assert!(take(&mut waited).is_some());
        assert_eq!(std::fs::read_dir(folder.path().join("slots")).unwrap().count(), 2);
    }
}
