//! Without user namespaces: what is held, what is refused by name, and what is let go aloud.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};

use super::asking::Client;
use super::{Home, text};

/// Runs `stockade run OPTIONS -- sh -c SCRIPT` where user namespaces are used up.
fn run(home: &Home, options: &[&str], script: &str) -> Output {
    command(home, options, script).output().unwrap()
}

fn command(home: &Home, options: &[&str], script: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c"]);
    command.arg("echo 0 > /proc/sys/user/max_user_namespaces && exec \"$@\"").arg("sh");
    command.arg(env!("CARGO_BIN_EXE_stockade")).arg("run").args(options);
    command.args(["--", "sh", "-c", script]).current_dir(home.path("work"));
    command.env_clear().env("HOME", home.path("")).env("PATH", "/usr/bin:/bin");
    command
}

/// Threat model, F1, F9, N1: in the second backend.
#[test]
fn landlock_and_seccomp_hold_a_reading_run_alone() {
    let home = Home::new();
    let script = "echo in > $TMPDIR/a; cat $TMPDIR/a; echo x > ~/notes.txt; echo x > src/new; \
                  cat ~/.ssh/id; python3 -c 'import socket; socket.create_connection((\"192.0.2.1\", 1))'; \
                  exit 3";
    let output = run(&home, &["-s", "read-only"], script);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("\nin\n"), "a private temporary folder: {said}");
    assert_eq!(said.matches("no user namespaces here").count(), 1, "said once: {said}");
    assert!(!said.contains("original"), "a hidden file: {said}");
    assert!(said.contains("Network is unreachable"), "no network: {said}");
    assert_eq!(fs::read_to_string(home.path("notes.txt")).unwrap(), "original\n");
    assert!(!home.path("work/src/new").exists());
}

/// Threat model, K7: in the second backend. Keys lead to what the run made, which ends with it.
#[test]
fn shared_memory_of_the_host_is_not_there_and_that_of_a_run_ends_with_it() {
    let made = text(&Command::new("ipcmk").args(["-M", "4096"]).output().unwrap());
    let of_host = made.rsplit(' ').next().unwrap().trim().to_owned();
    let ask = "import ctypes, sys; libc = ctypes.CDLL(None, use_errno=True)\n\
               print('attach', libc.shmat(int(sys.argv[1]), None, 0), ctypes.get_errno())\n\
               print('remove', libc.shmctl(int(sys.argv[1]), 0, None), ctypes.get_errno())\n\
               print('key', libc.shmget(int(sys.argv[2], 16), 0, 0), ctypes.get_errno())\n\
               print('made', libc.shmget(int(sys.argv[2], 16), 4096, 0o1600))";
    let row = |id: &str| {
        let segments = fs::read_to_string("/proc/sysvipc/shm").unwrap();
        let found =
            segments.lines().find(|line| line.split_whitespace().nth(1) == Some(id))?.to_owned();
        Some(found)
    };
    let key: i32 = row(&of_host).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    for mode in ["read-only", "workspace-write"] {
        let home = Home::new();
        let script = format!("python3 -c \"{ask}\" {of_host} {key:x}");
        let said = text(&run(&home, &["-s", mode], &script));
        for line in ["attach -1 22", "remove -1 22", "key -1 2"] {
            assert!(said.contains(line), "{mode}: {line}: {said}");
        }
        let made = said.split("made ").nth(1).and_then(|rest| rest.split_whitespace().next());
        let made = made.unwrap().to_owned();
        assert!(made != of_host && !made.starts_with('-'), "{mode}: {said}");
        assert_eq!(row(&made), None, "{mode}: it ended with the run");
    }
    assert!(row(&of_host).is_some());
    assert!(Command::new("ipcrm").args(["-m", &of_host]).status().unwrap().success());
}

