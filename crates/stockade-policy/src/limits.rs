//! What one run may use up.

use std::time::Duration;

/// Resource limits of one run. `None` means no limit of Stockade's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads alive at once.
    pub processes: u32,
    /// Bytes of memory of all processes together.
    pub memory_bytes: u64,
    /// Files that one process may have open.
    pub open_files: u32,
    /// Bytes in the private temporary folders together.
    pub tmp_bytes: u64,
    /// Inodes in the private temporary folders together.
    pub tmp_inodes: u64,
    /// Wall time of the whole run.
    pub wall_time: Option<Duration>,
}

impl Limits {
    /// DESIGN §4: 4096 processes, half of memory, an eighth of it for temporary files, no wall
    /// time. Open files: what Elasticsearch asks for, the hungriest program seen (65,535).
    pub fn for_memory(total_bytes: u64) -> Self {
        let tmp_bytes = total_bytes / 8;
        Self {
            processes: 4096,
            memory_bytes: total_bytes / 2,
            open_files: 1 << 16,
            tmp_bytes,
            // A tmpfs inode costs about 1 KiB of kernel memory; one for each 4 KiB of size
            // keeps the inodes' own cost below a quarter of the limit.
            tmp_inodes: (tmp_bytes / 4096).max(1024),
            wall_time: None,
        }
    }

    /// Files that all processes together may have open. What a fork shares counts for each.
    pub fn open_files_in_all(&self) -> u64 {
        u64::from(self.open_files) * 16
    }
}
