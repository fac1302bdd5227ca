//! From a [`Policy`] to the list of things that the mount view is made of.
//!
//! Pure: nothing here looks at the disk, so the whole layout of a view can be read and
//! compared in a test. `mounts` carries a plan out, top to bottom.
//!
//! Invariants:
//! - a folder is placed before anything inside it;
//! - every folder between a writable root and a protected or hidden path inside it is pinned (a
//!   mount of its own), so that no rename above such a path moves it away and makes room for
//!   another;
//! - what is not placed stays what the recursive read-only view makes it.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use stockade_policy::guard::Guard;
use stockade_policy::{AbsPath, AddressRange, HostPattern, HostRule, Mode, Network, Policy};

use super::moved::Moved;
use super::seccomp::Traps;
use crate::execs::Execs;
use crate::{Keeping, Layer};

/// What stands at a place of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Content {
    /// An empty private folder that may be written: `/tmp` and its kin.
    PrivateWritable,
    /// An empty private folder that may not: `/run`.
    PrivateEmpty,
    /// The host's own, read-only, where something above it would hide it.
    Readable,
    /// The host's own folder below a layer that takes what is written.
    Cached,
    /// The host's own file or folder, writable.
    Writable,
    /// The host's own, writable, as a mount of its own so that it cannot be renamed.
    Pinned,
    /// The host's own, read-only inside something writable.
    Protected,
    /// An empty file or folder in its stead, read-only.
    Hidden,
}

/// One place of the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Absolute path; the same inside and outside.
    pub(crate) path: AbsPath,
    /// What stands there.
    pub(crate) content: Content,
}

/// Which walls to put up. Everything but [`Walls::ALL`] exists for the tests that look at
/// one wall alone, and can be named inside this crate only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each wall")]
pub(crate) struct Walls {
    /// Namespaces of processes, users and the rest, without which there is no mount view either.
    pub(crate) namespaces: bool,
    /// The mount view.
    pub(crate) mounts: bool,
    /// Landlock.
    pub(crate) landlock: bool,
    /// The system call filter.
    pub(crate) seccomp: bool,
    /// Who carries out what the filter traps.
    pub(crate) supervisor: bool,
    /// Whether that one can have the descriptors of its callers, sockets among them.
    pub(crate) descriptors: bool,
    /// The network namespace.
    pub(crate) network: bool,
    /// The attempts from inside that find a wall missing.
    pub(crate) canary: bool,
}

impl Walls {
    /// Every wall: what every run gets where there are namespaces.
    pub(crate) const ALL: Self = Self {
        namespaces: true,
        mounts: true,
        landlock: true,
        seccomp: true,
        supervisor: true,
        descriptors: true,
        network: true,
        canary: true,
    };
    /// What there is without namespaces.
    pub(crate) const SECOND: Self =
        Self { namespaces: false, mounts: false, network: false, ..Self::ALL };
}

/// Everything that PID 1 needs to know to put up the walls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The places of the view, a folder before what is in it.
    pub(crate) placements: Vec<Placement>,
    /// What is laid over the host's folders before anything is placed, so that every placement
    /// in one is of the overlay.
    pub(crate) layers: Vec<Layer>,
    /// Where what is written to caches lands.
    pub(crate) caches: Option<Layer>,
    /// Size of all private temporary folders together, in bytes.
    pub(crate) tmp_bytes: u64,
    /// Their inodes together.
    pub(crate) tmp_inodes: u64,
    /// Bytes of shared memory of System V, where what is attached nowhere cannot be counted.
    pub(crate) segment_bytes: u64,
    /// Processes and threads alive at once.
    pub(crate) processes: u32,
    /// Files that one of them may have open.
    pub(crate) open_files: u32,
    /// TCP ports of the host's loopback to offer inside.
    pub(crate) host_ports: Vec<u16>,
    /// The way out to hosts, if there is one.
    pub(crate) way_out: Option<WayOut>,
    /// Where the canary tries to write: a folder of the host that no root covers.
    pub(crate) canary: PathBuf,
    /// Whether the command is this very program, wherever it lies.
    pub(crate) runs_itself: bool,
    /// Who judges the calls that write, where there is a root to write to.
    pub(crate) guard: Option<Guard>,
    /// Where it is noted what is looked at when the run is over.
    pub(crate) notes: Option<std::path::PathBuf>,
    /// Who judges what is executed, where anybody does.
    pub(crate) execs: Option<Execs>,
    /// The run's own temporary folder, where `/tmp` is the host's.
    pub(crate) temporary: Option<PathBuf>,
    /// Folders that are in it by name, where no mount makes them so.
    pub(crate) moved: Option<Moved>,
    /// Where what is replaced is kept.
    pub(crate) keeping: Option<Keeping>,
    /// Which walls to put up.
    pub(crate) walls: Walls,
}