/// Threat model, K8: in the second backend, whose temporary folder lies on the host's disk.
#[test]
fn a_run_with_more_temporary_files_than_its_limit_is_ended() {
    let options = ["-c", "limits.tmp_size=4MiB"];
    let fill = "head -c 64M /dev/zero";
    for script in [
        format!("{fill} > $TMPDIR/a"),
        format!("{fill} > /tmp/a"),
        format!("exec 3> $TMPDIR/a; rm $TMPDIR/a; {fill} >&3"),
        format!("mkdir $TMPDIR/a; {fill} > $TMPDIR/a/b; chmod 0 $TMPDIR/a"),
        "cd $TMPDIR; seq 3000 | xargs touch".to_owned(),
    ] {
        let home = Home::new();
        let output = run(&home, &options, &format!("{script}; exec sleep 60"));
        let said = text(&output);
        assert_eq!(output.status.code(), Some(137), "{script}: {said}");
        for word in ["temporary files", "limit of 4 MiB", "limits.tmp_size"] {
            assert!(said.contains(word), "{script}: {word}: {said}");
        }
    }
    let home = Home::new();
    let output = run(
        &home,
        &options,
        &format!("head -c 2M /dev/zero > $TMPDIR/a; {fill} > a; sleep 2; echo done"),
    );
    let said = text(&output);
    assert!(
        output.status.success() && said.contains("done"),
        "what fits, and the workspace: {said}"
    );
}

/// Threat model, F1, F2, F6, F7, N1, N3: in the second backend.
#[test]
fn the_supervisor_holds_a_writing_run_and_names_what_was_refused() {
    let home = Home::new();
    let outside = UnixListener::bind(home.path("work/src/outside.sock")).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let before = fs::metadata(home.path("notes.txt")).unwrap();
    let git = Command::new("git").args(["init", "-q"]).current_dir(home.path("work")).status();
    assert!(git.unwrap().success());
    let script = format!(
        "touch src/ran; chmod 700 src/ran; touch -d 2001-01-01 src/ran; echo x > .git/hooks/pre-commit; \
         echo x > .env; mkdir src/r && git init -q src/r && echo x > src/r/.git/hooks/pre-commit; \
         chmod 777 ~/notes.txt; touch -d 2001-01-01 ~/notes.txt; \
         echo x > ~/notes.txt; exec python3 src/sockets.py {port}",
    );
    fs::write(home.path("work/src/sockets.py"), SOCKETS).unwrap();
    let output = run(&home, &[], &script);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("no user namespaces here").count(), 1, "said once: {said}");
    let ran = fs::metadata(home.path("work/src/ran")).unwrap();
    assert_eq!((ran.mode() & 0o777, ran.mtime() < 1_000_000_000), (0o700, true), "{said}");
    let kept = fs::read_to_string(home.path("work/.env")).unwrap_or_default();
    assert!(!kept.contains('x'), "{kept}: {said}");
    for planted in [".git/hooks/pre-commit", "src/r/.git/hooks/pre-commit"] {
        assert!(!home.path("work").join(planted).exists(), "{planted}: {said}");
    }
    let after = fs::metadata(home.path("notes.txt")).unwrap();
    assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()), "{said}");
    for line in [
        "own True",
        "datagram True",
        "named True",
        "far 101",
        "host 111",
        "bound 99",
        "foreign 13",
        "swapped 0",
        "options 1",
        "attribute 30",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    listener.set_nonblocking(true).unwrap();
    outside.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err() && outside.accept().is_err(), "nobody came: {said}");
}

/// What a program does with sockets; the port of a server outside is its argument.
const SOCKETS: &str = r#"
import socket, sys, os
S = socket.socket
def errno(f):
    try: f(); return 0
    except OSError as e: return e.errno
s = S(); s.bind(("0.0.0.0", 0)); s.listen(); host, port = s.getsockname()
c = socket.create_connection(("127.0.0.1", port)); a, _ = s.accept(); a.sendmsg([b"abc"])
print("own", host == "127.0.0.1" and c.recv(3) == b"abc")
d = S(socket.AF_INET, socket.SOCK_DGRAM); d.bind(("127.0.0.1", 0))
e = S(socket.AF_INET, socket.SOCK_DGRAM); e.sendto(b"q", d.getsockname()); _, back = d.recvfrom(9)
d.sendmsg([b"r"], [], 0, back); print("datagram", e.recv(1) == b"r" and back[0] == "127.0.0.1")
u = S(socket.AF_UNIX); u.bind("src/own.sock"); u.listen(); v = S(socket.AF_UNIX)
print("named", errno(lambda: v.connect("src/own.sock")) == 0)
print("far", errno(lambda: S().connect(("192.0.2.1", 80))))
print("host", errno(lambda: S().connect(("127.0.0.1", int(sys.argv[1])))))
print("bound", errno(lambda: S().bind(("192.0.2.1", 0))))
print("foreign", errno(lambda: S(socket.AF_UNIX).connect("src/outside.sock")))
f = S(); f.listen(); print("swapped", 0 if f.getsockname()[0] == "127.0.0.1" else 1)
notes = os.path.expanduser("~/notes.txt")
print("attribute", errno(lambda: os.setxattr(notes, "user.a", b"b")))
print("options", errno(lambda: f.setsockopt(0, 4, b"\x83\x07\x04\xc0\x00\x02\x01\x00")))
"#;

