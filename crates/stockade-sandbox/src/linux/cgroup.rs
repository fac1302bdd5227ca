//! A control group (version 2) of one's own, where one was delegated. Nothing but `doctor` makes
//! any: a run is bounded by looking at it (ADR 0033).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What bounds memory, in a group that has its controller.
const MEMORY: &str = "memory.max";

/// A new group, gone with this.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Group {
    /// Makes one below the group of this process or, as a service manager delegates them, beside it.
    ///
    /// # Errors
    ///
    /// What the last place said. A group without the controller of memory is none.
    pub(super) fn make() -> io::Result<Self> {
        let (groups, mounts) = ("/proc/self/cgroup", "/proc/self/mountinfo");
        let own = own(&fs::read_to_string(groups)?, &fs::read_to_string(mounts)?);
        let own = own.ok_or_else(|| io::Error::other("no control groups of version 2 here"))?;
        let below = Self::make_in(&own);
        match (below, own.parent().filter(|above| above.join("cgroup.procs").exists())) {
            (Err(_), Some(above)) => Self::make_in(above),
            (below, _) => below,
        }
    }

    fn make_in(above: &Path) -> io::Result<Self> {
        let path = above.join(format!("stockade-doctor-{}", std::process::id()));
        fs::create_dir(&path)?;
        let group = Self(path);
        if !group.0.join(MEMORY).exists() {
            return Err(io::Error::other("the group has no controller of memory"));
        }
        Ok(group)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Puts this process into it, with a bound.
    pub(super) fn enter(&self) -> io::Result<()> {
        fs::write(self.0.join(MEMORY), "1G")?;
        fs::write(self.0.join("cgroup.procs"), "0")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Nobody is in it any more; one that stays is empty.
        fs::remove_dir(&self.0).ok();
    }
}

/// The folder of this process' group, from what `proc_pid_cgroup(5)` and `proc_pid_mountinfo(5)` say.
fn own(groups: &str, mounts: &str) -> Option<PathBuf> {
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let at = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let inner = Path::new(group).strip_prefix(root).ok()?;
        (after.split(' ').next() == Some("cgroup2")).then(|| Path::new(at).join(inner))
    };
    mounts.lines().find_map(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_ones_own_group_is_found() {
        let mounts = "25 30 0:23 / /sys rw - sysfs sysfs rw\n\
                      31 25 0:27 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let user = "1:name=systemd:/x\n0::/user.slice/user-1.slice/session-1.scope\n";
        let expected = "/sys/fs/cgroup/user.slice/user-1.slice/session-1.scope";
        assert_eq!(own(user, mounts).as_deref(), Some(Path::new(expected)));
        let container = "31 25 0:27 /docker/a /sys/fs/cgroup ro - cgroup2 cgroup ro\n";
        assert_eq!(own("0::/docker/a/b\n", container), Some("/sys/fs/cgroup/b".into()));
        assert_eq!(own("0::/else\n", container), None);
        assert_eq!(own("3:cpu:/\n", mounts), None);
    }
}
