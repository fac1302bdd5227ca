//! Giving, taking and changing names.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags};
use stockade_policy::guard::{Act, Judgement};

use super::open::How;
use super::wish::{Given, Wish};
use super::{Done, Files, Stop, Turn, error};
use crate::linux::supervisor::place::{self, Found, Place};
use crate::linux::sys::socket_unsafe;

impl Files {
    pub(super) fn fulfil(&self, turn: &Turn<'_>, wish: &Wish) -> Result<Done, Stop> {
        match wish {
            Wish::Open { at, flags, mode } => self.open(turn, at, How::new(*flags, *mode)),
            Wish::MakeFolder { at, mode } => {
                let place = self.place_for(turn, at, &Act::MakeFolder)?;
                let mode = Mode::from_raw_mode(*mode & 0o7777);
                rustix::fs::mkdirat(&place.folder, place.name.as_slice(), mode)?;
                Ok(Done::NOTHING)
            }
            Wish::MakeNode { at, mode, device } => self.make_node(turn, at, *mode, *device),
            Wish::Symlink { target, at } => {
                let place = self.place_for(turn, at, &Act::MakeOther)?;
                rustix::fs::symlinkat(target.as_slice(), &place.folder, place.name.as_slice())?;
                Ok(Done::NOTHING)
            }
            Wish::Link { from, to, flags } => self.link(turn, from, to, *flags),
            Wish::Rename { from, to, flags } => self.rename(turn, from, to, *flags),
            Wish::Remove { at, flags } => {
                let place = self.place_for(turn, at, &Act::Remove)?;
                let flags = AtFlags::from_bits_retain(flags.cast_unsigned());
                rustix::fs::unlinkat(&place.folder, place.name.as_slice(), flags)?;
                Ok(Done::NOTHING)
            }
            Wish::Truncate { at, length } => self.truncate(turn, at, *length),
            Wish::Mode { at, mode, flags } => self.mode(turn, at, *mode, *flags),
            Wish::ModeOf { descriptor, mode } => {
                let file = turn.caller.descriptor(*descriptor)?;
                let name = place::name_of(&file)?;
                if name.is_absolute() {
                    self.permit(turn, &name, &Act::Execute)?;
                }
                rustix::fs::fchmod(&file, Mode::from_raw_mode(*mode & 0o7777))?;
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

    fn make_node(&self, turn: &Turn<'_>, at: &Given, mode: u32, device: u64) -> Result<Done, Stop> {
        let place = self.place_for(turn, at, &Act::MakeOther)?;
        let kind = if mode & libc::S_IFMT == 0 {
            FileType::RegularFile
        } else {
            FileType::from_raw_mode(mode)
        };
        let permissions = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::mknodat(&place.folder, place.name.as_slice(), kind, permissions, device)?;
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
            object(turn, from, flags & libc::AT_SYMLINK_FOLLOW != 0)?
        };
        let name = place::name_of(&object)?;
        if name.is_absolute() {
            self.permit(turn, &name, &Act::Alias)?;
        }
        let own = format!("/proc/self/fd/{}", object.as_raw_fd());
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(CWD, own, &target.folder, target.name.as_slice(), follow)?;
        Ok(Done::NOTHING)
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
                self.configs.install(turn, &self.disk, &source, &target)?;
                return Ok(Done::NOTHING);
            }
            Judgement::Ordinary => {}
            Judgement::Denied(_)
            | Judgement::Config(_)
            | Judgement::GitFile
            | Judgement::Commondir
            | Judgement::Completes(_) => self.permit(turn, &target.path, &arrives)?,
        }
        rustix::fs::renameat_with(
            &source.folder,
            source.name.as_slice(),
            &target.folder,
            target.name.as_slice(),
            flags,
        )?;
        Ok(Done::NOTHING)
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
            object(turn, at, flags & libc::AT_SYMLINK_NOFOLLOW == 0)?
        };
        let name = place::name_of(&object)?;
        if name.is_absolute() {
            self.permit(turn, &name, &Act::Execute)?;
        }
        if FileType::from_raw_mode(rustix::fs::fstat(&object)?.st_mode) == FileType::Symlink {
            return error(libc::EOPNOTSUPP);
        }
        let own = format!("/proc/self/fd/{}", object.as_raw_fd());
        rustix::fs::chmod(own, Mode::from_raw_mode(mode & 0o7777))?;
        Ok(Done::NOTHING)
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
            let at = Given { folder: libc::AT_FDCWD, path: path.as_os_str().as_bytes().to_vec() };
            let place = self.place_for(turn, &at, &Act::MakeOther)?;
            if place.path.starts_with("/proc") {
                return error(libc::EACCES);
            }
            rustix::process::fchdir(turn.caller.current_folder()?)?;
            let bound = socket_unsafe::bind(socket.as_fd(), address);
            rustix::process::chdir("/").ok();
            bound?;
            return Ok(Done::NOTHING);
        }
        socket_unsafe::bind(socket.as_fd(), address)?;
        Ok(Done::NOTHING)
    }
}

/// A reference to what a path leads to.
fn object(turn: &Turn<'_>, at: &Given, follow: bool) -> Result<OwnedFd, Stop> {
    let mut place = Place::of(turn.caller, at.folder, &at.path)?;
    let mut links = 0;
    loop {
        let object = place.reference()?;
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&object)?.st_mode);
        if !follow || kind != FileType::Symlink {
            return Ok(object);
        }
        place = match place.follow(turn.caller, &mut links)? {
            Found::Place(place) => place,
            Found::Object(object, _) => return Ok(object),
        };
    }
}

fn arrival(source: &Place) -> Act<'_> {
    let is_folder = source.kind() == Some(FileType::Directory);
    Act::MoveHere { source: Some(&source.path), is_folder }
}
