//! Whether something is possible in a run, and what of its policy decides.
//!
//! The same layout that the walls are made from, read as an answer: a path is followed as a
//! program inside would follow it, through the view that the run will have, where private and
//! hidden folders have nothing of the host's in them. What stands on the disk is seen through
//! [`Disk`] only.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use crate::guard::{Act, Guard, Judgement, Tree};
use crate::{AbsPath, Host, Mode, Network, NetworkReason, Policy, parse_port};

/// What would be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// Read a file, or list a folder.
    Read,
    /// Write a file, make it where it is missing, or make something in a folder.
    Write,
}

/// What decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decider {
    /// `danger-full-access`: there is no boundary.
    NoBoundary,
    /// The mode is `read-only`.
    ReadOnlyMode,
    /// No writable root covers it.
    OutsideRoots,
    /// This writable root covers it.
    Writable(AbsPath),
    /// It lies in this folder of caches, where what is written goes to a layer.
    Cache(AbsPath),
    /// This protected path covers it.
    Protected(AbsPath),
    /// It has a protected name, whether or not it is there.
    Guarded {
        /// The name, as the documentation has it.
        name: String,
        /// Why it is protected.
        why: &'static str,
    },
    /// This hidden path covers it.
    Hidden(AbsPath),
    /// It is opened again inside a hidden path by this one.
    Readable(AbsPath),
    /// This folder is another, empty one in every run.
    Private(&'static str),
    /// What is neither hidden nor private can be read.
    Everything,
    /// A part of `/dev` or `/proc`, which are the run's own.
    OwnKernelView,
    /// The owner and mode of this file or folder.
    Permissions(PathBuf),
    /// There is nothing at this path.
    Missing(PathBuf),
    /// A loop of links.
    Links,
    /// This port of the host's loopback is opened.
    HostPort(u16),
    /// What is said of hosts decides.
    Host {
        /// Why, for a person; fits after the host.
        why: String,
        /// Where the entry stands that decides, if one does.
        place: Option<String>,
    },
    /// Nothing of the network is opened that has to do with it.
    ClosedNetwork,
    /// A socket of a program outside.
    NamedSocket,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Whether it is possible.
    pub is_possible: bool,
    /// By what.
    pub decided_by: Decider,
    /// What it comes to after every link; for a host, as it was given.
    pub target: PathBuf,
}

/// What stands at a path on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Absent,
    /// It cannot be looked at.
    Closed,
    /// A link that leads there.
    Link(PathBuf),
    /// A file or a folder.
    There(Thing),
}

/// A file or folder, and what its owner and mode let the user do without any privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each question that is asked of it")]
pub struct Thing {
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Whether it may be read.
    pub can_read: bool,
    /// Whether it may be written.
    pub can_write: bool,
    /// Whether it may be passed through.
    pub can_enter: bool,
}

/// The host's disk; no link is followed.
pub trait Disk: Tree {
    /// What stands at `path`, whose folder has no link in it.
    fn look(&self, path: &Path) -> Found;
}

/// Folders that every run has for itself, to write in.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];
/// The same, empty and read-only.
const EMPTY: &str = "/run";
/// What a run's `/dev` has.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
const DEVICE_LINKS: [&str; 4] = ["fd", "stdin", "stdout", "stderr"];
/// As many links as the kernel follows (`path_resolution(7)`).
const LINKS_MAX: usize = 40;

