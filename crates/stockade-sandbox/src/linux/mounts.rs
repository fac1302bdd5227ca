//! Building the mount view that a [`Plan`] describes.
//!
//! The view is the host's own tree, made read-only in place; nothing is created in it, so a
//! run that is killed at any moment leaves nothing behind. What has to stand somewhere (an
//! empty folder, a device) lives on one private tmpfs.
//!
//! Order matters: what must stay writable is cloned *before* the tree becomes read-only, and
//! every path is opened without following a single symbolic link, so that nothing that was
//! planted or swapped meanwhile can lead a mount elsewhere.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use stockade_policy::AbsPath;

use super::covers;
use super::devices;
use super::failure::{Failure, step};
use super::layers::{self, Caches};
use super::masks::Masks;
use super::names;
use super::plan::{Content, Placement, Plan, RUNTIME};
use super::ssh::{self, Agent};
use super::ssh_config::Configuration;
use super::stubs;
use super::supervisor::Beneath;
use super::sys::mount_unsafe::{Attributes, mount_setattr};
use super::trust::Trust;

/// Where the private tmpfs stands while the view is built. `/proc` exists on every system
/// and gets a mount of its own at the end.
const SCAFFOLD: &str = "/proc";

/// The name of the list of refusals, in [`RUNTIME`].
pub(crate) const DENIALS: &str = "stockade-denials.jsonl";

pub(super) const READ_ONLY: u64 = MountAttrFlags::MOUNT_ATTR_RDONLY.bits() as u64;
const NO_DEVICES: u64 = MountAttrFlags::MOUNT_ATTR_NODEV.bits() as u64;
const NO_SETUID: u64 = MountAttrFlags::MOUNT_ATTR_NOSUID.bits() as u64;

/// Files of `/proc` that let even an unprivileged uid 0 change or read the machine.
const PROC_READ_ONLY: [&str; 2] = ["sys", "sysrq-trigger"];
const PROC_READ_ONLY_ROOT: [&str; 5] = ["irq", "bus", "fs", "acpi", "scsi"];
const PROC_HIDDEN_ROOT: [&str; 8] =
    ["kcore", "keys", "key-users", "kmsg", "timer_list", "kpagecount", "kpageflags", "kpagecgroup"];

/// What becomes of a view beside what it shows.
#[derive(Debug)]
pub(crate) struct Built {
    /// What the user should know of it.
    pub(crate) note: Option<&'static str>,
    /// Where refusals are written; nobody inside can.
    pub(crate) denials: Option<File>,
    /// Where programs ask for their ssh agent, and where ssh reads the keys of hosts, to be added to.
    pub(crate) agent: Option<(Agent, File)>,
    /// The empty file that stands over every hidden one.
    pub(crate) mask: OwnedFd,
}

