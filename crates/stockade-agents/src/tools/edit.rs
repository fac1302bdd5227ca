//! The tool `edit`: a patch over any number of files, computed whole before anything is written.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::files::named;
use super::patch::{Operation, apply, parse};
use super::{Bench, ToolError};
use crate::hands::HandsError;

pub(super) const DESCRIPTION: &str = r"Changes files by a patch:

*** Begin Patch
*** Update File: path/of/file.py
@@ def function_above():
 a line that stays
-a line that goes
+a line that comes
*** Add File: path/of/new.txt
+each line with a plus
*** Delete File: path/of/old.txt
*** End Patch

Lines of context and lines that go must be those of the file, exactly, and enough to be found \
only once; `@@ LINE` names a line above them where they are not. `*** Move to: PATH` below \
`*** Update File:` renames. Either all of a patch fits or nothing is written.";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arguments {
    patch: String,
}

/// Files as they are to be, by path; `None` goes away.
type Contents = BTreeMap<String, Option<String>>;

impl Bench<'_> {
    pub(super) fn edit(&mut self, arguments: &Arguments) -> Result<String, ToolError> {
        let slip = |error: super::patch::PatchError| ToolError::Slip(error.to_string());
        let operations = parse(&arguments.patch).map_err(slip)?;
        let mut contents = Contents::new();
        for operation in &operations {
            match operation {
                Operation::Add { path, content } => {
                    self.refuse_present(&contents, path)?;
                    contents.insert(path.clone(), Some(content.clone()));
                }
                Operation::Delete { path } => {
                    // A folder, or what may not be read, is no file to delete by a patch.
                    self.present(&contents, path)?;
                    contents.insert(path.clone(), None);
                }
                Operation::Update { path, target, hunks } => {
                    let text = self.text(&contents, path)?;
                    let text = apply(path, &text, hunks).map_err(slip)?;
                    if let Some(target) = target.as_ref().filter(|target| *target != path) {
                        self.refuse_present(&contents, target)?;
                        contents.insert(path.clone(), None);
                        contents.insert(target.clone(), Some(text));
                    } else {
                        contents.insert(path.clone(), Some(text));
                    }
                }
            }
        }
        self.put(&contents)
    }

    /// Writes everything; new content first, so that a move loses nothing when it fails.
    fn put(&mut self, contents: &Contents) -> Result<String, ToolError> {
        let (kept, gone): (Vec<_>, Vec<_>) = contents.iter().partition(|(_, text)| text.is_some());
        let mut done: Vec<String> = Vec::new();
        for (path, text) in kept.into_iter().chain(gone) {
            let result = self.hands.write(Path::new(path), text.as_deref().map(str::as_bytes));
            let with_done = |words: String| match done.as_slice() {
                [] => words,
                done => format!("{words} (already done: {})", done.join(", ")),
            };
            match result {
                Ok(()) if text.is_some() => done.push(format!("wrote `{path}`")),
                Ok(()) => done.push(format!("deleted `{path}`")),
                Err(HandsError::Refused(words)) => {
                    return Err(HandsError::Refused(with_done(words)).into());
                }
                Err(HandsError::Failed(why)) => {
                    return Err(HandsError::Failed(with_done(why)).into());
                }
                Err(end @ (HandsError::Lost(_) | HandsError::Interrupted)) => {
                    return Err(end.into());
                }
            }
        }
        Ok(done.join("\n"))
    }

    /// The bytes of a file that has to be there, after what the patch has done to it so far.
    fn present(&self, contents: &Contents, path: &str) -> Result<Vec<u8>, ToolError> {
        match contents.get(path) {
            Some(Some(text)) => Ok(text.clone().into_bytes()),
            Some(None) => Err(ToolError::Slip(format!("`{path}` is deleted above in the patch"))),
            None => Ok(self.hands.read(named(Path::new(path))?)?),
        }
    }

    fn text(&self, contents: &Contents, path: &str) -> Result<String, ToolError> {
        String::from_utf8(self.present(contents, path)?)
            .map_err(|error| ToolError::Slip(format!("`{path}` is not text: {error}")))
    }

    fn refuse_present(&self, contents: &Contents, path: &str) -> Result<(), ToolError> {
        let exists =
            || ToolError::Slip(format!("`{path}` is there already; use `*** Update File`"));
        match contents.get(path) {
            Some(Some(_)) => Err(exists()),
            Some(None) => Ok(()),
            None => match self.hands.read(named(Path::new(path))?) {
                Ok(_) => Err(exists()),
                // Most likely it is not there; whatever else it is, writing will show it.
                Err(HandsError::Failed(_)) => Ok(()),
                Err(other) => Err(other.into()),
            },
        }
    }
}