/// What PID 1 makes for whoever serves the network outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WayOut {
    /// Whether there are hosts, or published ports only.
    pub(crate) has_hosts: bool,
    /// Addresses that were named as such, and are therefore dialled as such.
    pub(crate) routes: Vec<AddressRange>,
    /// Ports that are published under their own number.
    pub(crate) published: Vec<u16>,
    /// Those of this machine, which programs ask where the network is the host's.
    pub(crate) name_servers: Vec<IpAddr>,
    /// Certificates to trust beside the system's, as PEM.
    pub(crate) authorities: String,
    /// Whether programs have an agent for log-ins by ssh.
    pub(crate) logs_in: bool,
}

impl WayOut {
    fn of(network: &Network) -> Option<Self> {
        let has_hosts = network.leads_out();
        let publishes = !network.published.is_empty();
        let range = |rule: &HostRule| match &rule.entry.pattern {
            HostPattern::Range(range) => Some(*range),
            HostPattern::Name(_) | HostPattern::Below(_) => None,
        };
        let mut routes: Vec<_> = network.allow.iter().filter_map(range).collect();
        if network.open.is_some() {
            routes.extend(
                EVERYWHERE.map(|range| {
                    range.parse::<AddressRange>().expect("invariant: these are ranges")
                }),
            );
        }
        let authorities = network.authorities.clone();
        let same = network.published.iter().filter(|ports| ports.outside == ports.inside);
        (has_hosts || publishes).then_some(Self {
            has_hosts,
            routes,
            published: same.map(|ports| ports.outside).collect(),
            name_servers: Vec::new(),
            authorities,
            logs_in: network.logs_in,
        })
    }
}

/// Whether a sandbox of `policy` has a way out that somebody has to serve.
pub(crate) fn needs_way_out(policy: &Policy) -> bool {
    policy.mode != Mode::DangerFullAccess && WayOut::of(&policy.network).is_some()
}

/// Every address there is.
const EVERYWHERE: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// Private folders that may be written. `/dev/shm` belongs to the view of `/dev`.
const TEMPORARY: [&str; 2] = ["/tmp", "/var/tmp"];

/// Sockets, pid files and other doors to host services live here.
pub(super) const RUNTIME: &str = "/run";

/// What is below [`RUNTIME`] and no door: the system itself, on NixOS.
const RUNTIME_READABLE: [&str; 2] = ["/run/current-system", "/run/opengl-driver"];

impl Plan {
    /// Lays out the view of `policy`; `sockets` are those that somebody outside listens on, which
    /// are covered wherever the view would show them.
    pub(crate) fn new(policy: &Policy, sockets: &[AbsPath]) -> Self {
        let mut wanted: Vec<Placement> = Vec::new();
        let mut want = |path: AbsPath, content| wanted.push(Placement { path, content });
        for path in TEMPORARY {
            want(own(path), Content::PrivateWritable);
        }
        want(own(RUNTIME), Content::PrivateEmpty);
        for path in RUNTIME_READABLE {
            want(own(path), Content::Readable);
        }
        let lists = [
            (&policy.writable, Content::Writable),
            (&policy.readable, Content::Readable),
            (&policy.caches, Content::Cached),
            (&policy.protected, Content::Protected),
            (&policy.hidden, Content::Hidden),
        ];
        for (paths, content) in lists {
            for path in paths {
                want(path.clone(), content);
            }
        }
        for path in sockets {
            want(path.clone(), Content::Hidden);
        }
        // A workspace that the private folders would cover has to be brought back.
        want(policy.workspace.clone(), Content::Readable);
        Self {
            placements: settle(wanted),
            layers: Vec::new(),
            caches: None,
            tmp_bytes: policy.limits.tmp_bytes,
            tmp_inodes: policy.limits.tmp_inodes,
            segment_bytes: policy.limits.tmp_bytes.min(policy.limits.memory_bytes),
            processes: policy.limits.processes,
            open_files: policy.limits.open_files,
            host_ports: policy.network.host_ports.clone(),
            way_out: WayOut::of(&policy.network),
            canary: canary(policy),
            runs_itself: false,
            guard: Guard::of(policy),
            notes: None,
            execs: None,
            temporary: None,
            moved: None,
            keeping: None,
            walls: Walls::ALL,
        }
    }

    /// Where the view lets write.
    pub(crate) fn writable(&self) -> Vec<PathBuf> {
        let writes = |content| {
            matches!(content, Content::Writable | Content::PrivateWritable | Content::Cached)
        };
        let all = self.placements.iter().filter(|placement| writes(placement.content));
        all.map(|placement| placement.path.as_path().to_owned()).collect()
    }

