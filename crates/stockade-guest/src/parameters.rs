//! What a guest is told at its start, on the kernel's command line.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::time::Duration;

/// Name of the virtio-serial port that carries the channel.
pub const PORT_NAME: &str = "stockade.channel";

/// Serial number of the disk with the read-only system.
pub const SYSTEM_DISK: &str = "system";

/// Serial number of the disk with the repository.
pub const REPOSITORY_DISK: &str = "repository";

/// Serial number of the disk with what a set-up has left, an archive.
pub const SETUP_DISK: &str = "setup";

/// Serial number of the disk with a program that the system does not have.
pub const PROGRAM_DISK: &str = "program";

/// Where that is mounted.
pub const PROGRAM_FOLDER: &str = "/opt/stockade";

/// Where the guest's user reads it.
pub const SETUP_ARCHIVE: &str = "/dev/stockade-setup";

/// Folder of the initial file system with the kernel's modules, in the order of their names.
pub const MODULES_FOLDER: &str = "modules";

/// Name and home of the user that commands run as.
pub const USER_NAME: &str = "agent";

/// What its commands find in their environment.
pub const ENVIRONMENT: [(&str, &str); 7] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/home/agent"),
    ("USER", USER_NAME),
    ("LOGNAME", USER_NAME),
    ("SHELL", "/bin/sh"),
    ("LANG", "C.UTF-8"),
    ("TERM", "dumb"),
];

/// Word of the command line of a machine that is only to show that it starts.
pub const TRIAL: &str = "stockade.trial";

/// What the guest then says on its console, before it ends the machine.
pub const TRIAL_PASSED: &str = "the trial has come through";

/// What a guest is told at its start.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a word of a command line")]
pub struct Parameters {
    /// The user and group that commands run as.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// Where the repository's disk is mounted, and where relative paths start.
    pub folder: PathBuf,
    /// Whether commands run as root instead, who has the kernel's other means then: further modules,
    /// mounts, control groups.
    pub is_root: bool,
    /// Whether the repository still has to be given to that user.
    pub gives: bool,
    /// Whether there is a disk with what a set-up has left.
    pub has_setup: bool,
    /// Whether there is a disk with a program that the system does not have.
    pub has_program: bool,
    /// The time since the epoch when the machine was started: it has no clock of its own.
    pub clock: Duration,
}

impl Parameters {
    /// As words of a kernel's command line.
    pub fn to_words(&self) -> String {
        let mut folder = String::new();
        for byte in self.folder.as_os_str().as_bytes() {
            folder.extend(
                [byte >> 4, byte & 15]
                    .map(|half| char::from_digit(u32::from(half), 16).unwrap_or('0')),
            );
        }
        format!(
            "stockade.uid={} stockade.gid={} stockade.root={} stockade.give={} \
             stockade.folder={folder} stockade.setup={} stockade.program={} \
             stockade.clock={}",
            self.uid,
            self.gid,
            u8::from(self.is_root),
            u8::from(self.gives),
            u8::from(self.has_setup),
            u8::from(self.has_program),
            self.clock.as_millis(),
        )
    }

    /// Finds them in a command line; an error names the word that is missing or wrong.
    ///
    /// # Errors
    ///
    /// The name of the first parameter that is not there or cannot be understood.
    pub fn from_words(line: &str) -> Result<Self, &'static str> {
        let value = |name: &'static str| {
            let find =
                |word: &'_ str| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
            line.split_ascii_whitespace().find_map(find).ok_or(name)
        };
        let number = |name| value(name)?.parse::<u32>().ok().ok_or(name);
        let clock = "stockade.clock";
        let folder = "stockade.folder";
        Ok(Self {
            uid: number("stockade.uid")?,
            gid: number("stockade.gid")?,
            folder: PathBuf::from(from_hex(&value(folder)?).ok_or(folder)?),
            is_root: number("stockade.root")? != 0,
            gives: number("stockade.give")? != 0,
            has_setup: number("stockade.setup")? != 0,
            has_program: number("stockade.program")? != 0,
            clock: value(clock)?.parse().ok().map(Duration::from_millis).ok_or(clock)?,
        })
    }
}

fn from_hex(text: &str) -> Option<OsString> {
    let digits = text.chars().map(|digit| digit.to_digit(16)).collect::<Option<Vec<_>>>()?;
    let bytes = digits.chunks(2).map(|pair| match pair {
        [high, low] => u8::try_from(high * 16 + low).ok(),
        _ => None,
    });
    bytes.collect::<Option<Vec<u8>>>().map(OsString::from_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let parameters = Parameters {
            uid: 1000,
            gid: 100,
            is_root: true,
            gives: true,
            folder: OsString::from_vec(b"/a b/\xff=\"".to_vec()).into(),
            has_setup: true,
            has_program: true,
            clock: Duration::from_millis(1_795_000_000_123),
        };
        let line = format!("quiet {} panic=-1", parameters.to_words());
        assert_eq!(Parameters::from_words(&line), Ok(parameters));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let whole = "stockade.uid=1 stockade.gid=2 stockade.root=0 stockade.give=0 stockade.folder=2f61 \
                     stockade.setup=0 stockade.program=0 stockade.clock=5";
        assert!(Parameters::from_words(whole).is_ok());
        for (wrong, name) in [
            (whole.replace("uid=1", "uid=x"), "stockade.uid"),
            (whole.replace("stockade.gid=2", ""), "stockade.gid"),
            (whole.replace("root=0", "root="), "stockade.root"),
            (whole.replace("2f61", "2f6"), "stockade.folder"),
            (whole.replace("setup=0", "setup=y"), "stockade.setup"),
            (whole.replace("program=0", ""), "stockade.program"),
            (whole.replace("2f61", "2fxy"), "stockade.folder"),
            (whole.replace("clock=5", "clock=-5"), "stockade.clock"),
        ] {
            assert_eq!(Parameters::from_words(&wrong), Err(name));
        }
    }
}