/// Builds the whole view. The caller is PID 1 of new mount and PID namespaces.
///
pub(crate) fn build(plan: &Plan) -> Result<Built, Failure> {
    layers::lay(&plan.layers)?;
    let (caches, note) = plan.caches.as_ref().map(layers::caches).unwrap_or_default();
    let kept = capture(plan, caches.as_ref())?;
    let has_hosts = plan.way_out.as_ref().is_some_and(|way| way.has_hosts);
    let contents = has_hosts.then(names::contents);
    let trust = Trust::of(plan.way_out.as_ref().map_or("", |way| &way.authorities))?;
    let configured = ssh::logs_in(plan).then(|| Configuration::of(Path::new(RUNTIME)));
    let devices = devices::capture()?;
    let tree = open("/")?;
    let attributes = Attributes {
        set: READ_ONLY | NO_DEVICES | NO_SETUID,
        clear: 0,
        private: true,
        recursive: true,
    };
    mount_setattr(tree.as_fd(), attributes).map_err(step("make read-only", "/"))?;

    let scratch = Scratch::mount(plan)?;
    let (mut denials, mut agent) = (None, None);
    let mut synthetic: Vec<(AbsPath, String)> = Vec::new();
    let mut places = plan.placements.iter().zip(kept).enumerate();
    // What is inside a private or hidden folder needs a mount point there, made while the
    // scratch is still ours to write; so these are laid out first and mounted in order.
    let mut work = Vec::new();
    for (index, (placement, tree)) in places.by_ref() {
        if let Some(tree) = &tree
            && let Some((root, name)) =
                synthetic.iter().rev().find(|(path, _)| placement.path.is_within(path))
        {
            scratch.make_mount_point(name, root.as_path(), placement.path.as_path(), tree)?;
        }
        let mut inside = plan
            .placements
            .iter()
            .skip(index + 1)
            .take_while(|inner| inner.path.is_within(&placement.path));
        let nested = inside.any(|inner| {
            matches!(inner.content, Content::Readable | Content::Cached | Content::Writable)
        });
        let source = scratch.source_for(placement, index, nested)?;
        if let Source::Own(name) = &source {
            if placement.path.as_path() == Path::new(RUNTIME)
                && placement.content == Content::PrivateEmpty
            {
                denials = plan.guard.as_ref().map(|_| scratch.make_list(name)).transpose()?;
                agent = Agent::make(plan, &Path::new(SCAFFOLD).join(name))?;
            }
            synthetic.push((placement.path.clone(), name.clone()));
        }
        work.push((placement, tree, source));
    }
    let mut masks = Masks::new(&scratch.empty_folder, &scratch.empty_file);
    for (placement, tree, source) in work {
        place(placement, tree, &source, &scratch, &mut masks)?;
    }
    masks.finish()?;
    if let Some(execs) = &plan.execs {
        stubs::stand(&scratch.root, execs.stubs())?;
    }
    devices::view(&scratch.root, &devices)?;
    if let Some(contents) = contents {
        names_view(&scratch, &contents)?;
    }
    if let Some(trust) = trust {
        trust.stand(&scratch.root)?;
    }
    if let Some(configured) = configured {
        configured.stand(&scratch.root)?;
    }
    // The scratch is left where it stands, below the `/proc` that comes now: to unmount it
    // would wait for a grace period of the kernel's, about a tenth of a start.
    proc_view()?;
    Ok(Built { note, denials, agent, mask: scratch.empty_file })
}

/// The writable roots that hold something protected, as the host has them: a way to what a
/// read-only mount will cover, for what the supervisor writes itself. To be taken before
/// [`build`].
pub(crate) fn beneath(plan: &Plan) -> Result<Beneath, Failure> {
    let mut beneath = Beneath::new();
    for Placement { path, content } in &plan.placements {
        let is_protected =
            |inner: &&Placement| inner.content == Content::Protected && inner.path.is_within(path);
        if *content == Content::Writable && plan.placements.iter().any(|inner| is_protected(&inner))
        {
            let tree = clone_tree(&open(path)?, path.as_path())?;
            set(&tree, NO_DEVICES | NO_SETUID, true, path.as_path())?;
            beneath.push((path.as_path().to_owned(), tree));
        }
    }
    Ok(beneath)
}

/// Opens `path` without following any symbolic link, as a reference only.
pub(crate) fn open(path: impl AsRef<Path>) -> Result<OwnedFd, Failure> {
    let path = path.as_ref();
    open_quietly(path).map_err(step("open", path))
}

pub(super) fn open_quietly(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve) {
        // Filters refuse it that have to know flags, ours among them.
        Err(rustix::io::Errno::NOSYS) => open_by_hand(path, flags),
        opened => Ok(opened?),
    }
}

/// The same by one call for each component.
fn open_by_hand(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let mut at = rustix::fs::open("/", flags | OFlags::DIRECTORY, Mode::empty())?;
    let mut names = path.components().peekable();
    while let Some(name) = names.next() {
        let std::path::Component::Normal(name) = name else { continue };
        let kind = if names.peek().is_some() { OFlags::DIRECTORY } else { OFlags::empty() };
        at = rustix::fs::openat(&at, name, flags | kind, Mode::empty())?;
    }
    Ok(at)
}

/// The path without links, if there is something; one call where there is no link.
pub(crate) fn canonical(path: &Path) -> Option<PathBuf> {
    match open_quietly(path) {
        Ok(_) => Some(path.to_owned()),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => std::fs::canonicalize(path).ok(),
        Err(_) => None,
    }
}