    /// Which calls PID 1 carries out.
    pub(crate) fn traps(&self) -> Traps {
        let (modes, execs) = (self.keeping.is_some(), self.execs.is_some());
        Traps { writes: self.guard.is_some(), modes, execs, ..Traps::default() }
    }
}

fn own(path: &str) -> AbsPath {
    AbsPath::new(path).expect("invariant: the table has absolute paths")
}

/// Sorts the wishes, drops those that change nothing, and adds the pins.
fn settle(mut wanted: Vec<Placement>) -> Vec<Placement> {
    add_pins(&mut wanted);
    // An ancestor sorts before its descendants, and these follow it without a gap; at one path
    // the later content wins, in the order of `Content`: hidden over protected over writable.
    wanted.sort_by(|a, b| a.path.cmp(&b.path).then(a.content.cmp(&b.content)));
    let mut settled: Vec<Placement> = Vec::with_capacity(wanted.len());
    // Of those settled, the ones that the next may lie in: each inside the one before.
    let mut above: Vec<usize> = Vec::new();
    let mut rest = wanted.into_iter().peekable();
    while let Some(placement) = rest.next() {
        if rest.peek().is_some_and(|next| next.path == placement.path) {
            continue;
        }
        let nearest = loop {
            let Some(candidate) = above.last().and_then(|&index| settled.get(index)) else {
                break None;
            };
            if placement.path.is_within(&candidate.path) {
                break Some(candidate.content);
            }
            above.pop();
        };
        if changes_something(placement.content, nearest) {
            above.push(settled.len());
            settled.push(placement);
        }
    }
    settled
}

/// Whether `content` differs from what `above`, the nearest placed ancestor, already gives.
fn changes_something(content: Content, above: Option<Content>) -> bool {
    use Content::{
        Cached, Hidden, Pinned, PrivateEmpty, PrivateWritable, Protected, Readable, Writable,
    };
    match content {
        PrivateWritable | PrivateEmpty | Pinned => true,
        Writable => !matches!(above, Some(Writable | Pinned)),
        Cached => !matches!(above, Some(Writable | Pinned | Cached | Hidden)),
        Readable => matches!(above, Some(PrivateWritable | PrivateEmpty | Hidden)),
        Protected => matches!(above, Some(Writable | Pinned | Cached)),
        Hidden => !matches!(above, Some(Hidden | PrivateEmpty | PrivateWritable)),
    }
}

fn add_pins(wanted: &mut Vec<Placement>) {
    let with = |content| wanted.iter().filter(move |placement| placement.content == content);
    // Once: they are few, and what lies in them is looked for among hundreds of paths.
    let roots = with(Content::Writable).chain(with(Content::Cached));
    let roots: Vec<&AbsPath> = roots.map(|placement| &placement.path).collect();
    let mut pins = Vec::new();
    for Placement { path, .. } in with(Content::Protected).chain(with(Content::Hidden)) {
        let root = roots
            .iter()
            .filter(|root| path.is_within(root))
            // The outermost: a root nested in it is pinned like any other folder.
            .min_by_key(|root| root.as_os_str().len());
        let Some(root) = root else { continue };
        let above = path.as_path().ancestors().skip(1);
        for folder in above.take_while(|folder| *folder != root.as_path()) {
            let path = AbsPath::new(folder).expect("invariant: a folder above a normalized path");
            pins.push(Placement { path, content: Content::Pinned });
        }
    }
    wanted.append(&mut pins);
}

/// A folder that the user could write without Stockade, if there is one outside the roots.
fn canary(policy: &Policy) -> PathBuf {
    let parent = policy.workspace.as_path().parent().map(Path::to_owned);
    let home = policy.home.as_ref().map(|home| home.as_path().to_owned());
    let outside = |path: &PathBuf| {
        policy.mode == Mode::ReadOnly
            || !policy.writable.iter().map(AbsPath::as_path).any(|root| path.starts_with(root))
    };
    let covered = |path: &PathBuf| TEMPORARY.iter().any(|folder| path.starts_with(folder));
    home.into_iter()
        .chain(parent)
        .find(|path| outside(path) && !covered(path))
        .unwrap_or_else(|| PathBuf::from("/"))
}

#[cfg(test)]
mod tests {
    use stockade_policy::Limits;

    use super::*;

    fn paths(list: &[&str]) -> Vec<AbsPath> {
        list.iter().map(|path| AbsPath::new(*path).unwrap()).collect()
    }

    fn policy(writable: &[&str], protected: &[&str], hidden: &[&str]) -> Policy {
        Policy {
            mode: Mode::WorkspaceWrite,
            workspace: AbsPath::new("/home/u/w").unwrap(),
            home: Some(AbsPath::new("/home/u").unwrap()),
            writable: paths(writable),
            protected: paths(protected),
            hidden: paths(hidden),
            readable: Vec::new(),
            caches: Vec::new(),
            tops: Vec::new(),
            unprotected: Vec::new(),
            awaited: Vec::new(),
            network: Network::default(),
            limits: Limits::for_memory(1 << 30),
        }
    }

