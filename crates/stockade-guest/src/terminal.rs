//! The terminal of a command: a pseudoterminal of the place, whose other side is the channel.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};

use crate::message::WindowSize;

/// Both sides of a new terminal of this size: the channel's, which nobody waits for, and the
/// command's.
pub(crate) fn open(size: WindowSize) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let channels = openpt(flags)?;
    grantpt(&channels)?;
    unlockpt(&channels)?;
    // By the number alone, a `/dev/pts` of somebody else's could be opened.
    let commands = ioctl_tiocgptpeer(&channels, flags)?;
    let mut settings = tcgetattr(&commands)?;
    // The language of a place is a UTF-8 one: a whole character is rubbed out, not its last byte.
    settings.input_modes |= InputModes::IUTF8;
    tcsetattr(&commands, OptionalActions::Now, &settings)?;
    resize(&commands, size)?;
    rustix::io::ioctl_fionbio(&channels, true)?;
    Ok((channels, commands))
}

/// Gives a terminal this size. The kernel tells the job in its foreground (SIGWINCH).
pub(crate) fn resize(terminal: impl AsFd, size: WindowSize) -> io::Result<()> {
    let WindowSize { rows, columns } = size;
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}
