//! The Debian package: what is in it, and that dpkg puts it in place and takes it away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::text;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

fn made(folder: &Path) -> PathBuf {
    let mut command = Command::new(repository().join("scripts/make-deb"));
    command.args(["--binary", env!("CARGO_BIN_EXE_stockade"), "--compression", "none", "--output"]);
    let output = command.arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
}

fn said(program: &str, arguments: &[&str], package: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(package).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// dpkg in a root of its own: as root in it, and without leaving it for scripts.
fn dpkg(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "dpkg", "--force-script-chrootless"]);
    // What it depends on is not in that root.
    command.args(["--force-depends", "--force-bad-path"]);
    command.arg(format!("--root={}", root.display())).arg("--log=/dev/null").args(arguments);
    command.output().unwrap()
}

/// Whether this machine's parser of profiles knows what the profile says.
fn takes(profile: &Path) -> bool {
    let mut parser = Command::new("apparmor_parser");
    let parser = parser.args(["--skip-kernel-load", "--skip-cache"]).arg(profile);
    parser.output().is_ok_and(|output| output.status.success())
}

/// What of the profile an older parser can read: all but the right that it is for.
fn without_namespaces(profile: &str) -> String {
    let known = |line: &&str| !line.contains("userns,") && !line.starts_with("abi ");
    profile.lines().filter(known).flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn a_package_has_the_binary_and_a_profile_and_can_be_installed() {
    if !["dpkg-deb", "dpkg", "readelf"].into_iter().all(has) {
        eprintln!("skipped: package: dpkg or readelf is not here");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let package = made(folder.path());
    let listed = said("dpkg-deb", &["--contents"], &package);
    for (mode, path) in [
        ("-rwxr-xr-x root/root", "./usr/bin/stockade"),
        ("-rw-r--r-- root/root", "./usr/share/stockade/apparmor.profile"),
        ("-rw-r--r-- root/root", "./usr/share/man/man1/stockade.1.gz"),
        ("-rw-r--r-- root/root", "./usr/share/bash-completion/completions/stockade"),
        ("-rw-r--r-- root/root", "./usr/share/doc/stockade/copyright"),
    ] {
        let is_listed = |line: &str| line.starts_with(mode) && line.ends_with(path);
        assert!(listed.lines().any(is_listed), "{mode} {path}: {listed}");
    }
    assert!(!listed.contains("rws"), "nothing is set-id: {listed}");
    let fields = said("dpkg-deb", &["--field"], &package);
    let field = |name: &str| {
        let value = fields.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_else(|| panic!("{name}: {fields}"))
    };
    assert_eq!(field("Package"), "stockade");
    assert_eq!(field("Version"), env!("CARGO_PKG_VERSION"));
    assert!(field("Depends").starts_with("libc6 (>= 2."), "{fields}");
    assert!(field("Installed-Size").parse::<u64>().unwrap() > 1000, "{fields}");
    let again = tempfile::tempdir().unwrap();
    let (first, second) = (fs::read(&package).unwrap(), fs::read(made(again.path())).unwrap());
    assert!(first == second, "the same binary gives the same package");
    drop(again);

    let root = folder.path().join("root");
    for name in ["info", "updates", "triggers"] {
        fs::create_dir_all(root.join("var/lib/dpkg").join(name)).unwrap();
    }
    for name in ["status", "available"] {
        fs::write(root.join("var/lib/dpkg").join(name), "").unwrap();
    }
    let installed = dpkg(&root, &["--install", package.to_str().unwrap()]);
    assert!(installed.status.success(), "{}", text(&installed));
    let binary = Command::new(root.join("usr/bin/stockade")).arg("--version").output().unwrap();
    assert!(text(&binary).contains(env!("CARGO_PKG_VERSION")), "{}", text(&binary));
    let profile = root.join("etc/apparmor.d/stockade");
    if takes(&root.join("usr/share/stockade/apparmor.profile")) {
        let shipped = fs::read(repository().join("packaging/apparmor.profile")).unwrap();
        assert_eq!(fs::read(&profile).unwrap(), shipped);
    } else {
        assert!(!profile.exists(), "an AppArmor that does not know it would fail at each boot");
        eprintln!("skipped: package: no AppArmor 4.0 here, which alone knows the profile's right");
        if has("apparmor_parser") {
            let text = fs::read_to_string(repository().join("packaging/apparmor.profile")).unwrap();
            let older = folder.path().join("older.profile");
            fs::write(&older, without_namespaces(&text)).unwrap();
            assert!(takes(&older), "the rest of it is in order");
        }
    }
    let removed = dpkg(&root, &["--remove", "stockade"]);
    assert!(removed.status.success(), "{}", text(&removed));
    assert!(!root.join("usr/bin/stockade").exists() && !profile.exists());
}
