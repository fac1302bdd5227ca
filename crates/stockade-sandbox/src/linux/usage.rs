//! What everything inside uses together, looked at from outside now and then.
//!
//! The kernel bounds the memory of a tree of processes only for who owns a control group, which
//! an ordinary program rarely does. So the parent outside looks, the more often the nearer the
//! limit is, and ends the run that is above it. A look costs a few microseconds a process, and an
//! idle run has one each second.
//!
//! What a page costs is asked twice: the resident size of each process is cheap and counts a
//! shared page for everybody who has it, so that only what is above the limit by it is asked for
//! its proportional size, which counts each page once.
//!
//! Not seen: files in memory that no process has open or mapped (a descriptor in a socket's
//! queue), and what the kernel itself needs. Before these can fill the machine its OOM killer
//! comes to what is inside first (`target`).

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use stockade_policy::Limits;

use super::commons::Commons;
use super::space::Space;
use crate::Exceeded;

/// What a processor can fill in a second, with room to spare: the time between two looks is the
/// time in which all of them could reach the limit.
const BYTES_A_SECOND: u64 = 4 << 30;
const LONGEST: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(20);

/// What a [`Usage`] needs of the inside, from a process there: its `/proc` and, where it has namespaces
/// of its own (`is_apart`), its `/tmp` and, if this kernel has such, the list of their segments of System V.
pub(crate) fn sources(is_apart: bool) -> io::Result<Vec<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let reference = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let processes = rustix::fs::open("/proc", flags | OFlags::DIRECTORY, Mode::empty())?;
    let segments = || rustix::fs::open("/proc/sysvipc/shm", flags, Mode::empty()).ok();
    if !is_apart {
        return Ok(vec![processes]);
    }
    let temporary = rustix::fs::open("/tmp", reference, Mode::empty())?;
    Ok([processes, temporary].into_iter().chain(segments()).collect())
}

/// Watches one run.
#[derive(Debug)]
pub(crate) struct Usage {
    /// The `/proc` of the run's own PID namespace, or the host's.
    processes: OwnedFd,
    /// In the host's: the process that all others of the run descend from.
    root: Option<i32>,
    /// The private `/tmp`, where it is a file system of its own.
    temporary: Option<OwnedFd>,
    segments: Option<OwnedFd>,
    limits: Limits,
    reached: Reached,
    memory: u64,
    open_files: u64,
    processors: u64,
    /// Shared memory of the whole machine when files in memory were counted last.
    shared_then: u64,
    /// What they held then, in bytes.
    in_files: u64,
    next: Instant,
    /// Of a temporary folder that is no file system of its own.
    space: Option<Space>,
    commons: Option<Commons>,
}

/// One look at everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    /// In bytes; shared pages count for everybody who has them.
    resident: u64,
    open_files: u64,
    /// Of the process that has most.
    most_open: u64,
    threads: u64,
}

/// Limits that a look has found reached, at which calls fail and nothing is ended.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    processes: bool,
    open_files: bool,
    temporary: bool,
}

impl Usage {
    /// From now on, by what [`sources`] gave; `None` when it gave nothing. `root`: see there.
    pub(crate) fn of(
        sources: Vec<OwnedFd>,
        (root, space): (Option<i32>, Option<Space>),
        limits: &Limits,
    ) -> Option<Self> {
        let mut sources = sources.into_iter();
        let (processes, temporary, segments) = (sources.next()?, sources.next(), sources.next());
        // Not by `available_parallelism`, which reads the files of control groups as well.
        let processors =
            rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count().into());
        let mut usage = Self {
            processes,
            root,
            temporary,
            segments,
            limits: limits.clone(),
            reached: Reached::default(),
            memory: limits.memory_bytes,
            open_files: limits.open_files_in_all(),
            processors,
            shared_then: shared_memory(),
            in_files: 0,
            next: Instant::now(),
            space,
            commons: Commons::new(),
        };
        usage.schedule(0);
        Some(usage)
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Instant {
        self.space.iter().map(Space::next).fold(self.next, Instant::min)
    }

