//! What undos and redos of other threads have left as it was before: to the thread that wrote it
//! first, that is no change of somebody else's, so that one undo after the other goes back.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use stockade_sandbox::keep::{FileId, Op};

use super::UNDO;
use super::journals::{Journal, Sort, list};
use crate::ThreadId;

/// How much older than the clock the time of a file may be: kernels count it by ticks.
const TICK: u64 = 20_000_000;

/// One undo or redo.
#[derive(Debug)]
pub(crate) struct Reverted {
    began: u64,
    ended: u64,
    /// When each file had changed before what it took back.
    before: HashMap<FileId, u64>,
}

impl Reverted {
    /// When the file had changed before, if what it is now it has become by this, at `time`.
    pub(super) fn before(&self, id: FileId, time: u64) -> Option<u64> {
        let is_by_this = (self.began..=self.ended).contains(&time);
        self.before.get(&id).copied().filter(|_| is_by_this)
    }
}

/// Those of all threads but `id` in the store at `root`. What cannot be read is not among them: what
/// it did counts as somebody else's then.
pub(super) fn by_others(root: &Path, id: &ThreadId) -> Vec<Reverted> {
    let Ok(threads) = fs::read_dir(root.join(UNDO)) else { return Vec::new() };
    let others = threads.flatten().filter(|entry| entry.file_name() != id.as_str());
    others.filter_map(|entry| of_thread(&entry.path())).flatten().collect()
}

fn of_thread(folder: &Path) -> Option<Vec<Reverted>> {
    let parts = list(folder).ok()?;
    let is_back = |path: &Path| {
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        name.ends_with(b"-undo") || name.ends_with(b"-redo")
    };
    // Most were never taken back, and their journals may be long.
    if !parts.iter().any(|(_, path)| is_back(path)) {
        return None;
    }
    let parts = parts.into_iter().map(|(_, path)| Journal::open(path, false));
    let all = parts.collect::<Result<Vec<Journal>, _>>().ok()?;
    Some((0..all.len()).filter_map(|index| reverted(all.get(..=index)?)).collect())
}

/// What the last of `journals` took back.
fn reverted(journals: &[Journal]) -> Option<Reverted> {
    let (last, earlier) = journals.split_last()?;
    let taken = match last.sort {
        Sort::Run => return None,
        Sort::Undo => earlier,
        Sort::Redo => {
            let undone = earlier.iter().rev().take_while(|it| it.sort == Sort::Undo).count();
            earlier.get(earlier.len() - undone..)?
        }
    };
    let mut before = HashMap::new();
    for line in taken.iter().flat_map(|journal| &journal.lines) {
        if let Op::Kept { id, facts, .. } = &line.op
            && let Some(changed) = facts.changed
        {
            before.entry(*id).or_insert(changed);
        }
    }
    let began = last.lines.first()?.time.saturating_sub(TICK);
    Some(Reverted { began, ended: last.end, before })
}
