//! Which Unix sockets with a name were bound inside.
//!
//! A socket's file can be seen through the read-only view, and neither a read-only mount nor
//! Landlock before ABI 9 keeps a program from connecting to it. The kernel, however, lists
//! the sockets of a network namespace together with the files they are bound to
//! (`sock_diag(7)`, `UDIAG_SHOW_VFS`), and everything inside shares one namespace that nothing
//! outside is in. So "is it in the list" is the whole question, asked at each connect.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::peers::Peers;

/// linux/netlink.h: `NETLINK_SOCK_DIAG`.
const SOCK_DIAG: u32 = 4;
/// `linux/sock_diag.h`: `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `linux/unix_diag.h`.
const SHOW_VFS: u32 = 1 << 1;
const SHOW_PEER: u32 = 1 << 2;
const UNIX_DIAG_VFS: u16 = 1;
const UNIX_DIAG_PEER: u16 = 2;
const HEADER_BYTES: usize = 16;
/// `struct unix_diag_msg`.
const MESSAGE_BYTES: usize = 16;

/// A file as `sock_diag` names it: inode number (its low half) and device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SocketFile {
    inode: u32,
    device: u32,
}

impl SocketFile {
    /// The file that `fd` refers to, or `None` when it is not a socket's.
    pub(super) fn of(fd: &OwnedFd) -> io::Result<Option<Self>> {
        let stat = rustix::fs::fstat(fd)?;
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::Socket {
            return Ok(None);
        }
        // The kernel reports the low half of the inode number and its internal encoding of the
        // device: 12 bits of major number above 20 of minor (linux/kdev_t.h).
        let inode = u32::try_from(stat.st_ino & 0xffff_ffff).map_err(io::Error::other)?;
        let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
        Ok(Some(Self { inode, device: major << 20 | minor }))
    }
}

/// Whether `fd`, a socket's file, could have been bound inside, and was.
///
/// # Errors
///
/// As [`is_bound_inside`].
pub(super) fn was_bound_inside(
    fd: &OwnedFd,
    file: SocketFile,
    peers: Option<&Peers>,
) -> io::Result<bool> {
    // Nothing is made on a read-only mount. Besides, the kernel tells inode numbers by their low
    // halves only, which two files of a large file system may share.
    if rustix::fs::fstatvfs(fd)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Ok(false);
    }
    if is_bound_inside(file, peers)? {
        return Ok(true);
    }
    match file_system_of(fd)? {
        Some(device) if device != file.device => {
            is_bound_inside(SocketFile { device, ..file }, peers)
        }
        _ => Ok(false),
    }
}

/// The device of the file system that `fd` lies on, as the kernel lists mounts: for btrfs
/// another one than stat(2) gives, which names the subvolume (`proc_pid_mountinfo(5)`).
fn file_system_of(fd: &OwnedFd) -> io::Result<Option<u32>> {
    use rustix::fs::{AtFlags, StatxFlags};
    let id = rustix::fs::statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)?.stx_mnt_id;
    let mounts = std::fs::read("/proc/self/mountinfo")?;
    Ok(String::from_utf8_lossy(&mounts).lines().find_map(|line| {
        let mut fields = line.split(' ');
        let is_it = fields.next()?.parse() == Ok(id);
        let (major, minor) = fields.nth(1)?.split_once(':')?;
        let device = major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?;
        is_it.then_some(device)
    }))
}

/// Whether a socket of this network namespace is bound to `file`.
///
/// # Errors
///
/// `ENOENT` or `EPROTONOSUPPORT` on a kernel without `CONFIG_UNIX_DIAG`: the caller refuses.
fn is_bound_inside(file: SocketFile, peers: Option<&Peers>) -> io::Result<bool> {
    let socket = ask(&request(NLM_F_REQUEST_DUMP, 0, SHOW_VFS))?;
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let (read, _size) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        match search(buffer.get(..read).unwrap_or_default(), (file, peers))? {
            Found::Yes => return Ok(true),
            Found::End => return Ok(false),
            Found::NotYet => {}
        }
    }
}

/// The inode of the socket at the other end of the one with `inode`; `None` where nobody has it any
/// more.
///
/// # Errors
///
/// As [`is_bound_inside`], and `ENOENT` where there is no such socket.
pub(super) fn peer_of(inode: u64) -> io::Result<Option<u64>> {
    // The kernel takes and tells the low half, and counts sockets by that.
    let low = u32::try_from(inode & 0xffff_ffff).map_err(io::Error::other)?;
    let socket = ask(&request(NLM_F_REQUEST, low, SHOW_PEER))?;
    let mut buffer = vec![0; 4096];
    let (read, _size) = rustix::net::recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    let message = buffer.get(..read).unwrap_or_default();
    if half(message, 4) == NLMSG_ERROR {
        return Err(io::Error::from_raw_os_error(-word(message, HEADER_BYTES).cast_signed()));
    }
    let attributes = message.get(HEADER_BYTES + MESSAGE_BYTES..).unwrap_or_default();
    let peer = attribute(attributes, UNIX_DIAG_PEER).map(|body| u64::from(word(body, 0)));
    Ok(peer.filter(|peer| *peer != 0))
}

