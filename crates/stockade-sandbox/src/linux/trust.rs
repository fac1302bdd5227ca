//! The files of certificates that programs inside trust: the system's, and the gateway's after them.
//! Java virtual machines of the system have a file of their own.

mod java;

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use stockade_policy::environment::{BUNDLES, JAVA_STORES};

use super::covers;
use super::failure::{Failure, step};
use super::mounts::open_quietly;

/// Larger than any bundle of certificates; in bytes.
const FILE_BYTES: u64 = 4 << 20;
/// Their names in the scratch.
const NAME: &str = "certificates";
const JAVA_NAME: &str = "java-certificates";
/// In a folder that the command sees.
const JAVA_BESIDE: &str = "stockade-java-certificates";

/// What is to stand over the system's files; they are read before the view is built.
#[derive(Debug)]
pub(crate) struct Trust {
    files: Vec<PathBuf>,
    text: String,
    /// Of Java virtual machines, each with what is to stand over it.
    stores: Vec<(PathBuf, Vec<u8>)>,
}

impl Trust {
    /// `None` when nobody is to be trusted beside those that the system trusts.
    pub(crate) fn of(authorities: &str) -> Result<Option<Self>, Failure> {
        if authorities.is_empty() {
            return Ok(None);
        }
        let files = found(BUNDLES);
        let mut text = String::new();
        for file in &files {
            read(file, &mut text).map_err(step("read the certificates in", file))?;
            text.push('\n');
        }
        let store = |path: PathBuf| {
            let mut old = Vec::new();
            let read =
                File::open(&path).and_then(|file| file.take(FILE_BYTES).read_to_end(&mut old));
            read.map_err(step("read the certificates in", &path))?;
            let new = java::store(&old, &text, authorities);
            Ok((path, new))
        };
        let stores = found(JAVA_STORES).into_iter().map(store).collect::<Result<_, Failure>>()?;
        text.push_str(authorities);
        Ok(Some(Self { files, text, stores }))
    }

    /// Writes one file with them all at `path`, which nobody has yet.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let made = File::options().write(true).create_new(true).mode(0o444).open(path);
        made?.write_all(self.text.as_bytes())
    }

    /// Makes in `folder` what is read in the place of each file: pairs of a real path, and what stands
    /// for it. `all` has been written with them all.
    pub(crate) fn beside(&self, folder: &Path, all: &Path) -> io::Result<Vec<(PathBuf, PathBuf)>> {
        let bundles = self.files.iter().map(|file| (file.clone(), all.to_owned()));
        let mut pairs: Vec<_> = bundles.collect();
        let place = covers::place(folder)?;
        for (index, (path, store)) in self.stores.iter().enumerate() {
            let name = format!("{JAVA_BESIDE}-{index}");
            covers::make(&place, &name, (0o444, store))?;
            pairs.push((path.clone(), folder.join(name)));
        }
        Ok(pairs)
    }

    /// Puts one file over each; `scratch` is the private tmpfs.
    pub(crate) fn stand(&self, scratch: &OwnedFd) -> Result<(), Failure> {
        put(scratch, (NAME, self.text.as_bytes()), &self.files)?;
        for (index, (path, store)) in self.stores.iter().enumerate() {
            let name = format!("{JAVA_NAME}-{index}");
            put(scratch, (&name, store), std::slice::from_ref(path))?;
        }
        Ok(())
    }
}

/// Those of `paths` that are there, each once.
fn found(paths: &[&str]) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        paths.iter().filter_map(|path| std::fs::canonicalize(path).ok()).collect();
    files.sort();
    files.dedup();
    files
}

/// Makes a file in the scratch, and puts it over each of `files`.
fn put(
    scratch: &OwnedFd,
    (name, content): (&str, &[u8]),
    files: &[PathBuf],
) -> Result<(), Failure> {
    covers::make(scratch, name, (0o444, content))
        .map_err(step("make a file of certificates in", "/"))?;
    for path in files {
        let target = open_quietly(path).map_err(step("open", path))?;
        covers::lay(scratch, name, (&target, path))?;
    }
    Ok(())
}

fn read(path: &Path, text: &mut String) -> io::Result<()> {
    File::open(path)?.take(FILE_BYTES).read_to_string(text).map(drop)
}