    /// Looks, when it is time to; `Some` when the run has to end.
    pub(crate) fn look(&mut self) -> Option<Exceeded> {
        let mut space = self.space.take();
        let unnamed = |device| self.unnamed(Some(device));
        let exceeded = space.as_mut().and_then(|space| space.look(unnamed));
        self.space = space;
        if exceeded.is_some() {
            return exceeded;
        }
        if Instant::now() < self.next {
            return None;
        }
        if let Some(shared) = self.commons.as_ref().and_then(Commons::used_up) {
            return Some(Exceeded::OfUser(shared));
        }
        let seen = self.seen();
        self.note(seen);
        if seen.open_files > self.open_files {
            return Some(Exceeded::OpenFiles { limit: self.open_files });
        }
        // Counting these looks at each open file, so it is done when the machine's sum moved, in
        // either direction: others give back what is taken here.
        let shared = shared_memory();
        if shared.abs_diff(self.shared_then) > self.memory / 16 {
            self.shared_then = shared;
            self.in_files = self.in_memory();
        }
        let mut used = seen.resident.saturating_add(self.in_files);
        if used > self.memory {
            used = self.exact();
        }
        if used > self.memory {
            return Some(Exceeded::Memory { limit: self.memory, used });
        }
        self.schedule(used);
        None
    }

    fn note(&mut self, seen: Seen) {
        /// The kernel's least `pid_max` (`proc_sys_kernel(5)`), which is the limit in a PID namespace.
        const LEAST: u64 = 301;
        let least = if self.root.is_none() { LEAST } else { 0 };
        let processes = u64::from(self.limits.processes).max(least);
        // A look comes between two calls, and numbers are held by what has just ended.
        self.reached.processes |= seen.threads.saturating_mul(20) >= processes.saturating_mul(19);
        self.reached.open_files |= seen.most_open >= u64::from(self.limits.open_files);
        self.reached.temporary |= self.is_full();
    }

    fn is_full(&self) -> bool {
        let Some(temporary) = &self.temporary else { return false };
        // The last bit of room is too small for what the next one writes.
        rustix::fs::fstatvfs(temporary)
            .is_ok_and(|it| it.f_bavail.saturating_mul(200) <= it.f_blocks || it.f_ffree == 0)
    }

    /// What is said of the limits at which calls have failed inside, at the end of a run.
    pub(crate) fn reached(&self) -> Vec<String> {
        let Limits { processes, open_files, tmp_bytes, tmp_inodes, .. } = &self.limits;
        let mebibytes = tmp_bytes.div_ceil(1 << 20);
        let said = [
            (self.reached.processes, format!("{processes} processes and threads"), "processes"),
            (
                self.reached.open_files,
                format!("{open_files} open files of a process"),
                "open_files",
            ),
            (
                self.reached.temporary || self.is_full(),
                format!("{mebibytes} MiB or {tmp_inodes} files in `/tmp`"),
                "tmp_size",
            ),
        ];
        let told = |(_, what, key): (bool, String, &str)| {
            format!("the run reached its limit of {what}: `-c limits.{key}=…` raises it")
        };
        said.into_iter().filter(|(is_reached, ..)| *is_reached).map(told).collect()
    }

    fn schedule(&mut self, used: u64) {
        let left = self.memory.saturating_sub(used);
        let millis = left.saturating_mul(1000) / (BYTES_A_SECOND * self.processors.max(1));
        let wait = Duration::from_millis(millis).clamp(SHORTEST, LONGEST);
        self.next = Instant::now() + wait;
    }

    fn numbers(&self) -> Vec<String> {
        match self.root {
            None => self.names("."),
            Some(root) => self.descendants(root),
        }
    }

