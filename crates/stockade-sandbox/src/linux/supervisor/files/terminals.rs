//! Pseudo-terminals, for the second backend: `/dev/pts` is the machine's there.
//!
//! A program inside may open `/dev/ptmx`, and of `/dev/pts` what belongs to a master that was opened
//! so, and the run's own terminal. The number of a slave says nothing: it is given to somebody else
//! as soon as the master is closed. So the slave's own file is held, by a reference (`O_PATH`), which
//! keeps no terminal open. When its master is closed the kernel takes the name away and forgets what
//! the file led to (`devpts_pty_kill`, fs/devpts/inode.c); an open by the reference then fails with
//! `EIO`, whoever has the number by then.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, Mode, OFlags};

use super::open::How;
use super::{Done, Files, Stop, error};

/// Masters that may be open at once: the machine has 4096 for everybody (`pty(7)`).
const MOST: usize = 128;

/// Majors of slaves, and the device that makes masters
/// (Documentation/admin-guide/devices.txt).
const SLAVES: std::ops::RangeInclusive<u32> = 136..=143;
const MAKER: (u32, u32) = (5, 2);

const MASTERS: &str = "/dev/ptmx";
const SLAVES_FOLDER: &str = "/dev/pts";

/// Those that belong to the run, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Terminals(Mutex<BTreeMap<u32, OwnedFd>>);

/// What a file of `/dev` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Maker,
    Slave(u32),
}

impl Device {
    fn of(file: &OwnedFd) -> io::Result<Option<Self>> {
        let stat = rustix::fs::fstat(file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
            return Ok(None);
        }
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        if (major, minor) == MAKER {
            return Ok(Some(Self::Maker));
        }
        let block = SLAVES.contains(&major).then(|| major - SLAVES.start());
        Ok(block.map(|block| Self::Slave(block * 256 + minor)))
    }

    fn named(path: &Path) -> Option<Self> {
        if path == Path::new(MASTERS) {
            return Some(Self::Maker);
        }
        let name = path.strip_prefix(SLAVES_FOLDER).ok()?.to_str()?;
        if name == "ptmx" {
            return Some(Self::Maker);
        }
        // As the kernel writes it; another text is no name there.
        let number = name.parse().ok().filter(|number: &u32| number.to_string() == name);
        number.map(Self::Slave)
    }
}

impl Terminals {
    /// Those of a run whose own is `terminal`.
    ///
    /// # Errors
    ///
    /// When the run's own cannot be named.
    pub(crate) fn new(terminal: Option<&OwnedFd>) -> io::Result<Self> {
        let terminals = Self::default();
        if let Some(terminal) = terminal
            && let Some(Device::Slave(number)) = Device::of(terminal)?
        {
            terminals.hold(number)?;
        }
        Ok(terminals)
    }

    /// The master of `number` is open: the name is its slave's.
    fn hold(&self, number: u32) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = format!("{SLAVES_FOLDER}/{number}");
        let slave = rustix::fs::open(name, flags, Mode::empty())?;
        if Device::of(&slave)? != Some(Device::Slave(number)) {
            return Err(io::Error::from_raw_os_error(libc::ENXIO));
        }
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|_, slave| rustix::fs::fstat(slave).is_ok_and(|stat| stat.st_nlink > 0));
        if held.len() >= MOST {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        held.insert(number, slave);
        Ok(())
    }

    fn open_master(&self, how: How) -> io::Result<OwnedFd> {
        let master = rustix::fs::open(MASTERS, how.of_a_terminal(), Mode::empty())?;
        let name = rustix::pty::ptsname(&master, Vec::new())?;
        let Some(Device::Slave(number)) =
            Device::named(Path::new(OsStr::from_bytes(name.as_bytes())))
        else {
            return Err(io::Error::from_raw_os_error(libc::ENXIO));
        };
        self.hold(number)?;
        Ok(master)
    }

    /// Opens the slave called `number`, if its master was opened inside.
    ///
    /// # Errors
    ///
    /// `EACCES` for anybody else's; `EIO` when its master is closed.
    pub(super) fn open_slave(&self, number: u32, how: How) -> io::Result<OwnedFd> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slave) = held.get(&number) else {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        };
        let own = format!("/proc/self/fd/{}", slave.as_raw_fd());
        Ok(rustix::fs::open(own, how.of_a_terminal(), Mode::empty())?)
    }

    fn open(&self, device: Device, how: How) -> io::Result<OwnedFd> {
        match device {
            Device::Slave(number) => self.open_slave(number, how),
            Device::Maker => self.open_master(how),
        }
    }
}

impl Files {
    /// Opens `path` if it is the name of a pseudo-terminal; `None` where it is not, or where the view
    /// has terminals of its own.
    pub(super) fn open_terminal(&self, path: &Path, how: How) -> Option<Result<Done, Stop>> {
        let (terminals, device) = (self.terminals.as_ref()?, Device::named(path)?);
        Some(terminals.open(device, how).map_err(Stop::from).and_then(|file| how.done(file)))
    }

    /// The same for what a descriptor leads to.
    pub(super) fn open_terminal_again(
        &self,
        object: &OwnedFd,
        how: How,
    ) -> Option<Result<Done, Stop>> {
        let terminals = self.terminals.as_ref()?;
        let device = match Device::of(object) {
            Ok(device) => device?,
            Err(error) => return Some(Err(error.into())),
        };
        Some(terminals.open(device, how).map_err(Stop::from).and_then(|file| how.done(file)))
    }

    /// Refuses a terminal that was come by under another name than those of `/dev`.
    pub(super) fn without_terminals(&self, done: Done) -> Result<Done, Stop> {
        if self.terminals.is_some()
            && let Done::File { file, .. } = &done
            && Device::of(file)?.is_some()
        {
            return error(libc::EACCES);
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_told_by_its_name() {
        let named = |path: &str| Device::named(Path::new(path));
        assert_eq!(named("/dev/ptmx"), Some(Device::Maker));
        assert_eq!(named("/dev/pts/ptmx"), Some(Device::Maker));
        assert_eq!(named("/dev/pts/12"), Some(Device::Slave(12)));
        for other in ["/dev/pts/", "/dev/pts/012", "/dev/pts/+1", "/dev/pts/1/2", "/dev/null"] {
            assert_eq!(named(other), None, "{other}");
        }
    }

    #[test]
    fn a_slave_is_opened_while_its_master_is_and_by_no_other_number() {
        let terminals = Terminals::default();
        let how = How::new(OFlags::RDWR, 0);
        let Ok(master) = terminals.open(Device::Maker, how) else {
            // No pseudo-terminals on this machine.
            return;
        };
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        let Some(Device::Slave(number)) = Device::named(Path::new(name.to_str().unwrap())) else {
            panic!("{name:?} is no slave");
        };
        drop(terminals.open_slave(number, how).unwrap());
        let other = terminals.open_slave(number + 1, how).map_err(|error| error.raw_os_error());
        assert_eq!(other.err(), Some(Some(libc::EACCES)), "nobody inside has opened its master");
        drop(master);
        // Somebody else gets the number.
        let flags = rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY;
        let others = rustix::pty::openpt(flags).unwrap();
        rustix::pty::unlockpt(&others).unwrap();
        assert!(terminals.open_slave(number, how).is_err(), "the number alone opens nothing");
    }
}