    /// The part of a plan below /home, one line a place.
    fn shown(policy: &Policy) -> Vec<String> {
        Plan::new(policy, &[])
            .placements
            .iter()
            .filter(|placement| placement.path.as_path().starts_with("/home"))
            .map(|placement| {
                format!("{:?} {}", placement.content, placement.path.as_path().display())
            })
            .collect()
    }

    #[test]
    fn every_folder_above_a_protected_path_is_pinned() {
        let policy = policy(&["/home/u/w"], &["/home/u/w/.git/info/attributes"], &[]);
        assert_eq!(
            shown(&policy),
            [
                "Writable /home/u/w",
                "Pinned /home/u/w/.git",
                "Pinned /home/u/w/.git/info",
                "Protected /home/u/w/.git/info/attributes",
            ]
        );
    }

    #[test]
    fn every_folder_above_a_hidden_path_is_pinned() {
        let policy = policy(&["/home/u/w"], &[], &["/home/u/w/a/.env", "/home/u/.ssh"]);
        assert_eq!(
            shown(&policy),
            [
                "Hidden /home/u/.ssh",
                "Writable /home/u/w",
                "Pinned /home/u/w/a",
                "Hidden /home/u/w/a/.env",
            ]
        );
    }

    #[test]
    fn a_root_inside_a_root_is_pinned_like_any_folder() {
        let policy = policy(&["/home/u/w", "/home/u/w/.git"], &["/home/u/w/.git/hooks"], &[]);
        assert_eq!(
            shown(&policy),
            ["Writable /home/u/w", "Pinned /home/u/w/.git", "Protected /home/u/w/.git/hooks"]
        );
    }

    #[test]
    fn caches_are_apart_from_roots_above_and_below_them() {
        let mut policy = policy(&["/home/u/go/src/w"], &["/home/u/go/bin"], &["/home/u/go/k/s"]);
        policy.caches = paths(&["/home/u/go", "/home/u/go/src/w/.cache"]);
        assert_eq!(
            shown(&policy),
            [
                "Cached /home/u/go",
                "Protected /home/u/go/bin",
                "Pinned /home/u/go/k",
                "Hidden /home/u/go/k/s",
                "Writable /home/u/go/src/w",
            ]
        );
    }

    #[test]
    fn what_changes_nothing_is_dropped() {
        let policy = policy(
            &["/home/u/w", "/home/u/w/src"],
            &["/home/u/w/.env", "/home/u/outside/.env"],
            &["/home/u/.ssh", "/home/u/.ssh/id_rsa"],
        );
        assert_eq!(
            shown(&policy),
            ["Hidden /home/u/.ssh", "Writable /home/u/w", "Protected /home/u/w/.env"]
        );
    }

    #[test]
    fn hidden_wins_over_protected_and_writable_at_one_path() {
        let policy = policy(&["/home/u/w"], &["/home/u/w/.env"], &["/home/u/w/.env"]);
        assert_eq!(shown(&policy), ["Writable /home/u/w", "Hidden /home/u/w/.env"]);
    }

    #[test]
    fn a_narrowed_workspace_keeps_only_its_roots_writable() {
        let policy = policy(
            &["/home/u/w/src", "/home/u/w/.git"],
            &["/home/u/w/.git/hooks", "/home/u/w/.env"],
            &[],
        );
        assert_eq!(
            shown(&policy),
            ["Writable /home/u/w/.git", "Protected /home/u/w/.git/hooks", "Writable /home/u/w/src",]
        );
    }

    #[test]
    fn a_workspace_under_tmp_is_brought_back_read_only_or_writable() {
        let mut policy = policy(&["/tmp/w"], &[], &[]);
        policy.workspace = AbsPath::new("/tmp/w").unwrap();
        let contents = |policy: &Policy| {
            let plan = Plan::new(policy, &[]);
            plan.placements
                .into_iter()
                .find(|placement| placement.path.as_path() == Path::new("/tmp/w"))
                .map(|placement| placement.content)
        };
        assert_eq!(contents(&policy), Some(Content::Writable));
        policy.writable.clear();
        policy.mode = Mode::ReadOnly;
        assert_eq!(contents(&policy), Some(Content::Readable));
    }

    #[test]
    fn the_canary_stands_where_a_write_would_hurt() {
        assert_eq!(Plan::new(&policy(&["/home/u/w"], &[], &[]), &[]).canary, Path::new("/home/u"));
        let everything = policy(&["/home/u", "/home"], &[], &[]);
        assert_eq!(Plan::new(&everything, &[]).canary, Path::new("/"));
    }
}
