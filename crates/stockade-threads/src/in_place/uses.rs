//! What goes on without a question because a person has allowed it for the rest of the run: in the
//! record by name, and no record grows with it without end.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use crate::record::{Event, Used};

/// So many actions under one grant stand in a record by name. A formatter that rewrites a tree has
/// thousands, and what is changed outside is in the journals of undo as well.
const NAMED_MAX: usize = 100;

/// The grants that were used, and for what.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<BTreeMap<String, Use>>);

#[derive(Debug, Default)]
struct Use {
    named: HashSet<String>,
    calls: u64,
}

impl Uses {
    /// Takes down that `action` goes on because of `grant`. The value is what the record should say of it, which
    /// it has for each action once.
    pub(super) fn take(&self, grant: &str, action: &str) -> Option<Event> {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let used = uses.entry(grant.to_owned()).or_default();
        used.calls += 1;
        let is_new = used.named.len() < NAMED_MAX && used.named.insert(action.to_owned());
        is_new.then(|| Event::Used(Used::of(grant, action)))
    }

    /// How often each was used in all, where the record does not have every call.
    pub(super) fn totals(&self) -> Vec<Event> {
        let uses = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let missing = uses.into_iter().filter(|(_, used)| used.calls > used.named.len() as u64);
        let total = |(grant, Use { calls, .. })| Used { grant, action: None, calls: Some(calls) };
        missing.map(|used| Event::Used(total(used))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_is_named_once_and_the_rest_is_counted() {
        let uses = Uses::default();
        assert!(uses.take("write /a", "write /a").is_some());
        assert_eq!(uses.totals(), []);
        let named = (0..5000).filter_map(|file| uses.take("/b", &format!("write /b/{file}")));
        assert_eq!(named.count(), NAMED_MAX);
        assert!(uses.take("/c", "write /c/1").is_some());
        assert!(uses.take("/c", "write /c/1").is_none());
        let total = |grant: &str, calls| {
            Event::Used(Used { grant: grant.to_owned(), action: None, calls: Some(calls) })
        };
        assert_eq!(uses.totals(), [total("/b", 5000), total("/c", 2)]);
        assert_eq!(uses.totals(), []);
    }
}
