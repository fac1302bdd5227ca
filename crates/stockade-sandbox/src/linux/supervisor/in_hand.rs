//! Files that are given to their callers together with the answer, which is one wake-up less: the caller
//! goes on while they are still open here for a moment (ADR 0076).
//!
//! Until then a program that was written could not be executed (`ETXTBSY`), and a lock would outlive its
//! file's last close. So no file is given in this way that may be executed, and what makes one so, or
//! takes a lock, waits for those that are on their way.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FileType;

use crate::linux::seccomp::EXECUTE;

/// More than there are threads that answer.
const MOST: usize = 4;

#[derive(Debug, Default)]
pub(super) struct InHand {
    given: AtomicU64,
    /// The number of the file that is on its way, or 0.
    places: [AtomicU64; MOST],
}

/// A file that is on its way, until this is dropped.
#[derive(Debug)]
pub(super) struct Held<'a>(&'a AtomicU64);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.store(0, Ordering::SeqCst);
    }
}

impl InHand {
    /// A place for `file`; `None` where it may be executed, is no ordinary file, or there is no place.
    pub(super) fn take(&self, file: impl AsFd) -> Option<Held<'_>> {
        let stat = rustix::fs::fstat(file).ok()?;
        let is_ordinary = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !is_ordinary || stat.st_mode & EXECUTE != 0 {
            return None;
        }
        let number = self.given.fetch_add(1, Ordering::Relaxed) + 1;
        let is_mine = |place: &&AtomicU64| {
            place.compare_exchange(0, number, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        };
        self.places.iter().find(is_mine).map(Held)
    }

    /// Waits until each file is closed here that is on its way now.
    pub(super) fn wait(&self) {
        for place in &self.places {
            let number = place.load(Ordering::SeqCst);
            // Some wake-ups long: to be told would cost each file that is given more.
            while number != 0 && place.load(Ordering::SeqCst) == number {
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn only_ordinary_files_that_nobody_may_execute_are_given_so() {
        let (in_hand, file) = (InHand::default(), tempfile::tempfile().unwrap());
        let with = |mode| file.set_permissions(PermissionsExt::from_mode(mode));
        for mode in [0o100, 0o010, 0o001, 0o755] {
            with(mode).unwrap();
            assert!(in_hand.take(&file).is_none(), "{mode:o}");
        }
        with(0o644).unwrap();
        assert!(in_hand.take(std::fs::File::open("/dev/null").unwrap()).is_none());
        let held: Vec<_> = (0..MOST).map(|_| in_hand.take(&file).unwrap()).collect();
        assert!(in_hand.take(&file).is_none(), "there is no place");
        drop(held);
        assert!(in_hand.take(&file).is_some());
    }

    #[test]
    fn who_waits_goes_on_when_what_was_on_its_way_is_closed_and_not_for_what_comes_later() {
        let in_hand = Arc::new(InHand::default());
        in_hand.wait();
        let file = tempfile::tempfile().unwrap();
        let first = in_hand.take(&file).unwrap();
        let waiter = std::thread::spawn({
            let in_hand = Arc::clone(&in_hand);
            move || in_hand.wait()
        });
        (0..1000).for_each(|_| std::thread::yield_now());
        assert!(!waiter.is_finished());
        drop(first);
        let _later = in_hand.take(&file).unwrap();
        waiter.join().unwrap();
    }
}