/// Threat model, N1, N6, N8: in the second backend.
#[test]
fn hosts_and_ports_are_reached_by_the_guardian_alone() {
    let home = Home::new();
    let [opened, other, published] = [(); 3].map(|()| TcpListener::bind(("127.0.0.1", 0)).unwrap());
    let port = |of: &TcpListener| of.local_addr().unwrap().port().to_string();
    let (opened_port, other_port, outer) = (port(&opened), port(&other), port(&published));
    drop(published);
    fs::write(home.path("work/src/hosts.py"), HOSTS).unwrap();
    let allow = format!("localhost:{opened_port}");
    let options = ["--allow-host", "only.example.org", "--allow-host", &allow, "--publish", &outer];
    let script = format!("exec python3 src/hosts.py {opened_port} {other_port} {outer}");
    let output = run(&home, &options, &script);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("allowed hosts are reached").count(), 1, "said once: {said}");
    for line in [
        "only True",
        "refused unknown",
        "proxy 403",
        "elsewhere 101",
        "gateway 111",
        "opened 0",
        "other 111",
        "through the proxy 502",
        "published 0",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(said.contains("blocked: "), "what was refused is said: {said}");
    assert!(opened.accept().is_ok(), "{said}");
    other.set_nonblocking(true).unwrap();
    assert!(other.accept().is_err(), "nobody came: {said}");
}

/// What a program does with hosts: its arguments are ports of servers outside, one opened, and one
/// that is published and free.
const HOSTS: &str = r#"
import os, socket, sys
opened, other, published = map(int, sys.argv[1:])
def errno(f):
    try: f(); return 0
    except OSError as e: return e.errno
