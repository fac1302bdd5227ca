//! The descriptors that a spawned command begins with.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::termios::isatty;

/// The descriptors 0–2 of a spawned command.
#[derive(Debug)]
pub struct Stdio {
    /// Where it reads from.
    pub stdin: OwnedFd,
    /// Where it writes to.
    pub stdout: OwnedFd,
    /// Where it writes its troubles to.
    pub stderr: OwnedFd,
}

impl Stdio {
    /// `/dev/null` three times.
    ///
    /// # Errors
    ///
    /// When it cannot be opened.
    pub fn null() -> io::Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (stdin, stdout) = (null.try_clone()?.into(), null.try_clone()?.into());
        Ok(Self { stdin, stdout, stderr: null.into() })
    }

    /// As they are numbered.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] for a terminal: the process that would have to keep it is
    /// no member of the foreground job.
    pub(crate) fn into_numbered(self) -> io::Result<[OwnedFd; 3]> {
        let numbered = [self.stdin, self.stdout, self.stderr];
        if numbered.iter().any(isatty) {
            let text = "not yet: a terminal for a command that is spawned";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        Ok(numbered)
    }
}
