//! Edits by the agent's own tool.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use stockade_agents::HandsError;
use stockade_guest::CallError;
use stockade_policy::{Reason, Verdict, review};

use super::shell::opened;
use super::{Declined, NO_ENTRY, READ_MAX, Session, failed};
use crate::bounds::{OUTSIDE, Refusal, shown};
use crate::journal::Live;
use crate::place::Place;
use crate::question::Asked;
use crate::record::{Edit, EditKind, Event};

// errno(3), x86-64 and aarch64 alike.
const NOT_PERMITTED: i32 = 1;
const NO_ACCESS: i32 = 13;
const READ_ONLY: i32 = 30;

impl Session<'_> {
    pub(super) fn edit(&self, path: &Path, content: Option<&[u8]>) -> Result<(), HandsError> {
        let bounds = self.parts.bounds.as_ref();
        let wide = match bounds.map_or(Ok(()), |bounds| bounds.write(path)) {
            Ok(()) => {
                self.approve_edit(path, content)?;
                None
            }
            Err(refusal) => Some(self.approve_outside(refusal, content)?),
        };
        let place = wide.as_deref().unwrap_or(self.parts.place);
        let client = place.client();
        let before = match client.read_file(path, READ_MAX) {
            Ok(before) => Some(before),
            Err(CallError::Refused { errno: NO_ENTRY, .. }) => None,
            Err(error) => return Err(failed(error)),
        };
        match client.write_file(path, content) {
            Ok(()) => {}
            Err(CallError::Refused { errno: NOT_PERMITTED | NO_ACCESS | READ_ONLY, text }) => {
                return Err(match (&self.parts.bounds, self.is_of_another(path)) {
                    (Some(_), Some(why)) => HandsError::Failed(why),
                    (Some(bounds), None) => self.refuse(&bounds.unforeseen(path)),
                    (None, _) => HandsError::Failed(text),
                });
            }
            Err(error) => return Err(failed(error)),
        }
        let kind = match (&before, content) {
            (_, None) => EditKind::Deleted,
            (None, Some(_)) => EditKind::Created,
            (Some(_), Some(_)) => EditKind::Modified,
        };
        self.record(&Event::Edit(Edit { path: path.into(), kind }))?;
        let before = before.as_deref();
        self.parts.journal.show(&Live::Change { path, before, after: content });
        Ok(())
    }

    fn approve_edit(&self, path: &Path, content: Option<&[u8]>) -> Result<(), HandsError> {
        let verb = if content.is_some() { "write" } else { "delete" };
        let action = format!("{verb} {}", shown(path));
        let approval = self.parts.judge.approval;
        let effect = format!("{action}\nthe approval policy `{approval}` asks about every change.");
        let asked = Asked { action, effect, ..Asked::default() };
        let review = review((), &[(self.parts.judge.edit(), Reason::Mode)]);
        match self.approve(review, &asked, None) {
            Ok(approved) => {
                approved.into_action();
                Ok(())
            }
            Err(Declined::Lost(error)) => Err(error),
            Err(declined) => Err(self.refuse(&Refusal {
                op: "write",
                target: path.to_owned(),
                words: format!("write to {}: {}", path.display(), declined.why()),
                decided_by: "approval_policy",
            })),
        }
    }

    /// Asks about a write outside, where one can be opened, and gives the place in which it is. A
    /// file cannot be deleted there: what is opened is the file, not the folder.
    fn approve_outside(
        &self,
        refusal: Refusal,
        content: Option<&[u8]>,
    ) -> Result<Arc<dyn Place>, HandsError> {
        let is_asked = refusal.decided_by == OUTSIDE
            && content.is_some()
            && self.parts.judge.approval.asks_to_cross();
        let widen = self.parts.widen.filter(|_| is_asked);
        let open = widen.and_then(|widen| widen.open(&refusal.target).ok());
        let Some(open) = open else { return Err(self.refuse(&refusal)) };
        let action = format!("write {}", shown(&refusal.target));
        let effect =
            format!("{action}\nit is outside what may be written.\nA yes opens {}.", opened(&open));
        let asked = Asked { action, effect, ..Asked::default() };
        match self.approve(review((), &[(Verdict::Ask, Reason::Mode)]), &asked, None) {
            Ok(approved) => {
                approved.into_action();
                self.wide(&open)
            }
            Err(Declined::Lost(error)) => Err(error),
            Err(Declined::Nobody) => Err(self.refuse(&refusal)),
            Err(declined) => {
                let words = format!("write to {}: {}", shown(&refusal.target), declined.why());
                Err(self.refuse(&Refusal { words, ..refusal }))
            }
        }
    }

    /// That the user themselves may not write `path`, which is there: no boundary has refused it.
    fn is_of_another(&self, path: &Path) -> Option<String> {
        let workspace = self.parts.bounds.as_ref()?.policy().workspace.as_path();
        let found = workspace.join(path);
        let error = rustix::fs::access(&found, rustix::fs::Access::WRITE_OK).err()?;
        let data = std::fs::metadata(&found).ok()?;
        let (mode, owner) = (data.mode() & 0o7777, data.uid());
        (error == rustix::io::Errno::ACCESS).then(|| {
            let path = self.named(path);
            format!("cannot write `{path}`: its mode is {mode:04o} and its owner the user {owner}")
        })
    }
}
