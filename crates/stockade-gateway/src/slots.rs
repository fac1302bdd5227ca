//! Places for connections: how many there are at one time, and how many of them one program may have.
//!
//! Half of the places are anybody's. Those of the other half are shared out by the tree of processes
//! (docs/adr/0083): a program has seven eighths of what the one that started it has, its own children
//! included, and several that were started by one leave an eighth of what is left. So a program that
//! forks, and lets go of nothing, fills its own share, and who was not started by it still connects. Whose
//! parents are gone share an eighth of all places.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Connections at one time; more are refused, as a full server would.
pub(crate) const CONNECTIONS_MAX: usize = 512;
/// Those of one process.
const OF_ONE_MAX: usize = 384;
/// Places that are anybody's.
const ANYBODYS: usize = 256;
/// Of the others, those of the tree of the run's command …
const OF_COMMAND: usize = 192;
/// … and those of processes whose parents are gone, and of nobody known.
const OF_OTHERS: usize = CONNECTIONS_MAX - ANYBODYS - OF_COMMAND;
/// A tree may have as many times what it leaves to its neighbours.
const SHARE: usize = 7;

/// The connections that are served now. Those of nobody known are one's.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    total: usize,
    /// Connections by the process inside.
    by_process: HashMap<Option<u32>, usize>,
    /// Of those in places that are shared out: how many a process has with all that it started.
    by_tree: HashMap<u32, usize>,
    /// How many the trees have together whose first process is not the command.
    of_others: usize,
    /// The run's command: the first process that there was, and so the lowest number of those that
    /// nobody inside has started.
    command: Option<u32>,
}

/// A place that is taken; to be [left](Slots::leave).
#[derive(Debug)]
pub(crate) struct Place {
    process: Option<u32>,
    /// In the half that is shared out: the processes from the first one to the one that connected.
    line: Option<Vec<u32>>,
    is_of_others: bool,
}

impl Slots {
    /// Whether `process` could have a further one, as far as that is known without its parents; else
    /// why not, for a person.
    pub(crate) fn room(&self, process: Option<u32>) -> Result<(), String> {
        self.locked().room(process)
    }

    /// Takes a place, if there is one. `parents` says who started `process`, from the first one on; it is
    /// asked when places are shared out, and may take a while.
    pub(crate) fn take(
        &self,
        process: Option<u32>,
        parents: impl FnOnce(u32) -> Option<Vec<u32>>,
    ) -> Result<Place, String> {
        let is_shared_out = self.locked().total >= ANYBODYS;
        let line = process.filter(|_| is_shared_out).and_then(|process| {
            let mut line = parents(process)?;
            line.push(process);
            Some(line)
        });
        self.locked().take(process, line.unwrap_or_default())
    }

    pub(crate) fn leave(&self, place: &Place) {
        self.locked().leave(place);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.locked().total == 0
    }

