//! Builds the guest agent as a static program and puts it into this crate.
//!
//! It is PID 1 of a machine without libraries, so it has to be static; the product, which looks
//! names up through the system's own resolver, must not be. One invocation of cargo has one set
//! of flags, hence a second one, in a target folder of its own. ADR 0010 has what else was tried.
//!
//! Where no static program can be linked the product is still built, and a machine is refused at
//! run time with the remedy.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the crate around this script reads with `include_bytes!`; empty when there is none.
const OUTPUT: &str = "stockade-guest";

fn main() -> io::Result<()> {
    let variable = |name: &str| env::var_os(name).ok_or_else(|| io::Error::other(name.to_owned()));
    let out = PathBuf::from(variable("OUT_DIR")?);
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..");
    for path in ["Cargo.toml", "Cargo.lock", "crates/stockade-guest"] {
        println!("cargo::rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let guest = build(&root, &out, &variable("TARGET")?).unwrap_or_else(|error| {
        println!("cargo::warning=no guest agent, so no microVMs: {error}");
        Vec::new()
    });
    fs::write(out.join(OUTPUT), guest)
}

fn build(root: &Path, out: &Path, target: &OsString) -> io::Result<Vec<u8>> {
    let folder = target_folder(out).join("guest");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(root)
        .args(["build", "--quiet", "--locked", "--package", "stockade-guest"])
        .args(["--bin", "stockade-guest", "--profile", "guest", "--target"])
        .arg(target)
        .arg("--target-dir")
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static")
        .env_remove("RUSTFLAGS");
    // Of the outer build: clippy as compiler would produce no program.
    for name in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET_DIR"] {
        command.env_remove(name);
    }
    let output = command.output()?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().rfind(|line| line.contains("error")).unwrap_or_default();
        return Err(io::Error::other(format!("it cannot be built as a static program ({last})")));
    }
    fs::read(folder.join(target).join("guest").join(OUTPUT))
}

/// The target folder of the outer build, which `OUT_DIR` lies in:
/// `TARGET-DIR[/TRIPLE]/PROFILE/build/PACKAGE-HASH/out`.
fn target_folder(out: &Path) -> PathBuf {
    let marked = out.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    marked.unwrap_or(out).to_owned()
}
