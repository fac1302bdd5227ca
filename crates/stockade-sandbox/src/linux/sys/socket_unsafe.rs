//! Calls on sockets with addresses as plain bytes, and the loopback interface.
#![expect(unsafe_code, reason = "socket addresses of any family, and SIOCSIFFLAGS")]

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::sync::OnceLock;

/// Connects `socket` to the `struct sockaddr` in `address`.
///
/// # Errors
///
/// Those of connect(2), unchanged: they are handed to the program that asked.
pub(crate) fn connect(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(address.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel copies `length` bytes of the borrowed slice and checks them itself.
    match unsafe { libc::connect(socket.as_raw_fd(), address.as_ptr().cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has `connect` on `socket` begin the connection there and then (`TCP_FASTOPEN_CONNECT` of tcp(7) is
/// taken back). A socket that has no such option needs nothing.
pub(crate) fn without_fast_open(socket: BorrowedFd<'_>) {
    let off: libc::c_int = 0;
    let Ok(length) = libc::socklen_t::try_from(size_of::<libc::c_int>()) else { return };
    // SAFETY: the option is an int, live for the call, and `length` is its size.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN_CONNECT,
            (&raw const off).cast(),
            length,
        )
    };
}

/// Binds `socket` to the `struct sockaddr` in `address`.
///
/// # Errors
///
/// Those of bind(2), unchanged: they are handed to the program that asked.
pub(crate) fn bind(socket: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(address.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel copies `length` bytes of the borrowed slice and checks them itself.
    match unsafe { libc::bind(socket.as_raw_fd(), address.as_ptr().cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One message, all of it already copied into this process.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    /// `struct sockaddr` bytes; empty for none.
    pub(crate) name: &'a [u8],
    /// The payload.
    pub(crate) data: &'a [u8],
    /// Control messages, in the kernel's layout; empty for none.
    pub(crate) control: &'a [u8],
    /// `MSG_*`.
    pub(crate) flags: i32,
}

/// Sends `message` on `socket`; returns the bytes sent. Never raises `SIGPIPE`.
///
/// # Errors
///
/// Those of sendmsg(2), unchanged: they are handed to the program that asked.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &Message<'_>) -> io::Result<usize> {
    let mut data = libc::iovec {
        iov_base: message.data.as_ptr().cast_mut().cast(),
        iov_len: message.data.len(),
    };
    // SAFETY: `msghdr` is pointers and integers, for which zero is a valid value.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut data;
    header.msg_iovlen = 1;
    if !message.name.is_empty() {
        header.msg_name = message.name.as_ptr().cast_mut().cast();
        header.msg_namelen =
            libc::socklen_t::try_from(message.name.len()).map_err(io::Error::other)?;
    }
    if !message.control.is_empty() {
        header.msg_control = message.control.as_ptr().cast_mut().cast();
        header.msg_controllen = message.control.len();
    }
    let flags = message.flags | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel only reads through the header's pointers, each of which is a borrowed
    // slice of the length beside it, and checks what is in them itself.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, flags) };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

/// Whether `socket` was made in the network namespace of this process (Linux 5.14).
///
/// # Errors
///
/// `ENOTSOCK` when it is no socket.
pub(crate) fn is_of_this_network(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // A process does not change its network once there are programs to ask for.
    static OWN: OnceLock<u64> = OnceLock::new();
    let own = if let Some(own) = OWN.get() {
        *own
    } else {
        let probe = rustix::net::socket_with(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::DGRAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        let own = network_cookie(probe.as_fd())?;
        *OWN.get_or_init(|| own)
    };
    Ok(network_cookie(socket)? == own)
}

/// `SO_NETNS_COOKIE`: a number that no other network namespace of this machine ever has.
fn network_cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    option(socket, SO_NETNS_COOKIE).map(u64::from_ne_bytes)
}

/// The `struct ucred` of the other end (`SO_PEERCRED`, unix(7)): process, user, group. As bytes, since
/// the process is 0 where it is in no PID namespace of this one's.
///
/// # Errors
///
/// Those of getsockopt(2).
pub(crate) fn peer_credentials(
    socket: BorrowedFd<'_>,
) -> io::Result<[u8; size_of::<libc::ucred>()]> {
    option(socket, libc::SO_PEERCRED)
}

/// The option `name` of socket(7), of a size that is known.
fn option<const SIZE: usize>(socket: BorrowedFd<'_>, name: libc::c_int) -> io::Result<[u8; SIZE]> {
    let mut value = [0; SIZE];
    let mut length = libc::socklen_t::try_from(SIZE).map_err(io::Error::other)?;
    let place = value.as_mut_ptr().cast();
    // SAFETY: the kernel writes no more than `length` bytes to the array, which is as long.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, place, &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Sets the loopback interface of this network namespace up.
///
/// # Errors
///
/// `EPERM` without `CAP_NET_ADMIN` over the network namespace. Source: netdevice(7).
pub(crate) fn bring_loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `ifreq` is integers, byte arrays and a union of such: zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = i16::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: the kernel reads one `ifreq`, live for the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
