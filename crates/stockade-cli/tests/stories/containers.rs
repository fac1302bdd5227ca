//! Docker and other features of a kernel, in a machine whose command is root.
//!
//! Needs `dockerd` and a static busybox, beside what every machine needs. Docker's service does not run here.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use crate::machine::{is_there, nobody};
use crate::place::{Place, text, users};

/// A static busybox, where Docker is installed too.
fn busybox() -> Option<PathBuf> {
    let folders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/bin"];
    let find = |name: &str| {
        folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.exists())
    };
    let missing = ["dockerd", "docker", "busybox"].into_iter().find(|name| find(name).is_none());
    if let Some(missing) = missing {
        let expected = env::var("STOCKADE_EXPECT").is_ok_and(|list| list.contains("vm"));
        assert!(!expected, "`{missing}` is not installed");
        let line = format!("skipped: Docker in a machine: no `{missing}`\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        return None;
    }
    find("busybox")
}

fn project() -> Place {
    let place = Place::with(*users().last().unwrap(), |work| {
        fs::create_dir_all(work.join("src")).unwrap();
        fs::write(work.join("src/a.txt"), "from the workspace\n").unwrap();
        let text = "FROM base\nCOPY a.txt /a.txt\nRUN cat /a.txt > /b.txt; id -u >> /b.txt\n";
        fs::write(work.join("src/Dockerfile"), text).unwrap();
        fs::write(work.join(".gitignore"), "node_modules/\n").unwrap();
    });
    place.commit();
    // That of the other stories denies `docker`.
    fs::write(place.home().join(".config/stockade/config.toml"), "").unwrap();
    place
}

/// What is done there; `$1` is a busybox. The first word to Docker starts it.
const LINES: &str = r#"
set -e
mkdir -p /tmp/root/bin /tmp/root/tmp /tmp/root/etc /tmp/root/proc
cp "$1" /tmp/root/bin/busybox
for name in sh cat id echo nc sleep; do ln -s busybox /tmp/root/bin/$name; done
tar -C /tmp/root -c . | docker import - base > /dev/null
docker info --format 'driver {{.Driver}}'
docker build -q -t made src 2> /dev/null | cut -c 1-7
docker run --rm made cat /b.txt
docker run --rm -v "$PWD/src:/work" base sh -c 'echo from the container > /work/out.txt'
docker save made | wc -c | grep -q ...... && echo saved
docker run -d --name server base sh -c 'echo answer | nc -l -p 80' > /dev/null
at=$(docker inspect -f '{{.NetworkSettings.IPAddress}}' server)
docker run --rm base sh -c "for i in 1 2 3 4 5 6; do nc $at 80 && break; sleep 1; done"
docker run --rm --memory 64m base cat /sys/fs/cgroup/memory.max
git status --short
"#;

#[test]
fn docker_builds_and_runs_in_a_machine_on_the_users_files() {
    let (true, Some(busybox)) = (is_there(), busybox()) else { return };
    let place = project();
    let busybox = busybox.canonicalize().unwrap();
    let shell = ["run", "-q", "--vm=root", "--", "sh", "-c", LINES, "sh"];
    let words = [&shell[..], &[busybox.to_str().unwrap()]].concat();
    let output = place.stockade(&nobody(), &words);
    assert!(output.status.success(), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "driver overlay2\nsha256:\nfrom the workspace\n0\nsaved\nanswer\n67108864\n?? src/out.txt\n";
    assert_eq!(said, expected, "{}", text(&output));
    let written = fs::read_to_string(place.work().join("src/out.txt")).unwrap();
    assert_eq!(written, "from the container\n");
    // An ordinary user of the machine is told what to do.
    let plain = place.stockade(&nobody(), &["run", "-q", "--vm", "--", "docker", "info"]);
    assert!(!plain.status.success(), "{}", text(&plain));
    assert!(text(&plain).contains("`docker` needs root of the machine: `--vm=root`"), "{plain:?}");
}

/// Each needs a module of the kernel, a device that brings one, or a file system that is no overlay.
const KERNEL: &str = r#"
set -e
truncate -s 16M /var/tmp/disk; mke2fs -q -t ext4 /var/tmp/disk; mkdir -p /mnt/a /mnt/b
mount -o loop /var/tmp/disk /mnt/a; touch /mnt/a/file; ls /mnt/a | head -n 1
mkdir -p /var/tmp/l /var/tmp/u /var/tmp/w
mount -t overlay o -o lowerdir=/var/tmp/l,upperdir=/var/tmp/u,workdir=/var/tmp/w /mnt/b && echo overlay
for kind in dummy wireguard bridge; do ip link add x-$kind type $kind && echo $kind; done
ip netns add other && ip netns exec other ip -o link | cut -d: -f2
modprobe sch_netem && grep -o ^sch_netem /proc/modules
ls /sys/fs/cgroup/cgroup.controllers; test -c /dev/net/tun; test -c /dev/fuse
unshare --mount --pid --fork --net --uts --ipc --cgroup sh -c 'echo $$'
mount | grep -c ' /var .*nosuid' || true
python3 -c 'import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132); print("sctp")'
ls -l /var/run | sed 's/.*-> //'
su agent -c 'id -un'; runuser -u agent -- id -un; wc -c < /etc/machine-id
stat -c '%a %U' /etc/sudoers
"#;

#[test]
fn root_of_a_machine_has_all_that_its_kernel_can_do_and_others_load_nothing() {
    if !is_there() {
        return;
    }
    let place = project();
    let output = place.stockade(&nobody(), &["run", "-q", "--vm=root", "--", "sh", "-c", KERNEL]);
    assert!(output.status.success(), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let expected = "file\noverlay\ndummy\nwireguard\nbridge\n lo\nsch_netem\n\
                    /sys/fs/cgroup/cgroup.controllers\n1\n0\nsctp\n/run\nagent\nagent\n33\n440 root\n";
    assert_eq!(said, expected, "{}", text(&output));
    // SCTP is a module, and its sockets are anybody's where modules are.
    let line = "cat /proc/sys/kernel/modules_disabled; python3 -c \
                'import socket; socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)' 2>&1 | tail -n 1; \
                ls /usr/lib/modules/$(uname -r)/modules.dep";
    let output = place.stockade(&nobody(), &["run", "-q", "--vm", "--", "sh", "-c", line]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.starts_with("1\nOSError: ") && said.contains("not supported"), "{said}");
    assert!(said.ends_with("/modules.dep\n"), "there, and of no use: {said}");
}
