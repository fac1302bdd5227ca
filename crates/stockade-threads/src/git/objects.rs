//! Reading objects, one process for many.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::{Git, GitError, ObjectId};

const VERB: &str = "cat-file";

/// A process that hands out objects.
#[derive(Debug)]
pub(crate) struct Objects {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Objects {
    /// Starts it.
    pub(crate) fn open(git: &Git) -> Result<Self, GitError> {
        let mut command = git.command(&[VERB.as_ref(), "--batch-command".as_ref()]);
        command.stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(GitError::Start)?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().ok_or_else(|| GitError::answer(VERB))?;
        Ok(Self { child, stdin, stdout: BufReader::new(stdout) })
    }

    /// How long the blob `id` is, in bytes.
    pub(crate) fn size(&mut self, id: &ObjectId) -> Result<u64, GitError> {
        self.ask("info", id)
    }

    /// The whole blob.
    pub(crate) fn content(&mut self, id: &ObjectId) -> Result<Vec<u8>, GitError> {
        let size = self.ask("contents", id)?;
        let io = GitError::io(VERB);
        let mut content = Vec::new();
        self.stdout.by_ref().take(size).read_to_end(&mut content).map_err(&io)?;
        let mut end = [0];
        self.stdout.read_exact(&mut end).map_err(&io)?;
        Ok(content)
    }

    fn ask(&mut self, what: &str, id: &ObjectId) -> Result<u64, GitError> {
        let io = GitError::io(VERB);
        let stdin = self.stdin.as_mut().ok_or_else(|| GitError::answer(VERB))?;
        writeln!(stdin, "{what} {id}").and_then(|()| stdin.flush()).map_err(&io)?;
        let mut head = String::new();
        self.stdout.read_line(&mut head).map_err(&io)?;
        let mut words = head.split_whitespace();
        let (name, kind, size) = (words.next(), words.next(), words.next());
        let size = size.and_then(|size| size.parse().ok());
        match (name, kind, size) {
            (Some(name), Some("blob"), Some(size)) if name == id.as_str() => Ok(size),
            _ => Err(GitError::Failed {
                verb: VERB.to_owned(),
                words: format!("there is no file content {id}"),
            }),
        }
    }
}

impl Drop for Objects {
    fn drop(&mut self) {
        // The end of its input is the end of it.
        self.stdin.take();
        self.child.wait().ok();
    }
}