/// A detached copy of the mount at `fd`, with everything mounted below it.
pub(super) fn clone_tree(fd: &OwnedFd, path: &Path) -> Result<OwnedFd, Failure> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    flags |= OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(fd, "", flags).map_err(step("clone", path))
}

/// Attaches a detached mount on top of what stands at `path` in the view.
pub(super) fn attach(tree: &OwnedFd, path: &Path) -> Result<(), Failure> {
    let target = open(path)?;
    attach_on(tree, &target).map_err(step("mount over", path))
}

pub(super) fn attach_on(tree: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(tree, "", target, "", flags)?)
}

/// Makes a tree of ours one that nobody writes to.
pub(super) fn close(tree: &OwnedFd, path: &Path) -> Result<(), Failure> {
    set(tree, READ_ONLY, false, path)
}

pub(super) fn set(
    tree: &OwnedFd,
    attributes: u64,
    recursive: bool,
    path: &Path,
) -> Result<(), Failure> {
    // Private: what the host mounts later must not appear in a clone, without these flags.
    let attributes = Attributes { set: attributes, clear: 0, private: true, recursive };
    mount_setattr(tree.as_fd(), attributes).map_err(step("make read-only", path))
}

/// Clones what the plan keeps from the host. `None` for what is made anew, and for what of
/// Stockade's own wishes this system does not have.
fn capture(plan: &Plan, caches: Option<&Caches>) -> Result<Vec<Option<OwnedFd>>, Failure> {
    let mut kept = Vec::with_capacity(plan.placements.len());
    for Placement { path, content } in &plan.placements {
        let path = path.as_path();
        let tree = match content {
            Content::Writable => Some(clone_tree(&open(path)?, path)?),
            Content::Cached => match caches {
                Some(caches) => caches.tree(path)?,
                None => None,
            },
            Content::Readable => match open_quietly(path) {
                Ok(fd) => {
                    let tree = clone_tree(&fd, path)?;
                    set(&tree, READ_ONLY, true, path)?;
                    Some(tree)
                }
                Err(error) if is_absent(&error) => None,
                Err(error) => return Err(step("open", path)(error)),
            },
            Content::PrivateWritable
            | Content::PrivateEmpty
            | Content::Pinned
            | Content::Protected
            | Content::Hidden => None,
        };
        if let Some(tree) = &tree {
            set(tree, NO_DEVICES | NO_SETUID, true, path)?;
        }
        kept.push(tree);
    }
    Ok(kept)
}

/// `ELOOP` is what a path through a symbolic link gives: on such a system the name is another
/// name for a place that is looked after under its own.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ELOOP | libc::ENOTDIR))
}

/// Where the mount for a placement comes from.
#[derive(Debug)]
enum Source {
    /// The host's tree that was cloned before, or the view itself.
    Host,
    /// The folder of this name on the scratch, made for this placement.
    Own(String),
    /// An empty file or folder that all such placements share.
    Mask,
    /// Nothing stands at that path here.
    Absent,
}

/// The private tmpfs while it is being furnished.
#[derive(Debug)]
struct Scratch {
    root: OwnedFd,
    empty_folder: OwnedFd,
    empty_file: OwnedFd,
}

impl Scratch {
    fn mount(plan: &Plan) -> Result<Self, Failure> {
        let root = new_tmpfs(plan).map_err(step("make a private tmpfs at", SCAFFOLD))?;
        attach(&root, Path::new(SCAFFOLD))?;
        let furnish = || -> io::Result<()> {
            rustix::fs::mkdirat(&root, "masks", Mode::from_raw_mode(0o755))?;
            rustix::fs::mkdirat(&root, "masks/folder", Mode::from_raw_mode(0o555))?;
            make_file(&root, "masks/file", 0o444)?;
            rustix::fs::mkdirat(&root, "dev", Mode::from_raw_mode(0o755))?;
            rustix::fs::mkdirat(&root, "dev/shm", Mode::from_raw_mode(0o1777))?;
            rustix::fs::chmodat(&root, "dev/shm", Mode::from_raw_mode(0o1777), AtFlags::empty())?;
            Ok(())
        };
        furnish().map_err(step("furnish the private tmpfs at", SCAFFOLD))?;
        // A mount with the read-only flag to clone the masks from: clones inherit the flag.
        let masks = subtree(&root, "masks")?;
        set(&masks, READ_ONLY, false, Path::new("masks"))?;
        let over = open_beneath(&root, "masks")?;
        attach_on(&masks, &over).map_err(step("mount over", "masks"))?;
        let empty_folder = open_beneath(&masks, "folder")?;
        let empty_file = open_beneath(&masks, "file")?;
        Ok(Self { root, empty_folder, empty_file })
    }

