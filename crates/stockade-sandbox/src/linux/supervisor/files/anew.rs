//! Files that a tool writes again with what they have: husky its hooks, at each `npm install`.
//!
//! The names stay protected, and nothing is written to them. Whoever opens one gets a file of memory,
//! and a text that is not the one that is there is a denial when it is closed.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{FileType, Mode, OFlags};
use stockade_policy::guard::Denied;

use super::config::text_of;
use super::open::How;
use super::{Files, Stop, Turn};
use crate::linux::supervisor::place::Place;

/// The folder of husky's own hooks, which lead to those that people write beside it.
const FOLDER: [&[u8]; 2] = [b".husky", b"_"];
/// What husky takes away before it writes it.
const TAKEN_AWAY: &[u8] = b"husky.sh";

/// Whether it is a file that is written again, and `how` may do so.
pub(super) fn is_written(place: &Place, how: How) -> bool {
    how.writes() && !how.is_exclusive() && is_one(place)
}

/// Whether it is a file whose removal comes before it is written again, and has no other effect.
pub(super) fn is_removed(place: &Place) -> bool {
    place.name == TAKEN_AWAY && is_one(place)
}

/// Whether it is such a file, which is there.
pub(super) fn is_one(place: &Place) -> bool {
    let above: Vec<&[u8]> =
        place.path.iter().rev().skip(1).take(2).map(OsStrExt::as_bytes).collect();
    let is_there = || place.kind() == Some(FileType::RegularFile);
    above.into_iter().rev().eq(FOLDER) && is_there()
}

impl Files {
    /// What was written to the file of memory, which is dropped: the same is well, all else is refused.
    pub(super) fn is_the_same(
        &self,
        turn: &Turn<'_>,
        (place, memory): (&Place, &fs::File),
        denied: &Denied,
    ) -> Result<(), Stop> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let there = rustix::fs::openat(&place.folder, place.name.as_slice(), flags, Mode::empty())?;
        let there = text_of(&there.into())?;
        // One that is too long to be read is another one.
        if text_of(memory).is_ok_and(|text| text == there) {
            return Ok(());
        }
        Err(self.control_refused(turn, &place.path, denied))
    }
}
