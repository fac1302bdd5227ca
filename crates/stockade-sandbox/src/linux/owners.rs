//! Whose a socket is inside, while the program waits at it, and who started whom.
//!
//! Sources: `proc_net(5)`, `proc_pid_fd(5)`.

use std::fs;
use std::path::Path;

use super::doors::{Program, Protocol};

/// The program of which a socket has `port`; `None` when there is none, or more sockets than one.
pub(super) fn of(protocol: Protocol, port: u16) -> Option<Program> {
    let names = match protocol {
        Protocol::Tcp => ["tcp", "tcp6"],
        Protocol::Udp => ["udp", "udp6"],
    };
    let lists = names.map(|name| fs::read_to_string(format!("/proc/self/net/{name}")));
    let mut sockets: Vec<u64> =
        lists.iter().flatten().flat_map(|list| sockets_at(list, port)).collect();
    sockets.dedup();
    let [socket] = *sockets.as_slice() else { return None };
    let link = format!("socket:[{socket}]");
    let own = std::process::id().cast_signed();
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.find(|process| *process != own && has(*process, &link)).map(Program::of)
}

/// Who started `process`: the first one that this process or nobody inside did, and so on to its parent.
/// `None` when it is gone.
pub(super) fn parents(process: i32) -> Option<Vec<u32>> {
    let own = std::process::id();
    let mut line = Vec::new();
    let mut next = u32::try_from(process).ok()?;
    loop {
        // A process that went in between leaves a line of which the beginning is not known.
        next = parent(next)?;
        if next == own || next == 0 {
            line.reverse();
            return Some(line);
        }
        line.push(next);
    }
}

/// The fourth field of `proc_pid_stat(5)`, after a name that may hold anything.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read(format!("/proc/{process}/stat")).ok()?;
    let rest = stat.rsplit(|byte| *byte == b')').next()?;
    std::str::from_utf8(rest).ok()?.split_whitespace().nth(1)?.parse().ok()
}

fn has(process: i32, link: &str) -> bool {
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    open.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|to| to == Path::new(link)))
}

/// The numbers of the sockets in `list` that are bound to `port`; one that is closed has none.
fn sockets_at(list: &str, port: u16) -> impl Iterator<Item = u64> {
    let port = format!("{port:04X}");
    list.lines().skip(1).filter_map(move |line| {
        let mut fields = line.split_whitespace();
        let (_, own) = fields.nth(1)?.rsplit_once(':')?;
        let socket = fields.nth(7)?.parse().ok()?;
        (own == port && socket != 0).then_some(socket)
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_line_of_processes_begins_beneath_this_one() {
        // In the file a name follows in parentheses that may hold any itself.
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("x) S 1 (");
        std::os::unix::fs::symlink("/bin/sleep", &odd).unwrap();
        let script = "\"$0\" 60 & echo $!; wait";
        let mut child = Command::new("sh")
            .args(["-c".as_ref(), script.as_ref(), odd.as_os_str()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut reader, &mut said).unwrap();
        let last: i32 = said.trim().parse().unwrap();
        assert_eq!(parents(last), Some(vec![child.id()]));
        assert_eq!(parents(child.id().cast_signed()), Some(Vec::new()));
        let mut end = Command::new("kill");
        assert!(end.args([last.to_string(), child.id().to_string()]).status().unwrap().success());
        child.wait().unwrap();
        assert_eq!(parents(child.id().cast_signed()), None, "it is gone");
    }

    #[test]
    fn a_port_leads_to_the_program_that_has_it() {
        let script = "import socket, sys\n\
                      s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((\"127.0.0.1\", 0))\n\
                      print(s.getsockname()[1], flush=True); sys.stdin.read()";
        let mut child = Command::new("python3")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
        let found = of(Protocol::Udp, line.trim().parse().unwrap()).unwrap();
        assert_eq!(found.process, child.id());
        assert!(found.command.unwrap().contains("python"));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(of(Protocol::Udp, line.trim().parse().unwrap()), None);
    }
}
