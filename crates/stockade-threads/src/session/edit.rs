//! Edits by the agent's own tool.

use std::path::Path;

use stockade_agents::HandsError;
use stockade_guest::CallError;
use stockade_policy::{Reason, review};

use super::{Declined, NO_ENTRY, READ_MAX, Session, failed};
use crate::bounds::Refusal;
use crate::journal::Live;
use crate::question::Asked;
use crate::record::{Edit, EditKind, Event};

// errno(3), x86-64 and aarch64 alike.
const NOT_PERMITTED: i32 = 1;
const NO_ACCESS: i32 = 13;
const READ_ONLY: i32 = 30;

impl Session<'_> {
    pub(super) fn edit(&self, path: &Path, content: Option<&[u8]>) -> Result<(), HandsError> {
        if let Some(bounds) = &self.parts.bounds {
            bounds.write(path).map_err(|refusal| self.refuse(&refusal))?;
        }
        self.approve_edit(path, content)?;
        let client = self.parts.place.client();
        let before = match client.read_file(path, READ_MAX) {
            Ok(before) => Some(before),
            Err(CallError::Refused { errno: NO_ENTRY, .. }) => None,
            Err(error) => return Err(failed(error)),
        };
        match client.write_file(path, content) {
            Ok(()) => {}
            Err(CallError::Refused { errno: NOT_PERMITTED | NO_ACCESS | READ_ONLY, text }) => {
                return Err(match &self.parts.bounds {
                    Some(bounds) => self.refuse(&bounds.unforeseen(path)),
                    None => HandsError::Failed(text),
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
        let action = format!("{verb} {}", path.display());
        let approval = self.parts.judge.approval;
        let effect = format!("{action}\nthe approval policy `{approval}` asks about every change.");
        let asked = Asked { action, effect };
        match self.approve(review((), &[(self.parts.judge.edit(), Reason::Mode)]), &asked) {
            Ok(approved) => {
                approved.into_action();
                Ok(())
            }
            Err(Declined::No(why)) => Err(self.refuse(&Refusal {
                op: "write",
                target: path.to_owned(),
                words: format!("write to {}: {why}", path.display()),
                decided_by: "approval_policy",
            })),
            Err(Declined::Lost(error)) => Err(error),
        }
    }
}