    /// Entries of a folder there that are numbers.
    fn names(&self, folder: &str) -> Vec<String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&self.processes, folder, flags, Mode::empty());
        let Ok(list) = folder.and_then(rustix::fs::Dir::new) else { return Vec::new() };
        let names =
            list.flatten().filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok());
        names.map(|pid: u32| pid.to_string()).collect()
    }

    /// `root` and all below it; what is orphaned becomes a child of its.
    fn descendants(&self, root: i32) -> Vec<String> {
        let mut found = vec![root.to_string()];
        let mut at = 0;
        while let Some(pid) = found.get(at).cloned() {
            at += 1;
            for thread in self.names(&format!("{pid}/task")) {
                let path = format!("{pid}/task/{thread}/children");
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                let Ok(file) = rustix::fs::openat(&self.processes, path, flags, Mode::empty())
                else {
                    continue;
                };
                let mut text = String::new();
                // What ended meanwhile has none.
                io::Read::read_to_string(&mut std::fs::File::from(file), &mut text).ok();
                found.extend(text.split_ascii_whitespace().map(str::to_owned));
            }
        }
        found
    }

    fn read(&self, path: &str, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.processes, path, flags, Mode::empty())?;
        Ok(rustix::io::read(&file, buffer)?)
    }

    /// What has ended meanwhile counts nothing.
    fn seen(&self) -> Seen {
        let page = rustix::param::page_size() as u64;
        let mut seen = Seen::default();
        let mut buffer = [0; 256];
        for pid in self.numbers() {
            if let Ok(read) = self.read(&format!("{pid}/statm"), &mut buffer) {
                let text = buffer.get(..read).unwrap_or_default();
                seen.resident += resident_pages(text).unwrap_or(0).saturating_mul(page);
            }
            // The size of this folder is the number of open files, since Linux 6.2.
            let folder = format!("{pid}/fd");
            if let Ok(stat) = rustix::fs::statat(&self.processes, folder, AtFlags::empty()) {
                let open = u64::try_from(stat.st_size).unwrap_or(0);
                seen.open_files += open;
                seen.most_open = seen.most_open.max(open);
            }
            // Links of a folder: itself, its name, and one for each folder in it, a thread.
            let folder = format!("{pid}/task");
            if let Ok(stat) = rustix::fs::statat(&self.processes, folder, AtFlags::empty()) {
                seen.threads += stat.st_nlink.saturating_sub(2);
            }
        }
        seen
    }

    /// Bytes that would be free if everything inside ended, each page counted once.
    fn exact(&self) -> u64 {
        let mut buffer = [0; 2048];
        let (mut own, mut shared) = (0_u64, 0_u64);
        for pid in self.numbers() {
            if let Ok(read) = self.read(&format!("{pid}/smaps_rollup"), &mut buffer) {
                let text = String::from_utf8_lossy(buffer.get(..read).unwrap_or_default());
                let part = |name| kilobytes(&text, name).saturating_mul(1024);
                shared += part("Pss_Shmem:");
                own += part("Pss:").saturating_sub(part("Pss_Shmem:")) + part("SwapPss:");
            }
        }
        // What is mapped of such a file, or attached of a segment, counts in both.
        own + shared.max(self.in_memory())
    }

    /// Bytes in files without a name and in segments of System V, mapped or not.
    fn in_memory(&self) -> u64 {
        self.unnamed(None) + self.in_segments()
    }

    /// Bytes in open files without a name, of one device or of all.
    fn unnamed(&self, device: Option<u64>) -> u64 {
        let mut known = HashSet::new();
        let pids = self.numbers();
        pids.iter().map(|pid| self.files_without_name(pid, device, &mut known)).sum()
    }

    /// Bytes in segments of System V: what nobody has attached is in no process.
    fn in_segments(&self) -> u64 {
        let Some(list) = &self.segments else { return 0 };
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        rustix::fs::seek(list, rustix::fs::SeekFrom::Start(0)).ok();
        while let Ok(read @ 1..) = rustix::io::read(list, &mut buffer) {
            text.extend_from_slice(buffer.get(..read).unwrap_or_default());
        }
        String::from_utf8_lossy(&text).lines().map(resident_of_segment).sum()
    }

    /// Bytes of the files without a name (memfd) that `pid` has open and that are not in `known`.
    fn files_without_name(
        &self,
        pid: &str,
        device: Option<u64>,
        known: &mut HashSet<(u64, u64)>,
    ) -> u64 {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(&self.processes, format!("{pid}/fd"), flags, Mode::empty());
        let Ok(folder) = folder else { return 0 };
        let Ok(list) = rustix::fs::Dir::read_from(&folder) else { return 0 };
        let mut bytes = 0;
        for entry in list.flatten() {
            let Ok(stat) = rustix::fs::statat(folder.as_fd(), entry.file_name(), AtFlags::empty())
            else {
                continue;
            };
            let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            // A memfd has no name; what was deleted on a disk counts little, as a file in memory.
            let is_there = device.is_none_or(|device| device == stat.st_dev);
            if is_file && is_there && stat.st_nlink == 0 && known.insert((stat.st_dev, stat.st_ino))
            {
                bytes += u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
            }
        }
        bytes
    }
}