    fn locked(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn room(&self, process: Option<u32>) -> Result<(), String> {
        if self.by_process.get(&process).is_some_and(|count| *count >= OF_ONE_MAX) {
            return Err(format!("beyond the {OF_ONE_MAX} connections of one program at a time"));
        }
        if self.total >= CONNECTIONS_MAX {
            return Err(format!("beyond the {CONNECTIONS_MAX} connections at a time"));
        }
        Ok(())
    }

    fn take(&mut self, process: Option<u32>, line: Vec<u32>) -> Result<Place, String> {
        self.room(process)?;
        let mut place = Place { process, line: None, is_of_others: false };
        if self.total >= ANYBODYS {
            if let Some(first) = line.first() {
                self.command = Some(self.command.map_or(*first, |command| command.min(*first)));
            }
            place.is_of_others = line.first().is_none_or(|first| Some(*first) != self.command);
            if !self.has_share(&line, place.is_of_others) {
                return Err("beyond the share of connections of a program and those that it \
                            started, while many are open"
                    .to_owned());
            }
            self.of_others += usize::from(place.is_of_others);
            for process in &line {
                *self.by_tree.entry(*process).or_default() += 1;
            }
            place.line = Some(line);
        }
        self.total += 1;
        *self.by_process.entry(process).or_default() += 1;
        Ok(place)
    }

    /// Whether there is a place for the last of `line` in the half that is shared out.
    fn has_share(&self, line: &[u32], is_of_others: bool) -> bool {
        if is_of_others {
            return self.of_others < OF_OTHERS;
        }
        let taken = |process: &u32| self.by_tree.get(process).copied().unwrap_or_default();
        let mut share = OF_COMMAND;
        let mut used = line.first().map(taken).unwrap_or_default();
        let has_room = used < share;
        has_room
            && line.iter().skip(1).all(|process| {
                let own = taken(process);
                let left = share.saturating_sub(used);
                share = share * SHARE / (SHARE + 1);
                used = own;
                own < share && own < SHARE * left
            })
    }

    fn leave(&mut self, place: &Place) {
        self.total -= 1;
        lower(&mut self.by_process, &place.process);
        if let Some(line) = &place.line {
            self.of_others -= usize::from(place.is_of_others);
            for process in line {
                lower(&mut self.by_tree, process);
            }
        }
    }
}

fn lower<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command, and what it has started.
    const COMMAND: u32 = 3;

    fn taken(slots: &Slots, process: u32, parents: &[u32]) -> Option<Place> {
        slots.take(Some(process), |_| Some(parents.to_vec())).ok()
    }

    #[test]
    fn one_program_leaves_room_for_others_and_all_have_a_bound() {
        let slots = Slots::default();
        let held: Vec<_> = (0..1000).filter_map(|_| taken(&slots, 7, &[COMMAND])).collect();
        assert_eq!(held.len(), OF_ONE_MAX);
        assert!(slots.room(Some(7)).unwrap_err().contains("of one program"));
        assert!(taken(&slots, 8, &[COMMAND]).is_some());
        assert!(!slots.is_empty());
        let nobodys: Vec<_> = (0..1000).map_while(|_| slots.take(None, |_| None).ok()).collect();
        assert_eq!(nobodys.len(), OF_OTHERS, "those of nobody known have a share of their own");
        assert!(taken(&slots, 8, &[COMMAND]).is_some());
    }

    #[test]
    fn a_program_that_forks_leaves_room_for_who_was_not_started_by_it() {
        for depth in 0..6 {
            let slots = Slots::default();
            let above: Vec<u32> = (COMMAND..=COMMAND + depth).collect();
            let forks = [&above[..], &[50]].concat();
            let fill = |line: &[u32]| -> Vec<_> {
                (1000..9000).map_while(|child| taken(&slots, child, line)).collect()
            };
            let held = fill(&forks);
            assert!(held.len() > ANYBODYS + 80, "{depth}: {}", held.len());
            // And by children that nobody inside is the parent of any more.
            let orphans: Vec<_> =
                (10_000..19_000).map_while(|orphan| taken(&slots, orphan, &[])).collect();
            assert_eq!(orphans.len(), OF_OTHERS);
            // Another one beside it, and then one of the command's own.
            let second = fill(&[&above[..], &[60]].concat());
            assert!(second.len() > 4, "{depth}: {}", second.len());
            let own = taken(&slots, 70, &above);
            assert!(own.is_some(), "{depth}");
            for place in held.iter().chain(&orphans).chain(&second).chain(&own) {
                slots.leave(place);
            }
            assert!(slots.is_empty());
            let open = slots.locked();
            assert!(open.by_tree.is_empty() && open.by_process.is_empty() && open.of_others == 0);
        }
    }

    #[test]
    fn two_hundred_of_any_one_program_fit() {
        let slots = Slots::default();
        let nobody = |_: u32| -> Option<Vec<u32>> {
            panic!("parents are not asked for while there is room for anybody")
        };
        let held: Vec<_> = (0..200).filter_map(|_| slots.take(Some(9), nobody).ok()).collect();
        assert_eq!(held.len(), 200);
    }
}