/// What the view has at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Region<'a> {
    /// The host's, read-only.
    Host,
    Temporary(&'static str),
    Empty,
    Readable(&'a AbsPath),
    Cached(&'a AbsPath),
    Writable(&'a AbsPath),
    Protected(&'a AbsPath),
    Hidden(&'a AbsPath),
    Devices,
    Processes,
}

impl Region<'_> {
    /// Whether nothing of the host's is in it, except what stands there on purpose.
    fn is_made_anew(self) -> bool {
        match self {
            Self::Temporary(_) | Self::Empty | Self::Hidden(_) | Self::Devices => true,
            Self::Host
            | Self::Readable(_)
            | Self::Cached(_)
            | Self::Writable(_)
            | Self::Protected(_)
            | Self::Processes => false,
        }
    }
}

/// What a walk ends at.
#[derive(Debug)]
enum End {
    Thing(Thing),
    /// Its folder is there; whether something may be made in it.
    Missing {
        can_make: bool,
    },
    /// A folder above it is not there.
    NoFolder(PathBuf),
    Closed(PathBuf),
    Loop,
}

/// Whether `wish` is possible for `path` (absolute) under `policy`.
pub fn explain(policy: &Policy, wish: Wish, path: &Path, disk: &dyn Disk) -> Explanation {
    let (target, end) = walk(policy, path, disk);
    let (is_possible, decided_by) = match (wish, &end) {
        (_, End::Loop) => (false, Decider::Links),
        (_, End::Closed(folder)) => (false, Decider::Permissions(folder.clone())),
        (Wish::Read, end) => read(policy, &target, end),
        (Wish::Write, end) => write(policy, &target, end, disk),
    };
    Explanation { is_possible, decided_by, target }
}

/// Whether a connection to `host` is possible: `HOST`, `HOST:PORT`, or the path of a socket.
pub fn explain_connect(policy: &Policy, host: &str) -> Explanation {
    let target = PathBuf::from(host);
    let port = ["localhost:", "127.0.0.1:", "[::1]:"]
        .iter()
        .find_map(|start| host.strip_prefix(start))
        .and_then(|port| port.parse().ok());
    let (is_possible, decided_by) = match port {
        _ if policy.mode == Mode::DangerFullAccess => (true, Decider::NoBoundary),
        Some(port) if policy.network.host_ports.contains(&port) => (true, Decider::HostPort(port)),
        _ if target.is_absolute() => (false, Decider::NamedSocket),
        _ if policy.network.has_hosts() => by_hosts(&policy.network, host),
        _ => (false, Decider::ClosedNetwork),
    };
    Explanation { is_possible, decided_by, target }
}

/// What is decided about `HOST` or `HOST:PORT`; without a port, about those of the web.
fn by_hosts(network: &Network, text: &str) -> (bool, Decider) {
    let no_host = |why: &str| (false, Decider::Host { why: why.to_owned(), place: None });
    let is_address = text.parse::<std::net::Ipv6Addr>().is_ok();
    let (host, ports) = match text.rsplit_once(':') {
        Some((host, port)) if !is_address && !text.ends_with(']') => match parse_port(port) {
            Ok(port) => (host.to_owned(), vec![port]),
            Err(error) => return no_host(&error.to_string()),
        },
        _ if is_address => (format!("[{text}]"), vec![443, 80]),
        _ => (text.to_owned(), vec![443, 80]),
    };
    let host = match Host::new(&host) {
        Ok(host) => host,
        Err(error) => return no_host(&error.to_string()),
    };
    let decisions = ports.iter().map(|port| (*port, network.decide(&host, *port)));
    let best = decisions.max_by_key(|(port, decision)| (decision.is_allowed(), *port));
    let Some((port, decision)) = best else { return no_host("no port") };
    let place = match (decision.rule, decision.reason) {
        (Some(rule), _) => Some(rule.place.clone()),
        (None, NetworkReason::Open(place)) => Some(place.to_owned()),
        (None, _) => None,
    };
    let mut why = format!("port {port} is {decision}");
    if let Some(limits) = network.limits(&host, port).filter(|_| decision.is_allowed()) {
        why = format!("{why}; it may be asked {limits}");
    }
    if let Some(logins) = network.logins_at(&host, port).filter(|_| decision.is_allowed()) {
        why = format!("{why}; {logins}");
    }
    (decision.is_allowed(), Decider::Host { why, place })
}

fn read(policy: &Policy, target: &Path, end: &End) -> (bool, Decider) {
    let region = region(policy, target);
    let kind = match region {
        // A folder on the way to what is shown has that name in it, and nothing else.
        Region::Hidden(path) => return (is_kept(policy, target), Decider::Hidden(path.clone())),
        Region::Readable(path) => Decider::Readable(path.clone()),
        Region::Temporary(folder) if Path::new(folder) != target && !is_kept(policy, target) => {
            return (false, Decider::Private(folder));
        }
        Region::Temporary(folder) => return (true, Decider::Private(folder)),
        Region::Empty => return (Path::new(EMPTY) == target, Decider::Private(EMPTY)),
        Region::Devices => return (is_device(target, true), Decider::OwnKernelView),
        Region::Processes => Decider::OwnKernelView,
        Region::Host | Region::Cached(_) | Region::Writable(_) | Region::Protected(_)
            if policy.mode == Mode::DangerFullAccess =>
        {
            Decider::NoBoundary
        }
        Region::Host | Region::Cached(_) | Region::Writable(_) | Region::Protected(_) => {
            Decider::Everything
        }
    };
    match end {
        End::Thing(thing) if thing.can_read => (true, kind),
        End::Thing(_) | End::Closed(_) => (false, Decider::Permissions(target.to_owned())),
        End::Missing { .. } => (false, Decider::Missing(target.to_owned())),
        End::NoFolder(folder) => (false, Decider::Missing(folder.clone())),
        End::Loop => (false, Decider::Links),
    }
}

fn write(policy: &Policy, target: &Path, end: &End, disk: &dyn Disk) -> (bool, Decider) {
    let kind = match region(policy, target) {
        Region::Hidden(path) => return (false, Decider::Hidden(path.clone())),
        Region::Protected(path) => return (false, Decider::Protected(path.clone())),
        Region::Empty => return (false, Decider::Private(EMPTY)),
        Region::Devices => return (is_device(target, false), Decider::OwnKernelView),
        Region::Host | Region::Readable(_) if policy.mode == Mode::DangerFullAccess => {
            Decider::NoBoundary
        }
        Region::Host | Region::Readable(_) if policy.mode == Mode::ReadOnly => {
            return (false, Decider::ReadOnlyMode);
        }
        Region::Host | Region::Readable(_) => return (false, Decider::OutsideRoots),
        Region::Processes if target.starts_with("/proc/sys") => {
            return (false, Decider::OwnKernelView);
        }
        Region::Processes => Decider::OwnKernelView,
        Region::Temporary(folder) => Decider::Private(folder),
        Region::Cached(folder) => Decider::Cache(folder.clone()),
        Region::Writable(root) => Decider::Writable(root.clone()),
    };
    let is_folder = matches!(end, End::Thing(thing) if thing.is_folder);
    if let Some(guard) = Guard::of(policy).filter(|_| !is_folder)
        && let Judgement::Denied(denied) | Judgement::Control(denied) =
            guard.judge(disk, target, &Act::Write)
    {
        return (false, Decider::Guarded { name: denied.name, why: denied.why });
    }
    match end {
        End::Thing(thing) if thing.can_write && (!thing.is_folder || thing.can_enter) => {
            (true, kind)
        }
        End::Missing { can_make: true } => (true, kind),
        End::Thing(_) | End::Closed(_) => (false, Decider::Permissions(target.to_owned())),
        End::Missing { can_make: false } => {
            let folder = target.parent().unwrap_or(target);
            (false, Decider::Permissions(folder.to_owned()))
        }
        End::NoFolder(folder) => (false, Decider::Missing(folder.clone())),
        End::Loop => (false, Decider::Links),
    }
}

fn is_device(target: &Path, reads: bool) -> bool {
    let Ok(name) = target.strip_prefix("/dev") else { return false };
    let is = |names: &[&str]| names.iter().any(|known| name == Path::new(known));
    // `tty` is there only where the run has a terminal.
    (is(&DEVICES) && name != Path::new("tty")) || (reads && name == Path::new(""))
}

/// Follows `path` through the view.
fn walk(policy: &Policy, path: &Path, disk: &dyn Disk) -> (PathBuf, End) {
    let reversed = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut place = PathBuf::from("/");
    let mut above = Thing { is_folder: true, can_read: true, can_write: false, can_enter: true };
    let mut rest = reversed(path);
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match Path::new(&part).components().next() {
            Some(Component::RootDir) => {
                place = PathBuf::from("/");
                continue;
            }
            Some(Component::ParentDir) => {
                place.pop();
                continue;
            }
            Some(Component::Normal(_)) => {}
            Some(Component::CurDir | Component::Prefix(_)) | None => continue,
        }
        if !above.is_folder {
            return (place.join(&part), End::NoFolder(place));
        }
        if !above.can_enter {
            return (place.join(&part), End::Closed(place));
        }
        let next = place.join(&part);
        match seen(policy, &place, &next, disk) {
            Found::Link(_) if links == LINKS_MAX => return (next, End::Loop),
            Found::Link(target) => {
                links += 1;
                rest.extend(reversed(&target));
                // What a relative link starts from is a folder that was passed through.
                if target.is_absolute() {
                    place = PathBuf::from("/");
                }
                above =
                    Thing { is_folder: true, can_read: true, can_write: false, can_enter: true };
                if let Found::There(thing) = disk.look(&place) {
                    above = thing;
                }
            }
            Found::There(thing) => {
                place = next;
                above = thing;
            }
            Found::Closed => return (next, End::Closed(place)),
            Found::Absent if rest.is_empty() => {
                return (next, End::Missing { can_make: above.can_write && above.can_enter });
            }
            Found::Absent => {
                let whole = rest.iter().rev().fold(next.clone(), |path, part| path.join(part));
                return (whole, End::NoFolder(next));
            }
        }
    }
    (place, End::Thing(above))
}

/// What a program inside sees at `path`, whose folder is `parent`.
fn seen(policy: &Policy, parent: &Path, path: &Path, disk: &dyn Disk) -> Found {
    const FOLDER: Thing =
        Thing { is_folder: true, can_read: true, can_write: false, can_enter: true };
    if policy.mode == Mode::DangerFullAccess {
        return disk.look(path);
    }
    match region(policy, path) {
        Region::Temporary(folder) if Path::new(folder) == path => {
            return Found::There(Thing { can_write: true, ..FOLDER });
        }
        Region::Empty if Path::new(EMPTY) == path => return Found::There(FOLDER),
        Region::Devices if Path::new("/dev") == path => return Found::There(FOLDER),
        Region::Devices if is_link_of_devices(path) => return disk.look(path),
        Region::Devices if is_device(path, true) => return disk.look(path),
        Region::Host
        | Region::Temporary(_)
        | Region::Empty
        | Region::Readable(_)
        | Region::Cached(_)
        | Region::Writable(_)
        | Region::Protected(_)
        | Region::Hidden(_)
        | Region::Devices
        | Region::Processes => {}
    }
    if region(policy, parent).is_made_anew() || region(policy, path).is_made_anew() {
        // A folder on the way to what stands in it, or that itself.
        let is_kept_itself = kept(policy).any(|it| it.as_path() == path);
        return match is_kept_itself {
            true => disk.look(path),
            false if is_kept(policy, path) => Found::There(FOLDER),
            // A hidden path is there, and empty.
            false if matches!(region(policy, path), Region::Hidden(it) if it.as_path() == path) => {
                match disk.look(path) {
                    Found::There(thing) => {
                        Found::There(Thing { can_write: false, can_enter: true, ..thing })
                    }
                    found @ (Found::Absent | Found::Closed | Found::Link(_)) => found,
                }
            }
            false => Found::Absent,
        };
    }
    disk.look(path)
}

fn is_link_of_devices(path: &Path) -> bool {
    DEVICE_LINKS.iter().any(|name| Path::new("/dev").join(name) == path)
}

/// What of the host stands in folders that are made anew.
fn kept(policy: &Policy) -> impl Iterator<Item = &AbsPath> {
    let workspace = std::iter::once(&policy.workspace);
    policy.writable.iter().chain(&policy.readable).chain(&policy.caches).chain(workspace)
}

/// Whether `path` leads to something of the host's that was put there.
fn is_kept(policy: &Policy, path: &Path) -> bool {
    kept(policy).any(|it| it.as_path().starts_with(path))
}

/// What the view has at `path`, as the sandbox lays it out: the nearest place above it, and of two
/// at one path the stronger; what would change nothing does not count.
fn region<'a>(policy: &'a Policy, path: &Path) -> Region<'a> {
    if policy.mode == Mode::DangerFullAccess {
        return Region::Host;
    }
    for (folder, region) in [("/proc", Region::Processes), ("/dev", Region::Devices)] {
        if path.starts_with(folder) && !path.starts_with("/dev/shm") {
            return region;
        }
    }
    let mut ancestors: Vec<&Path> = path.ancestors().collect();
    ancestors.reverse();
    let mut now = Region::Host;
    for part in ancestors {
        let is = |paths: &'a [AbsPath]| paths.iter().find(|it| it.as_path() == part);
        if let Some(found) = is(&policy.hidden) {
            // Where nothing of the host's is, there is nothing to hide.
            if !matches!(now, Region::Temporary(_) | Region::Empty | Region::Hidden(_)) {
                now = Region::Hidden(found);
            }
        } else if let Some(found) = is(&policy.protected)
            && matches!(now, Region::Writable(_) | Region::Cached(_))
        {
            now = Region::Protected(found);
        } else if let Some(found) = is(&policy.writable) {
            if !matches!(now, Region::Writable(_)) {
                now = Region::Writable(found);
            }
        } else if let Some(found) = is(&policy.caches) {
            if !matches!(now, Region::Writable(_) | Region::Cached(_) | Region::Hidden(_)) {
                now = Region::Cached(found);
            }
        } else if let Some(found) =
            is(&policy.readable).or_else(|| is(std::slice::from_ref(&policy.workspace)))
        {
            if now.is_made_anew() {
                now = Region::Readable(found);
            }
        } else if let Some(folder) = TEMPORARY.iter().find(|it| Path::new(it) == part) {
            now = Region::Temporary(folder);
        } else if part == Path::new(EMPTY) {
            now = Region::Empty;
        }
    }
    now
}

#[cfg(test)]
mod tests;
