//! Which limits of its machine the work has met, for a person who sees a status of 137 or a file that could not
//! be written. What a machine tells of itself is a hint, and nothing is decided by it.

use std::path::Path;

use stockade_guest::{Client, End, Exec, Stream};

use super::Machine;

/// The most that is read of an answer.
const ANSWER_MAX: usize = 64 * 1024;

/// A disk with less than this has no room for a result.
const FULL: u64 = 1 << 20;

/// In words, each with the key that sets it. Whether the disk is full is asked only of work that went wrong.
pub(super) fn met(
    client: &Client,
    folder: &Path,
    machine: &Machine,
    went_wrong: bool,
) -> Vec<String> {
    let mut met = Vec::new();
    let counters = client.read_file("/proc/vmstat".as_ref(), ANSWER_MAX as u64).unwrap_or_default();
    if ended_for_memory(&String::from_utf8_lossy(&counters)) > 0 {
        met.push(format!(
            "the machine's memory was used up, and a process ended for it: {} MiB by `[cloud] memory`",
            machine.memory_bytes >> 20
        ));
    }
    if went_wrong && space(client, folder).is_some_and(|bytes| bytes < FULL) {
        met.push(format!(
            "the machine's disk is full: {} MiB by `[cloud] disk`",
            machine.disk_bytes >> 20
        ));
    }
    met
}

/// How many processes the kernel has ended for want of memory, by its own counters.
fn ended_for_memory(counters: &str) -> u64 {
    let count = counters.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
}

/// Bytes that the user of the machine may still write where the repository is.
fn space(client: &Client, folder: &Path) -> Option<u64> {
    let words = ["stat", "-f", "-c", "%a %S", "--"].map(Into::into);
    let argv = words.into_iter().chain([folder.into()]).collect();
    let mut answer = Vec::new();
    let exec = Exec { argv, ..Exec::default() };
    let outcome = client.exec(&exec, &|| false, &mut |stream, bytes| {
        if stream == Stream::Stdout && answer.len() + bytes.len() <= ANSWER_MAX {
            answer.extend_from_slice(bytes);
        }
    });
    if outcome.ok()?.end != End::Exited(0) {
        return None;
    }
    let text = String::from_utf8(answer).ok()?;
    let (blocks, size) = text.trim_end().split_once(' ')?;
    Some(blocks.parse::<u64>().ok()?.saturating_mul(size.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use stockade_guest::{ServeOptions, serve};

    use super::*;

    #[test]
    fn the_kernels_counter_is_found_whatever_stands_beside_it() {
        assert_eq!(ended_for_memory("nr_free_pages 1\noom_kill 3\nnuma_hit 2\n"), 3);
        for without in ["", "oom_kill_other 3\n", "oom_kill x\n", "oom_kill 0\n"] {
            assert_eq!(ended_for_memory(without), 0, "{without}");
        }
    }

    #[test]
    fn the_room_of_a_disk_is_what_its_user_may_write() {
        let folder = tempfile::tempdir().unwrap();
        let (host, place) = UnixStream::pair().unwrap();
        let options = ServeOptions { folder: folder.path().to_owned() };
        let serving = thread::spawn(move || serve(place.try_clone().unwrap(), place, options));
        let client = Client::connect(host.try_clone().unwrap(), host).unwrap();
        let told = space(&client, folder.path()).unwrap();
        let found = rustix::fs::statvfs(folder.path()).unwrap();
        let free = found.f_bavail * found.f_frsize;
        // Others write there as well.
        assert!(told.abs_diff(free) < 1 << 30, "{told} {free}");
        assert_eq!(space(&client, &folder.path().join("none")), None);
        drop(client);
        serving.join().unwrap().unwrap();
    }
}
