//! ssh's configuration of the system, as programs inside read it: ours first, which names the keys of
//! the hosts that it may know, and then the host's own.
//!
//! ssh takes included files from root and from its user alone (`ssh_config(5)`). Root is nobody in a
//! user's namespace, so these are copies of the user's.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use stockade_policy::environment::glob;

use super::covers;
use super::failure::{Failure, step};
use super::mounts::open_quietly;
use super::ssh::KNOWN_HOSTS;

/// The file that is read first, and the folder where names in it begin.
const MAIN: &str = "/etc/ssh/ssh_config";
const FOLDER: &str = "/etc/ssh";
/// What ssh looks up beside the user's own file, when nothing else is said.
const KNOWN_BY_ALL: &str = "/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2";
/// Larger than any such file that a person or a tool wrote; in bytes.
const FILE_BYTES: u64 = 1 << 20;
/// More files than any machine has.
const FILES_MAX: usize = 64;

/// What is to stand over the system's files; they are read before the view is built.
#[derive(Debug)]
pub(crate) struct Configuration(Vec<Part>);

#[derive(Debug)]
struct Part {
    path: PathBuf,
    /// Its device and number: what stands there inside may be something else.
    identity: (u64, u64),
    text: Vec<u8>,
}

impl Configuration {
    /// What stands in the system's file and in what that includes; `folder` is where programs see
    /// the keys of hosts. Without such a file nothing is said.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut parts: Vec<Part> = Vec::new();
        let mut next = vec![PathBuf::from(MAIN)];
        while let Some(path) = next.pop() {
            let Some(part) = Part::read(&path) else { continue };
            if parts.len() < FILES_MAX && parts.iter().all(|known| known.path != part.path) {
                next.extend(included(&String::from_utf8_lossy(&part.text)));
                parts.push(part);
            }
        }
        if let Some(main) = parts.first_mut() {
            // What is said first holds.
            let known = folder.join(KNOWN_HOSTS);
            let ours = format!("GlobalKnownHostsFile {} {KNOWN_BY_ALL}\n", known.display());
            main.text.splice(0..0, ours.into_bytes());
        }
        Self(parts)
    }

    /// Makes in `folder` what is read in the place of each: pairs of a real path, and what stands for it.
    pub(crate) fn beside(&self, folder: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let place = covers::place(folder)?;
        let make = |(index, part): (usize, &Part)| {
            let name = format!("stockade-ssh-configuration-{index}");
            covers::make(&place, &name, (0o444, &part.text))?;
            Ok((part.path.clone(), folder.join(name)))
        };
        self.0.iter().enumerate().map(make).collect()
    }

    /// Puts one file over each that programs could read; `scratch` is the private tmpfs.
    pub(crate) fn stand(&self, scratch: &OwnedFd) -> Result<(), Failure> {
        for (index, Part { path, identity, text }) in self.0.iter().enumerate() {
            let Ok(target) = open_quietly(path) else { continue };
            if identity_of(&target).ok() != Some(*identity) {
                continue;
            }
            let name = format!("ssh-configuration-{index}");
            covers::make(scratch, &name, (0o444, text)).map_err(step("make a file for", path))?;
            covers::lay(scratch, &name, (&target, path))?;
        }
        Ok(())
    }
}

impl Part {
    /// A file that is none, or that nobody may read, is one that ssh would not find either.
    fn read(path: &Path) -> Option<Self> {
        let path = fs::canonicalize(path).ok()?;
        // What has no end does not wait.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(&path).ok()?;
        if !file.metadata().is_ok_and(|it| it.is_file() && it.len() <= FILE_BYTES) {
            return None;
        }
        let identity = identity_of(&file).ok()?;
        let mut text = Vec::new();
        file.take(FILE_BYTES).read_to_end(&mut text).ok()?;
        Some(Self { path, identity, text })
    }
}

fn identity_of(file: impl AsFd) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The files that `text` includes. Patterns are those of names in one folder.
fn included(text: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in text.lines() {
        let mut words = line.split(|at: char| at.is_whitespace() || at == '=' || at == '"');
        let mut words = words.by_ref().filter(|word| !word.is_empty());
        if !words.next().is_some_and(|word| word.eq_ignore_ascii_case("include")) {
            continue;
        }
        for pattern in words {
            let path = Path::new(FOLDER).join(pattern);
            let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let name = name.as_encoded_bytes();
            if !name.contains(&b'*') && !name.contains(&b'?') {
                files.push(path);
                continue;
            }
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let matches = entries.filter(|it| glob(name, it.file_name().as_encoded_bytes()));
            files.extend(matches.map(|entry| entry.path()));
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn included_files_are_found_as_ssh_does() {
        let lab = tempfile::tempdir().unwrap();
        for name in ["10-a.conf", "20-b.conf", "note.txt"] {
            fs::write(lab.path().join(name), "").unwrap();
        }
        let text = format!(
            "# Include /etc/no\n  include \"{0}/*.conf\"\nHost x\n Include={0}/note.txt own.conf\nincluded y\n",
            lab.path().display()
        );
        let mut found = included(&text);
        found.sort();
        let mut expected =
            ["10-a.conf", "20-b.conf", "note.txt"].map(|name| lab.path().join(name)).to_vec();
        expected.push(PathBuf::from("/etc/ssh/own.conf"));
        expected.sort();
        assert_eq!(found, expected);
    }
}
