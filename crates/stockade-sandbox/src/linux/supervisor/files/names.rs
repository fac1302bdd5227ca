//! Giving, taking and changing names.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, StatVfsMountFlags};
use rustix::io::Errno;
use stockade_policy::guard::{Act, Judgement};

use super::across;
use super::anew;
use super::open::How;
use super::wish::{Given, Wish};
use super::{Done, Files, Stop, Turn, error};
use crate::linux::seccomp::EXECUTE;
use crate::linux::supervisor::caller::Caller;
use crate::linux::supervisor::place::{self, Found, Place};
use crate::linux::sys::socket_unsafe;

/// Where a mount is read-only the kernel says so before it looks whether anything has the name, and
/// who clears away what may be there knows only the other answer.
fn unless_missing(error: Errno, place: &Place) -> Errno {
    let look =
        || rustix::fs::statat(&place.folder, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
    if error == Errno::ROFS && look().err() == Some(Errno::NOENT) { Errno::NOENT } else { error }
}

impl Files {
    pub(super) fn fulfil(&self, turn: &Turn<'_>, wish: &Wish) -> Result<Done, Stop> {
        match wish {
            Wish::Open { at, flags, mode } => self.open(turn, at, How::new(*flags, *mode)),
            Wish::MakeFolder { at, mode } => {
                let place = Place::of(turn.caller, at.folder, &at.path)?;
                if matches!(self.judge(turn, &place.path, &Act::MakeFolder)?, Judgement::Control(_))
                {
                    return self.make_folder_of_the_past(turn, place, *mode);
                }
                self.permit(turn, &place.path, &Act::MakeFolder)?;
                self.note_made(&place.path)?;
                let mode = Mode::from_raw_mode(*mode & 0o7777);
                let name = place.name.as_slice();
                self.bear(&place, || rustix::fs::mkdirat(&place.folder, name, mode))?;
                Ok(Done::NOTHING)
            }
            Wish::MakeNode { at, mode, device } => self.make_node(turn, at, *mode, *device),
            Wish::Symlink { target, at } => {
                let place = self.place_for(turn, at, &Act::MakeOther)?;
                let (target, name) = (target.as_slice(), place.name.as_slice());
                self.bear(&place, || rustix::fs::symlinkat(target, &place.folder, name))?;
                Ok(Done::NOTHING)
            }
            Wish::Link { from, to, flags } => self.link(turn, from, to, *flags),
            Wish::Rename { from, to, flags } => self.rename(turn, from, to, *flags),
            Wish::Remove { at, flags } => {
                self.remove(turn, at, AtFlags::from_bits_retain(flags.cast_unsigned()))
            }
            Wish::Truncate { at, length } => self.truncate(turn, at, *length),
            Wish::Mode { at, mode, flags } => self.mode(turn, at, *mode, *flags),
            Wish::Metadata(wanted) => self.metadata(turn, wanted),
            Wish::ModeOf { descriptor, mode } => {
                let file = turn.caller.object(*descriptor)?;
                let name = place::name_of(&file)?;
                self.hold_metadata(turn, &file, &name)?;
                self.permit_mode(turn, &name, *mode)?;
                self.touches(&file, &name, false);
                change_mode(&file, Mode::from_raw_mode(*mode & 0o7777))?;
                Ok(Done::NOTHING)
            }
            Wish::Bind { socket, address } => self.bind(turn, *socket, address),
        }
    }

    fn place_for(&self, turn: &Turn<'_>, at: &Given, act: &Act<'_>) -> Result<Place, Stop> {
        let place = Place::of(turn.caller, at.folder, &at.path)?;
        self.permit(turn, &place.path, act)?;
        Ok(place)
    }

    fn remove(&self, turn: &Turn<'_>, at: &Given, flags: AtFlags) -> Result<Done, Stop> {
        let place = Place::of(turn.caller, at.folder, &at.path)?;
        let judgement = self.judge(turn, &place.path, &Act::Remove)?;
        if matches!(judgement, Judgement::Control(_)) {
            if flags.is_empty() && anew::is_removed(&place) {
                return Ok(Done::NOTHING);
            }
            return self.remove_of_the_past(turn, place, flags);
        }
        self.permit_judged(turn, &place.path, &Act::Remove, judgement)?;
        let unlinked = || rustix::fs::unlinkat(&place.folder, place.name.as_slice(), flags);
        self.lose(&place, || Ok(unlinked().map_err(|error| unless_missing(error, &place))?))?;
        Ok(Done::NOTHING)
    }

    fn make_node(&self, turn: &Turn<'_>, at: &Given, mode: u32, device: u64) -> Result<Done, Stop> {
        let place = self.place_for(turn, at, &Act::MakeOther)?;
        let kind = if mode & libc::S_IFMT == 0 {
            FileType::RegularFile
        } else {
            FileType::from_raw_mode(mode)
        };
        let permissions = Mode::from_raw_mode(mode & 0o7777);
        let name = place.name.as_slice();
        self.bear(&place, || rustix::fs::mknodat(&place.folder, name, kind, permissions, device))?;
        Ok(Done::NOTHING)
    }

    fn link(&self, turn: &Turn<'_>, from: &Given, to: &Given, flags: i32) -> Result<Done, Stop> {
        if flags & !(libc::AT_SYMLINK_FOLLOW | libc::AT_EMPTY_PATH) != 0 {
            return error(libc::EINVAL);
        }
        let target = self.place_for(turn, to, &Act::MoveHere { source: None, is_folder: false })?;
        let object = if from.path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            turn.caller.behind(from.folder, OFlags::PATH | OFlags::CLOEXEC)?
        } else {
            object(turn.caller, from, flags & libc::AT_SYMLINK_FOLLOW != 0)?
        };
        let name = place::name_of(&object)?;
        if name.is_absolute() {
            self.permit(turn, &name, &Act::Alias)?;
        }
        self.not_installed(&object)?;
        let own = format!("/proc/self/fd/{}", object.as_raw_fd());
        let follow = AtFlags::SYMLINK_FOLLOW;
        let begun = self.keep_for(&target.path).map(|keep| {
            let place = (&target.folder, target.name.as_slice(), target.path.as_path());
            (keep, keep.links((&object, &name), place))
        });
        let to = target.name.as_slice();
        let link = || match rustix::fs::linkat(CWD, own, &target.folder, to, follow) {
            Err(Errno::XDEV) => self.link_uncovered(&object, &name, &target),
            done => done,
        };
        let linked = self.sharing(&object, link);
        if let Some((keep, begun)) = begun {
            keep.ended(&begun, linked.is_ok());
        }
        linked?;
        Ok(Done::NOTHING)
    }

    /// The same where both names are in one root, one of them below a mount that lets write: a
    /// repository's `.git` is one, and `git clone -l` links its objects.
    fn link_uncovered(
        &self,
        object: &OwnedFd,
        name: &Path,
        target: &Place,
    ) -> rustix::io::Result<()> {
        const CROSSED: Errno = Errno::XDEV;
        let number = |file: &OwnedFd| rustix::fs::fstat(file).map(|it| (it.st_dev, it.st_ino));
        // What a mount holds read-only would be writable by its new name.
        for held in [object, &target.folder] {
            if rustix::fs::fstatvfs(held)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
                return Err(CROSSED);
            }
        }
        let source = Place::named(name).and_then(|place| self.configs.uncovered(place));
        let source = source.and_then(|place| place.reference()).or(Err(CROSSED))?;
        let folder = target.folder.try_clone().or(Err(CROSSED))?;
        let place = Place { folder, name: target.name.clone(), path: target.path.clone() };
        let place = self.configs.uncovered(place).or(Err(CROSSED))?;
        // Something else is mounted over what is hidden, and a folder may have been moved.
        let are_same = number(&source)? == number(object)?
            && number(&place.folder)? == number(&target.folder)?;
        if !are_same {
            return Err(CROSSED);
        }
        let own = format!("/proc/self/fd/{}", source.as_raw_fd());
        let to = place.name.as_slice();
        rustix::fs::linkat(CWD, own, &place.folder, to, AtFlags::SYMLINK_FOLLOW)
    }

    fn rename(&self, turn: &Turn<'_>, from: &Given, to: &Given, flags: u32) -> Result<Done, Stop> {
        let flags = RenameFlags::from_bits_retain(flags);
        let source = Place::of(turn.caller, from.folder, &from.path)?;
        let target = Place::of(turn.caller, to.folder, &to.path)?;
        self.permit(turn, &source.path, &Act::MoveAway)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            self.permit(turn, &target.path, &Act::MoveAway)?;
            self.permit(turn, &source.path, &arrival(&target))?;
        }
        let arrives = arrival(&source);
        match self.judge(turn, &target.path, &arrives)? {
            Judgement::Config(_) if flags.is_empty() => {
                self.note_controlled(&target.path)?;
                self.lose(&source, || self.configs.install(turn, &self.disk, &source, &target))?;
                return Ok(Done::NOTHING);
            }
            Judgement::Ordinary => {}
            Judgement::Denied(_)
            | Judgement::Control(_)
            | Judgement::Config(_)
            | Judgement::GitFile
            | Judgement::Commondir
            | Judgement::Completes(_) => self.permit(turn, &target.path, &arrives)?,
        }
        self.renaming((&source.path, &target.path), flags, || self.renamed(&source, &target, flags))
    }

    pub(super) fn renamed(
        &self,
        source: &Place,
        target: &Place,
        flags: RenameFlags,
    ) -> Result<(), Stop> {
        let (from, to) = (source.name.as_slice(), target.name.as_slice());
        // With this flag nothing is lost to it: where something has the name, it fails.
        let is_careful = flags.contains(RenameFlags::NOREPLACE) && target.kind().is_some();
        let begun = self.keep.as_deref().filter(|_| !is_careful).map(|keep| {
            let one = (&source.folder, from, source.path.as_path());
            let other = (&target.folder, to, target.path.as_path());
            (keep, keep.moves(one, other, flags.contains(RenameFlags::EXCHANGE)))
        });
        let renamed =
            match rustix::fs::renameat_with(&source.folder, from, &target.folder, to, flags) {
                Err(Errno::XDEV) => across::rename(source, target, flags),
                renamed => renamed.map_err(|error| unless_missing(error, source)),
            };
        if let Some((keep, begun)) = begun {
            keep.ended(&begun, renamed.is_ok());
        }
        Ok(renamed?)
    }

    fn truncate(&self, turn: &Turn<'_>, at: &Given, length: u64) -> Result<Done, Stop> {
        let how = How::new(OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, 0);
        match self.open(turn, at, how)? {
            Done::File { file, .. } => {
                rustix::fs::ftruncate(&file, length)?;
                Ok(Done::NOTHING)
            }
            // Cutting a configuration to a length is no change that can be judged.
            Done::Staged { .. } => error(libc::EACCES),
            done @ (Done::Answer(_) | Done::Waits(_)) => Ok(done),
        }
    }

    fn mode(&self, turn: &Turn<'_>, at: &Given, mode: u32, flags: i32) -> Result<Done, Stop> {
        let object = if at.path.is_empty() && flags & libc::AT_EMPTY_PATH != 0 {
            turn.caller.behind(at.folder, OFlags::PATH | OFlags::CLOEXEC)?
        } else {
            object(turn.caller, at, flags & libc::AT_SYMLINK_NOFOLLOW == 0)?
        };
        let name = place::name_of(&object)?;
        self.hold_metadata(turn, &object, &name)?;
        self.permit_mode(turn, &name, mode)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&object)?.st_mode) == FileType::Symlink {
            return error(libc::EOPNOTSUPP);
        }
        self.touches(&object, &name, false);
        let own = format!("/proc/self/fd/{}", object.as_raw_fd());
        rustix::fs::chmod(own, Mode::from_raw_mode(mode & 0o7777))?;
        Ok(Done::NOTHING)
    }

    /// A mode that lets nothing be executed wakes up nothing: it is looked at only to be kept.
    fn permit_mode(&self, turn: &Turn<'_>, name: &Path, mode: u32) -> Result<(), Stop> {
        match name.is_absolute() {
            true if mode & EXECUTE != 0 => self.permit(turn, name, &Act::Execute),
            true if place::in_proc(name).is_some() => error(libc::EACCES),
            _ => Ok(()),
        }
    }

    /// A socket's name comes into being like any other. The kernel looks the path up again, so
    /// no other call may run meanwhile.
    fn bind(&self, turn: &Turn<'_>, socket: i32, address: &[u8]) -> Result<Done, Stop> {
        let socket = turn.caller.socket(socket)?;
        let domain = rustix::net::sockopt::socket_domain(&socket)?;
        if let Some(path) = super::super::sockets::unix_path(domain, address) {
            if !turn.alone {
                return Err(Stop::Notable);
            }
            let given = path.as_os_str().as_bytes();
            let at = Given { folder: libc::AT_FDCWD, path: turn.caller.moved(given.to_vec()) };
            let address = if at.path == given { address.to_vec() } else { unix_address(&at.path)? };
            let place = self.place_for(turn, &at, &Act::MakeOther)?;
            if place.path.starts_with("/proc") {
                return error(libc::EACCES);
            }
            rustix::process::fchdir(turn.caller.current_folder()?)?;
            let begun = self
                .keep_for(&place.path)
                .map(|keep| (keep, keep.bears(&place.folder, &place.name, &place.path)));
            let bound = socket_unsafe::bind(socket.as_fd(), &address);
            if let Some((keep, begun)) = begun {
                keep.bore(&begun, &place.folder, &place.name, bound.is_ok());
            }
            rustix::process::chdir("/").ok();
            bound?;
            if let Some(peers) = turn.caller.peers() {
                peers.remember(&socket)?;
            }
            return Ok(Done::NOTHING);
        }
        if let Some(peers) = turn.caller.peers() {
            peers.bind(&socket, domain, address)?;
        } else {
            socket_unsafe::bind(socket.as_fd(), address)?;
        }
        Ok(Done::NOTHING)
    }
}

