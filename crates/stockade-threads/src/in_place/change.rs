//! Names outside that a call gives, takes or changes: asked about, and changed here after a yes.

use std::path::Path;

use rustix::fs::Mode;
use stockade_sandbox::{Change, Question, Reply as Answer};

use super::target::Target;
use super::{InPlace, Said, escaped};
use crate::bounds::shown;
use crate::question::Asked;

/// What is done after a yes.
enum Act {
    MakeFolder(Target, Mode),
    Remove(Target),
    Rename(Target, Target),
}

impl Act {
    fn perform(&self) -> std::io::Result<()> {
        match self {
            Self::MakeFolder(target, mode) => target.make_folder(*mode),
            Self::Remove(target) => target.remove(),
            Self::Rename(from, to) => from.rename(to),
        }
    }
}

/// What a yes for more than this would have to hold: what goes or gets another name leaves its folder.
fn held(change: &Change) -> Vec<&Path> {
    match change {
        Change::MakeFolder { path, .. } => vec![path],
        Change::Remove { path, .. } => path.parent().into_iter().collect(),
        Change::Rename { from, to, .. } => {
            [from, to].into_iter().filter_map(|it| it.parent()).collect()
        }
    }
}

impl InPlace<'_> {
    pub(super) fn change(&self, question: &Question, change: &Change) -> Answer {
        let Some((act, action, words)) = self.act(change) else { return Answer::Unasked };
        let paths = self.offers(&held(change));
        let program = escaped(&question.program);
        let effect = format!(
            "{action}\n`{program}` {words}, outside what may be written.\n\
             A yes does this once, and opens nothing."
        );
        let asked = Asked { action, effect, paths, ..Asked::default() };
        match self.ask(&asked, None, &|| question.is_wanted()) {
            Said::Once if !question.is_wanted() => self.keep(&asked),
            Said::Once | Said::Always => match act.perform() {
                Ok(()) => Answer::Yes,
                Err(error) => {
                    Answer::No(format!("allowed, but it could not be done afterwards: {error}"))
                }
            },
            Said::Nobody => Answer::Nobody,
            Said::No(why) => Answer::No(why),
        }
    }

    /// What `change` comes to, if a person may be asked about it: files, and folders that are new or
    /// empty, and never a link.
    fn act(&self, change: &Change) -> Option<(Act, String, &'static str)> {
        let name = |path: &Path| self.may_be_asked(path).then(|| Target::name(path).ok()).flatten();
        match change {
            Change::MakeFolder { path, mode } => {
                let target = name(path).filter(Target::is_new)?;
                let act = Act::MakeFolder(target, Mode::from_raw_mode(*mode));
                Some((act, format!("make folder {}", shown(path)), "makes this folder"))
            }
            Change::Remove { path, is_folder: true } => {
                let target = name(path).filter(Target::is_folder)?;
                let action = format!("remove folder {}", shown(path));
                Some((Act::Remove(target), action, "removes this folder, which has to be empty"))
            }
            Change::Remove { path, is_folder: false } => {
                let target = name(path).filter(Target::is_file)?;
                Some((Act::Remove(target), format!("remove {}", shown(path)), "removes this file"))
            }
            Change::Rename { from, to, is_careful } => {
                let source = name(from).filter(Target::is_file)?;
                let target = name(to)
                    .filter(|target| target.is_new() || (target.is_file() && !is_careful))?;
                let words = if target.is_new() {
                    "renames this file"
                } else {
                    "renames this file and replaces another"
                };
                let action = format!("rename {} to {}", shown(from), shown(to));
                Some((Act::Rename(source, target), action, words))
            }
        }
    }
}