/// The second number of `statm`, `proc_pid_statm(5)`.
fn resident_pages(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The last but one column of a line of `/proc/sysvipc/shm`, `proc_sysvipc(5)`.
fn resident_of_segment(line: &str) -> u64 {
    line.split_ascii_whitespace().nth(14).and_then(|rss| rss.parse().ok()).unwrap_or(0)
}

/// The number after `name` in lines such as `Pss:   12 kB`.
fn kilobytes(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Memory of the machine that belongs to files in memory, in bytes.
fn shared_memory() -> u64 {
    let info = rustix::system::sysinfo();
    info.sharedram.saturating_mul(info.mem_unit.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_this_machine(memory: u64, files: u32) -> Usage {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let processes = rustix::fs::open("/proc", flags, Mode::empty()).unwrap();
        let limits = Limits { memory_bytes: memory, open_files: files, ..Limits::for_memory(0) };
        Usage { next: Instant::now(), ..Usage::of(vec![processes], (None, None), &limits).unwrap() }
    }

    #[test]
    fn what_is_above_a_limit_is_found_and_the_rest_waited_for() {
        let found = of_this_machine(1 << 20, 1 << 20).look();
        let Some(Exceeded::Memory { limit, used }) = found else { panic!("{found:?}") };
        assert!(limit == 1 << 20 && used > limit);
        let found = of_this_machine(1 << 60, 0).look();
        assert_eq!(found, Some(Exceeded::OpenFiles { limit: 0 }));
        let mut free = of_this_machine(1 << 60, 1 << 20);
        assert_eq!(free.look(), None);
        assert!(free.next() > Instant::now(), "an idle run is looked at once a second");
    }

    #[test]
    fn a_limit_at_which_calls_fail_is_named_with_what_raises_it() {
        let mut usage = of_this_machine(1 << 60, 1 << 20);
        usage.look();
        assert!(usage.reached().is_empty(), "{:?}", usage.reached());
        let seen = Seen { threads: 4096, most_open: 1 << 20, ..Seen::default() };
        usage.note(seen);
        let said = usage.reached();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said.iter().all(|it| it.contains("`-c limits.")), "{said:?}");
        assert!(usage.seen().threads > 1, "threads are counted");
    }

    #[test]
    fn a_file_in_memory_counts_once_however_often_it_is_open() {
        use std::io::Write as _;
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = rustix::fs::memfd_create("a", flags).unwrap();
        let mut file = std::fs::File::from(file);
        file.write_all(&vec![1; 1 << 20]).unwrap();
        let _again = file.try_clone().unwrap();
        let usage = of_this_machine(1 << 60, 1 << 20);
        let pid = std::process::id().to_string();
        let mut known = HashSet::new();
        let bytes = usage.files_without_name(&pid, None, &mut known);
        assert!((1 << 20..2 << 20).contains(&bytes), "{bytes}");
        assert_eq!(usage.files_without_name(&pid, None, &mut known), 0, "known by then");
    }

    #[test]
    fn the_kernels_words_are_read_or_count_nothing() {
        assert_eq!(resident_pages(b"100 7 3 1 0 5 0\n"), Some(7));
        assert_eq!(resident_pages(b""), None);
        let text = "00-ff ---p [rollup]\nRss: 9 kB\nPss:    5 kB\nPss_Shmem: 2 kB\n";
        assert_eq!((kilobytes(text, "Pss:"), kilobytes(text, "Pss_Shmem:")), (5, 2));
        assert_eq!(kilobytes(text, "Swap:"), 0);
    }
}