/// `fchmod`, of a reference as well.
fn change_mode(file: &OwnedFd, mode: Mode) -> rustix::io::Result<()> {
    match rustix::fs::fchmod(file, mode) {
        Err(Errno::BADF) => {
            let own = format!("/proc/self/fd/{}", file.as_raw_fd());
            rustix::fs::chmodat(CWD, own, mode, AtFlags::empty())
        }
        changed => changed,
    }
}

/// A `struct sockaddr_un` of `path`; `ENAMETOOLONG` where it has no room for it (unix(7)).
fn unix_address(path: &[u8]) -> Result<Vec<u8>, Stop> {
    const ROOM: usize = 108;
    if path.len() >= ROOM {
        return error(libc::ENAMETOOLONG);
    }
    let family = libc::sa_family_t::try_from(libc::AF_UNIX).map_err(std::io::Error::other)?;
    Ok([&family.to_ne_bytes()[..], path, &[0]].concat())
}

/// A reference to what a path leads to.
pub(super) fn object(caller: &Caller<'_>, at: &Given, follow: bool) -> Result<OwnedFd, Stop> {
    let mut place = Place::of(caller, at.folder, &at.path)?;
    let mut links = 0;
    loop {
        let object = place.reference()?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&object)?.st_mode);
        if !follow || kind != FileType::Symlink {
            return Ok(object);
        }
        place = match place.follow(caller, &mut links)? {
            Found::Place(place) => place,
            Found::Object(object, _) => return Ok(object),
        };
    }
}

fn arrival(source: &Place) -> Act<'_> {
    let is_folder = source.kind() == Some(FileType::Directory);
    Act::MoveHere { source: Some(&source.path), is_folder }
}