    /// Decides where the mount for `placement` comes from and makes the folder if it needs
    /// one of its own. `nested` says that something of the host has to stand inside it.
    fn source_for(
        &self,
        placement: &Placement,
        index: usize,
        nested: bool,
    ) -> Result<Source, Failure> {
        let mode = match placement.content {
            Content::PrivateWritable => 0o1777,
            Content::PrivateEmpty => 0o755,
            Content::Hidden if nested => 0o555,
            Content::Hidden => return Ok(Source::Mask),
            Content::Writable
            | Content::Cached
            | Content::Readable
            | Content::Pinned
            | Content::Protected => return Ok(Source::Host),
        };
        match open_quietly(placement.path.as_path()) {
            Ok(_) => {}
            Err(error) if is_absent(&error) => return Ok(Source::Absent),
            Err(error) => return Err(step("open", &placement.path)(error)),
        }
        let name = format!("own-{index}");
        let make = || -> io::Result<()> {
            // Made open while it is furnished; mkdir's mode is subject to the umask.
            rustix::fs::mkdirat(&self.root, &name, Mode::from_raw_mode(0o755))?;
            let mode = Mode::from_raw_mode(if mode == 0o555 { 0o755 } else { mode });
            Ok(rustix::fs::chmodat(&self.root, &name, mode, AtFlags::empty())?)
        };
        make().map_err(step("make a private folder for", &placement.path))?;
        Ok(Source::Own(name))
    }

    /// Makes the list of refusals in the folder `name`, which is shown read-only.
    fn make_list(&self, name: &str) -> Result<File, Failure> {
        let make = || -> io::Result<File> {
            let path = Path::new(name).join(DENIALS);
            let flags =
                OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
            let mode = Mode::from_raw_mode(0o444);
            let file = rustix::fs::openat(&self.root, path, flags, mode)?;
            // Made under the user's umask.
            rustix::fs::fchmod(&file, mode)?;
            Ok(file.into())
        };
        make().map_err(step("make", Path::new(RUNTIME).join(DENIALS)))
    }