S = socket.socket
known = socket.getaddrinfo("only.example.org", 80, socket.AF_INET)
print("only", known[0][4][0].startswith("198.18."))
try: socket.getaddrinfo("refused.example.org", 80); print("refused known")
except socket.gaierror: print("refused unknown")
proxy = os.environ["HTTPS_PROXY"].removeprefix("http://").split(":")
def ask(to):
    s = socket.create_connection(proxy); s.sendall(f"CONNECT {to} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    return s.recv(99).split()[1].decode()
print("proxy", ask("refused.example.org:443"))
print("elsewhere", errno(lambda: S().connect(("192.0.2.1", 443))))
u = S(socket.AF_INET, socket.SOCK_DGRAM)
servers = [l.split()[1] for l in open("/etc/resolv.conf") if l.startswith("nameserver")]
u.connect(((servers + ["127.0.0.1"])[0], 53))
def question(to):
    s = S(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5); s.connect(to); s.send(b"q"); s.recv(1)
print("gateway", errno(lambda: question(u.getpeername())))
print("opened", errno(lambda: S().connect(("127.0.0.1", opened))))
print("other", errno(lambda: S().connect(("127.0.0.1", other))))
print("through the proxy", ask(f"127.0.0.1:{other}"))
s = S(); print("published", errno(lambda: (s.bind(("0.0.0.0", published)), s.listen())))
"#;

/// Threat model, C6: "A yes to a waiting call opens the file or host that was asked about"; and undo
/// takes back what was changed, in the second backend.
#[test]
fn a_person_is_asked_and_what_was_changed_is_taken_back() {
    let home = Home::new();
    fs::write(home.path("work/src/old"), "original\n").unwrap();
    let client = Client::of(&home);
    let script = "echo asked > ../outside/file; echo x > ../.ssh/id; echo new > src/made; \
                  echo more >> src/old; rm -rf ../.local/state/stockade/undo; \
                  echo x > $STOCKADE_DENIALS; rm -f $STOCKADE_DENIALS; cat $STOCKADE_DENIALS";
    let run = command(&home, &[], script).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let question = client.question();
    let effect = question["effect"].as_str().unwrap();
    assert!(effect.contains("outside/file"), "{effect}");
    client.answer(&question, &["once"]);
    let output = run.unwrap().wait_with_output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(fs::read_to_string(home.path("outside/file")).unwrap(), "asked\n", "{said}");
    assert_eq!(fs::read_to_string(home.path(".ssh/id")).unwrap(), "original\n", "{said}");
    assert!(said.contains(r#""op":"write","target":"#) && said.contains(".ssh/id"), "{said}");
    assert_eq!(fs::read_to_string(home.path("work/src/old")).unwrap(), "original\nmore\n");
    let undone = home.command_of("undo").output().unwrap();
    assert!(undone.status.success(), "{}", text(&undone));
    assert_eq!(fs::read_to_string(home.path("work/src/old")).unwrap(), "original\n");
    assert!(!home.path("work/src/made").exists(), "{}", text(&undone));
}

#[test]
fn what_it_cannot_hold_is_refused_unless_the_user_lets_it_go() {
    let home = Home::new();
    let hide = format!("{}/src", home.path("work").display());
    let output = run(&home, &["--hide", &hide], "touch ran");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("hidden paths") && said.contains("--degrade"), "{said}");
    assert!(!home.path("work/ran").exists(), "nothing has run");
    let output = run(&home, &["--hide", &hide, "--degrade"], "touch ran; touch ../outside/ran");
    let said = text(&output);
    assert!(home.path("work/ran").exists() && !home.path("outside/ran").exists(), "{said}");
    assert!(said.contains("not held: hidden paths"), "{said}");
    let output = run(&home, &["--degrade", "--draft"], "true");
    assert_eq!(output.status.code(), Some(125), "a draft needs mounts: {}", text(&output));
}

/// A Stockade in another, whose supervisor carries out what is written.
#[test]
fn a_stockade_inside_another_says_that_it_cannot_narrow_what_is_written() {
    let home = Home::new();
    let own = env!("CARGO_BIN_EXE_stockade");
    let run = |option: &str| {
        let inner = "echo x > .env; echo x > src/ran; echo x > ~/notes.txt; exit 9";
        let script = format!("exec {own} run -q {option} -- sh -c '{inner}'");
        let mut command = Command::new(own);
        command.args(["run", "--", "sh", "-c", &script]).current_dir(home.path("work"));
        command.env_clear().env("HOME", home.path("")).env("PATH", "/usr/bin:/bin");
        command.output().unwrap()
    };
    let output = run("");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(said.contains("already runs inside Stockade"), "{said}");
    assert!(!home.path("work/src/ran").exists(), "nothing has run");
    let output = run("--degrade");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(9), "{said}");
    assert!(home.path("work/src/ran").exists(), "{said}");
    for kept in ["work/.env", "notes.txt"] {
        assert!(!fs::read_to_string(home.path(kept)).unwrap().contains('x'), "{kept}: {said}");
    }
}

/// A filter like that of Docker: nothing that makes or enters a namespace, no descriptors of others.
/// Numbers of x86-64; elsewhere they mean other calls.
const CONTAINER: &str = r#"
import ctypes, struct, os, sys
op = lambda code, yes, no, k: struct.pack("HBBI", code, yes, no, k)
fail, allow = (lambda errno: op(6, 0, 0, 0x50000 | errno)), op(6, 0, 0, 0x7fff0000)
program = [op(0x20, 0, 0, 0), op(0x15, 0, 1, 435), fail(38)]
program += [op(0x15, 0, 4, 56), op(0x20, 0, 0, 16), op(0x45, 0, 1, 0x7e020000), fail(1), allow]
for number in [165, 166, 155, 272, 308, 428, 429, 430, 431, 432, 433, 442, 438]:
    program += [op(0x15, 0, 1, number), fail(1)]
program.append(allow)
code = ctypes.create_string_buffer(b"".join(program))
header = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_void_p(ctypes.addressof(header)), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Threat model, F6, N1: where descriptors of others cannot be had either.
#[cfg(target_arch = "x86_64")]
#[test]
fn in_a_container_a_writing_run_starts_and_reaches_nothing() {
    let home = Home::new();
    let git = Command::new("git").args(["init", "-q"]).current_dir(home.path("work")).status();
    assert!(git.unwrap().success());
    let script = "echo x > .git/hooks/pre-commit; echo own > /tmp/a; cat /tmp/a; touch src/ran; \
                  python3 -c 'import os; os.fchmod(os.open(\"src/ran\", 0), 0o700)'; \
                  python3 -c 'import pty; pty.spawn([\"tty\"])'; \
                  python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 1))'; exit 3";
    let mut command = Command::new("python3");
    command.args([
        "-c",
        CONTAINER,
        env!("CARGO_BIN_EXE_stockade"),
        "run",
        "--",
        "sh",
        "-c",
        script,
    ]);
    command.current_dir(home.path("work"));
    command.env_clear().env("HOME", home.path("")).env("PATH", "/usr/bin:/bin");
    let output = command.output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("nor `pidfd_getfd`") && said.contains("--cap-add"), "{said}");
    assert!(said.contains("\nown\n") && said.contains("/dev/pts/"), "{said}");
    assert!(said.contains("PermissionError"), "no network: {said}");
    assert_eq!(fs::metadata(home.path("work/src/ran")).unwrap().mode() & 0o777, 0o700, "{said}");
    assert!(!home.path("work/.git/hooks/pre-commit").exists(), "{said}");
}

