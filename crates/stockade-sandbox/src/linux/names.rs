//! The files by which programs inside find names: ours over the host's.

use std::fs;
use std::io;
use std::path::Path;

use super::gate;

/// Larger than any such file that a person or a tool wrote; in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// The files, by the names under which they stand in `/etc`.
pub(crate) const FILES: [&str; 3] = ["resolv.conf", "hosts", "nsswitch.conf"];

/// Their content, in the same order. The host's are read before the view is built.
pub(crate) fn contents() -> [String; 3] {
    let host = |name: &str| read(&Path::new("/etc").join(name)).unwrap_or_default();
    // Asked at once and answered at once, so that nothing has to wait.
    let resolver = format!("nameserver {}\noptions timeout:2 attempts:1\n", gate::RESOLVER);
    [resolver, hosts(&host("hosts")), switch(&host("nsswitch.conf"))]
}

fn read(path: &Path) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    fs::File::open(path)?.take(FILE_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// What the host says of its own loopback holds inside as well; other lines would give names the
/// addresses that the gateway alone may know.
fn hosts(text: &str) -> String {
    let is_loopback = |line: &&str| {
        let address = line.split_whitespace().next().and_then(|word| word.parse().ok());
        address.is_some_and(|address: std::net::IpAddr| address.is_loopback())
    };
    let mut own: String = text.lines().filter(is_loopback).flat_map(|line| [line, "\n"]).collect();
    if !own.contains("localhost") {
        own.push_str("127.0.0.1 localhost\n::1 localhost\n");
    }
    own
}

/// Host names come from the file and our resolver; services of the host's (`resolve`, `mdns`,
/// `sss`) cannot be reached. Users, groups and the rest stay as they are.
fn switch(text: &str) -> String {
    let is_hosts = |line: &&str| line.trim_start().starts_with("hosts:");
    let others = text.lines().filter(|line| !is_hosts(line));
    others.chain(["hosts: files dns"]).flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopbacks_names_stay_and_others_go() {
        let text = "127.0.0.1 localhost\n127.0.1.1 box app.test\n10.0.0.5 db.internal\n# x\n::1 ip6-localhost\n";
        assert_eq!(hosts(text), "127.0.0.1 localhost\n127.0.1.1 box app.test\n::1 ip6-localhost\n");
        assert_eq!(hosts(""), "127.0.0.1 localhost\n::1 localhost\n");
    }

    #[test]
    fn only_the_way_to_host_names_changes() {
        let text = "passwd: files systemd\nhosts: resolve [!UNAVAIL=return] files\ngroup: files\n";
        assert_eq!(switch(text), "passwd: files systemd\ngroup: files\nhosts: files dns\n");
    }
}