    /// Makes the path at which the host's `tree` will be mounted inside a folder of ours.
    fn make_mount_point(
        &self,
        name: &str,
        root: &Path,
        path: &Path,
        tree: &OwnedFd,
    ) -> Result<(), Failure> {
        let failed = || step("make a mount point for", path);
        let inner = path.strip_prefix(root).unwrap_or(path);
        let is_folder = file_type(tree).map_err(failed())? == FileType::Directory;
        let mut current = PathBuf::from(name);
        let mut components = inner.components().peekable();
        while let Some(Component::Normal(component)) = components.next() {
            current.push(component);
            let last = components.peek().is_none();
            let made = if last && !is_folder {
                make_file(&self.root, &current, 0o444)
            } else {
                rustix::fs::mkdirat(&self.root, &current, Mode::from_raw_mode(0o755))
                    .map_err(io::Error::from)
            };
            match made {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(failed()(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

fn new_tmpfs(plan: &Plan) -> io::Result<OwnedFd> {
    let fs = rustix::mount::fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let options = [
        ("size", plan.tmp_bytes.to_string()),
        ("nr_inodes", plan.tmp_inodes.to_string()),
        ("mode", "0755".to_owned()),
    ];
    for (key, value) in &options {
        rustix::mount::fsconfig_set_string(&fs, *key, value.as_str())?;
    }
    rustix::mount::fsconfig_create(&fs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NODEV | MountAttrFlags::MOUNT_ATTR_NOSUID;
    Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Puts our own files over those by which programs find names. One that is a link (to `/run`, often)
/// is covered itself: a mount on a link is met before the link is followed.
fn names_view(scratch: &Scratch, contents: &[String; 3]) -> Result<(), Failure> {
    for (name, content) in names::FILES.iter().zip(contents) {
        let path = Path::new("/etc").join(name);
        let target = match open_quietly(&path) {
            Ok(target) => target,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(step("open", path)(error)),
        };
        covers::make(&scratch.root, name, (0o444, content.as_bytes()))
            .map_err(step("make a file for", &path))?;
        covers::lay(&scratch.root, name, (&target, &path))?;
    }
    Ok(())
}

pub(super) fn make_file(root: &OwnedFd, path: impl AsRef<Path>, mode: u32) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::openat(root, path.as_ref(), flags, Mode::from_raw_mode(mode))?;
    Ok(())
}

fn open_beneath(root: &OwnedFd, path: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    rustix::fs::openat(root, path, flags, Mode::empty()).map_err(step("open", path))
}

pub(super) fn subtree(root: &OwnedFd, path: &str) -> Result<OwnedFd, Failure> {
    clone_tree(&open_beneath(root, path)?, Path::new(path))
}

fn file_type(fd: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(fd)?.st_mode))
}

fn place<'a>(
    placement: &'a Placement,
    tree: Option<OwnedFd>,
    source: &Source,
    scratch: &Scratch,
    masks: &mut Masks<'a>,
) -> Result<(), Failure> {
    let path = placement.path.as_path();
    match (source, tree) {
        (Source::Absent, _) => Ok(()),
        (Source::Host, Some(tree)) => attach(&tree, path),
        // Not there, or without a layer: what the view makes it.
        (Source::Host, None)
            if matches!(placement.content, Content::Readable | Content::Cached) =>
        {
            Ok(())
        }
        (Source::Host, None) => {
            let target = open(path)?;
            let tree = clone_tree(&target, path)?;
            if placement.content == Content::Protected {
                set(&tree, READ_ONLY, true, path)?;
            }
            attach_on(&tree, &target).map_err(step("mount over", path))
        }
        (Source::Own(name), _) => {
            let tree = subtree(&scratch.root, name)?;
            if placement.content != Content::PrivateWritable {
                set(&tree, READ_ONLY, false, path)?;
            }
            attach(&tree, path)
        }
        (Source::Mask, _) => masks.hide(path),
    }
}

/// A `/proc` of this PID namespace, with what changes the machine made read-only.
fn proc_view() -> Result<(), Failure> {
    let make = || -> io::Result<OwnedFd> {
        let fs = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        rustix::mount::fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    };
    let proc = make().map_err(step("mount", "/proc"))?;
    attach(&proc, Path::new("/proc"))?;
    Ok(())
}

/// Makes the parts of `/proc` and `/sys` that concern the machine read-only or empty.
///
/// Apart from [`build`], because some of them are written while the view is put up.
pub(crate) fn close_proc() -> Result<(), Failure> {
    PROC_READ_ONLY.iter().try_for_each(|name| restrict_proc(name, None))?;
    // Only uid 0 could open or change these at all.
    if rustix::process::geteuid().is_root() {
        let null = open("/dev/null")?;
        PROC_READ_ONLY_ROOT.iter().try_for_each(|name| restrict_proc(name, None))?;
        PROC_HIDDEN_ROOT.iter().try_for_each(|name| restrict_proc(name, Some(&null)))?;
    }
    Ok(())
}

/// Makes `/proc/NAME` read-only, or covers it with `cover`. A name that this kernel does not
/// have is no error.
fn restrict_proc(name: &str, cover: Option<&OwnedFd>) -> Result<(), Failure> {
    let path = Path::new("/proc").join(name);
    let target = match open_quietly(&path) {
        Ok(target) => target,
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => return Err(step("open", &path)(error)),
    };
    let tree = clone_tree(cover.unwrap_or(&target), &path)?;
    if cover.is_none() {
        set(&tree, READ_ONLY, false, &path)?;
    }
    attach_on(&tree, &target).map_err(step("mount over", &path))
}
