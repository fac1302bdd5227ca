//! The project's own instructions to agents: `AGENTS.md` at the top of the repository, in the
//! workspace, and in the folders between.
//!
//! Read by the hands, so that a link in the project cannot show the model what they do not reach.
//! What they say is the project's word: it is told as such, and decides about nothing.

use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use stockade_agents::AgentEvent;

use crate::session::Session;

/// The name that agents have agreed on.
const NAME: &str = "AGENTS.md";

/// What is read of one file, in bytes.
const ONE_MAX: usize = 32 * 1024;

/// Folders that are looked into, the nearest to the workspace.
const FOLDERS_MAX: usize = 16;

/// Where instructions may be, and who looks.
pub(crate) struct Instructions<'a> {
    session: &'a Session<'a>,
    /// What all of them may take, in bytes.
    room: usize,
    /// Whether the boundary holds what links lead to.
    is_held: bool,
}

impl<'a> Instructions<'a> {
    /// For a model that reads `context_tokens` at once.
    pub(crate) fn new(session: &'a Session<'a>, context_tokens: u64) -> Self {
        // A token is three bytes or more: a third of the window at most.
        let room = usize::try_from(context_tokens).unwrap_or(usize::MAX);
        Self { session, room: room.min(2 * ONE_MAX), is_held: true }
    }

    /// No boundary holds the hands: a link is followed to a text beside it only.
    pub(crate) fn unheld(self) -> Self {
        Self { is_held: false, ..self }
    }

    /// All of them as text for the model, the nearest last; empty where there are none.
    pub(crate) fn read(&self, folders: &[PathBuf]) -> String {
        let mut room = self.room;
        let mut parts = Vec::new();
        // The nearest counts most, so it gets its room first.
        for folder in folders.iter().take(FOLDERS_MAX) {
            let part = self.one(&folder.join(NAME), room.min(ONE_MAX));
            room = room.saturating_sub(part.len());
            parts.extend(Some(part).filter(|part| !part.is_empty()));
        }
        parts.reverse();
        parts.join("\n")
    }

    /// One of them, with a line that says where it is from.
    fn one(&self, path: &Path, room: usize) -> String {
        let named = self.session.named(path);
        let left_out = |why: &str| {
            self.tell(&format!("{named} is not read: {why}"));
            format!("[{named} is there, and not shown: {why}]\n")
        };
        if !self.is_held && leads_away(path) {
            return left_out("it is a link that leads away, and no boundary holds it");
        }
        let bytes = match self.session.instructions(path) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return String::new(),
            Err(why) => return left_out(&why),
        };
        if bytes.contains(&0) {
            return left_out("it is not text");
        }
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim();
        if text.is_empty() {
            return String::new();
        }
        let end = (0..=room.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
        let (head, rest) = text.split_at(end.unwrap_or(0));
        let mut part = format!("From {named}:\n{head}\n");
        if rest.is_empty() {
            self.tell(&format!("read {named}"));
        } else {
            // A string cannot refuse to be written to.
            writeln!(part, "[{} more bytes of it left out; read the file]", rest.len()).ok();
            self.tell(&format!("read {named}, the first {} of {} bytes", head.len(), text.len()));
        }
        part
    }

    fn tell(&self, text: &str) {
        self.session.heard(AgentEvent::Step { text: text.to_owned() });
    }
}

/// The workspace and what is above it to the top of its repository, the nearest first. Without a
/// repository it is the workspace alone.
pub(crate) fn folders(workspace: &Path) -> Vec<PathBuf> {
    let above: Vec<PathBuf> = workspace.ancestors().map(Path::to_owned).collect();
    let top = above.iter().position(|folder| folder.join(".git").symlink_metadata().is_ok());
    above.into_iter().take(top.unwrap_or(0) + 1).collect()
}

/// Whether `path` is a link to anything but a text beside it (`CLAUDE.md`).
fn leads_away(path: &Path) -> bool {
    let Ok(target) = path.read_link() else { return false };
    let mut parts = target.components();
    let is_one = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    let is_file = || {
        let found = path.with_file_name(&target).symlink_metadata();
        found.is_ok_and(|data| data.is_file())
    };
    !is_one || target.extension() != Some("md".as_ref()) || !is_file()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn they_are_looked_for_from_the_workspace_to_the_top_of_its_repository() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(folders(&deep), [deep.as_path()], "no repository");
        fs::create_dir(top.path().join(".git")).unwrap();
        assert_eq!(folders(&deep), [&deep, &top.path().join("a"), top.path()]);
        fs::write(deep.join(".git"), "gitdir: elsewhere").unwrap();
        assert_eq!(folders(&deep), [deep.as_path()], "a repository of its own");
    }

    #[test]
    fn a_link_that_leads_away_is_told_from_one_to_a_text_beside_it() {
        let top = tempfile::tempdir().unwrap();
        let at = |name: &str| top.path().join(name);
        fs::write(at("CLAUDE.md"), "x").unwrap();
        fs::write(at(".env"), "x").unwrap();
        symlink("/etc/passwd", at("out.md")).unwrap();
        for (name, target) in [
            ("beside", "CLAUDE.md"),
            ("secret", ".env"),
            ("up", "../CLAUDE.md"),
            ("out", "/etc/passwd"),
            ("through", "out.md"),
            ("nothing", "missing.md"),
        ] {
            symlink(target, at(name)).unwrap();
        }
        let names = ["CLAUDE.md", "missing", "beside", "secret", "up", "out", "through", "nothing"];
        let away = names.map(|name| leads_away(&at(name)));
        assert_eq!(away, [false, false, false, true, true, true, true, true]);
    }
}