/// Threat model, K2: in the second backend.
#[test]
fn nothing_outlives_a_run_and_the_guardian_cannot_be_ended() {
    let home = Home::new();
    let beat = home.path("work/src/beat");
    let script = "kill -9 $PPID && echo ENDED; (setsid sh -c 'echo $$ > src/beat; exec sleep 60' &) ; \
                  while ! test -s src/beat; do sleep 0.05; done";
    let output = run(&home, &["-q"], script);
    assert!(!text(&output).contains("ENDED"), "{}", text(&output));
    // The beating process had written its number; nobody has it any more.
    let pid = fs::read_to_string(&beat).unwrap();
    assert!(!std::path::Path::new("/proc").join(pid.trim()).exists(), "{pid} is still there");
}

/// A folder and a program below `/tmp` are reached by that name, by many threads and under signals.
#[test]
fn a_call_that_the_kernel_alone_carries_out_is_led_into_the_runs_own_tmp() {
    let home = Home::new();
    fs::write(home.path("work/src/led.py"), LED).unwrap();
    let output = run(&home, &[], "exec python3 src/led.py");
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for line in [
        "missing 2 2",
        "script True",
        "spawned 7",
        "threads 0",
        "signals True True",
        "shell /tmp/a/deep",
        "here True",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert!(!fs::exists("/tmp/a/deep/stockade-led").unwrap(), "the host's own stays as it is");
}

const LED: &str = r##"
import os, signal, subprocess, sys, threading
def errno(f):
    try: f(); return 0
    except OSError as e: return e.errno
work = os.getcwd()
os.makedirs("/tmp/a/deep"); open("/tmp/a/deep/stockade-led", "w").close()
print("missing", errno(lambda: os.chdir("/tmp/none")), errno(lambda: os.execv("/tmp/none", ["x"])))
with open("/tmp/s", "w") as f: f.write("#!/bin/sh\necho \"$0\"; exit 7\n")
os.chmod("/tmp/s", 0o755)
script = subprocess.run(["/tmp/s"], stdout=subprocess.PIPE, text=True)
print("script", script.stdout.endswith("/tmp/s\n"))
print("spawned", os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/tmp/s", ["s"], {}), 0)[1]))
failed = []
def change(n):
    for _ in range(40):
        if errno(lambda: os.chdir("/tmp/a/deep" if n % 2 else "/tmp/a")): failed.append(n)
threads = [threading.Thread(target=change, args=(n,)) for n in range(6)]
[t.start() for t in threads]; [t.join() for t in threads]
print("threads", len(failed))
came = [0]
def handler(*_): came[0] += 1
signal.signal(signal.SIGALRM, handler); signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
done, others = 0, set()
while done < 60 or not came[0]:
    # As for every trapped call, a signal may come before it was received (EINTR).
    e = errno(lambda: os.chdir("/tmp/a/deep")); done += e == 0; others |= {e} - {0, 4}
signal.setitimer(signal.ITIMER_REAL, 0)
print("signals", not others, came[0] > 0)
print("shell", subprocess.run("cd /tmp/a/deep && pwd", shell=True, stdout=subprocess.PIPE, text=True).stdout, end="")
print("here", os.path.exists("stockade-led"))
"##;