fn ask(request: &[u8]) -> io::Result<OwnedFd> {
    let protocol = rustix::net::Protocol::from_raw(
        rustix::net::RawProtocol::new(SOCK_DIAG).expect("invariant: not zero"),
    );
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(protocol),
    )?;
    rustix::net::sendto(&socket, request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    Ok(socket)
}

fn request(flags: u16, inode: u32, show: u32) -> Vec<u8> {
    /// `struct nlmsghdr` and `struct unix_diag_req`, both without padding.
    const LENGTH: u32 = 16 + 24;
    let mut request = Vec::new();
    request.extend(LENGTH.to_ne_bytes());
    request.extend(BY_FAMILY.to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    request.extend([0; 8]); // sequence and port
    request.extend([1, 0, 0, 0]); // AF_UNIX, protocol, padding
    request.extend(u32::MAX.to_ne_bytes()); // every state
    request.extend(inode.to_ne_bytes());
    request.extend(show.to_ne_bytes());
    request.extend([0xff; 8]); // no cookie
    request
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    Yes,
    NotYet,
    End,
}

/// Looks for `file` in one datagram of the kernel's answer.
fn search(mut datagram: &[u8], (file, peers): (SocketFile, Option<&Peers>)) -> io::Result<Found> {
    while let Some(header) = datagram.get(..HEADER_BYTES) {
        let length = usize::try_from(word(header, 0)).map_err(io::Error::other)?;
        let Some(message) = datagram.get(..length.max(HEADER_BYTES)) else { break };
        match half(header, 4) {
            NLMSG_DONE => return Ok(Found::End),
            NLMSG_ERROR => {
                let errno = word(message, HEADER_BYTES).cast_signed();
                return Err(io::Error::from_raw_os_error(-errno));
            }
            _ => {
                let attributes = message.get(HEADER_BYTES + MESSAGE_BYTES..).unwrap_or_default();
                // `udiag_ino`: in the host's network only those count that were seen to be bound.
                let is_ours = || {
                    peers.is_none_or(|peers| peers.knows(word(message, HEADER_BYTES + 4).into()))
                };
                if vfs_attribute(attributes) == Some(file) && is_ours() {
                    return Ok(Found::Yes);
                }
            }
        }
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
    }
    Ok(Found::NotYet)
}

fn vfs_attribute(attributes: &[u8]) -> Option<SocketFile> {
    let body = attribute(attributes, UNIX_DIAG_VFS)?.get(..8)?;
    Some(SocketFile { inode: word(body, 0), device: word(body, 4) })
}

/// What the attribute of this kind says.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some(header) = attributes.get(..4) {
        let (length, kind) = (usize::from(half(header, 0)), half(header, 2));
        if length < 4 {
            return None;
        }
        if kind == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(aligned(length)..).unwrap_or_default();
    }
    None
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u32::from_ne_bytes(*chunk))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |chunk| u16::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn reference(path: &std::path::Path) -> OwnedFd {
        let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).unwrap()
    }

    #[test]
    fn a_bound_socket_is_found_and_a_stale_file_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (live, stale) = (folder.path().join("live"), folder.path().join("stale"));
        let _listener = UnixListener::bind(&live).unwrap();
        drop(UnixListener::bind(&stale).unwrap());
        let file = |path: &std::path::Path| SocketFile::of(&reference(path)).unwrap();
        assert!(is_bound_inside(file(&live).expect("a socket"), None).unwrap());
        assert!(!is_bound_inside(file(&stale).expect("a socket's file"), None).unwrap());
        assert_eq!(file(folder.path()), None);
    }

    #[test]
    fn both_ends_of_a_connection_find_each_other() {
        let inode = |fd: &std::os::unix::net::UnixStream| rustix::fs::fstat(fd).unwrap().st_ino;
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(peer_of(inode(&one)).unwrap(), Some(inode(&other)));
        assert_eq!(peer_of(inode(&other)).unwrap(), Some(inode(&one)));
        drop(other);
        assert_eq!(peer_of(inode(&one)).unwrap(), None);
        assert!(peer_of(1).is_err(), "no socket has the number");
    }

    #[test]
    fn a_cut_answer_finds_nothing_and_does_not_panic() {
        let file = SocketFile { inode: 1, device: 2 };
        for length in 0..40 {
            let mut datagram = request(NLM_F_REQUEST_DUMP, 0, SHOW_VFS);
            datagram.truncate(length);
            search(&datagram, (file, None)).ok();
        }
        assert_eq!(search(&[0xff; 64], (file, None)).unwrap(), Found::NotYet);
    }
}
