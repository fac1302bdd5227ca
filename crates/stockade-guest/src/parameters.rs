//! What both sides of a machine's start have to know: names, and what a guest is told.

use std::path::PathBuf;

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

/// Whose machine it is to be, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an answer of its own")]
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
    /// Whether there is something on the disk with what a set-up has left.
    pub has_setup: bool,
    /// Whether there is something on the disk with a program that the system does not have.
    pub has_program: bool,
}
