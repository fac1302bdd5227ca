//! The layers that take what runs write to the user's caches: one for each workspace, kept from
//! run to run, in Stockade's own cache folder.
//!
//! One run at a time owns the layer of its workspace. A run beside it has one of its own,
//! over what is the user's, which is gone with it. What another agent's runs may have written is not for this one: an
//! agent is shown its log-in, so its layer is apart.
//!
//! What lies in a layer was written by what ran inside: it is never followed, and nothing of it is
//! run here.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use stockade_policy::{AbsPath, Policy};
use stockade_sandbox::Layer;

use crate::folder::{self, make_private, make_top};

/// Below Stockade's cache folder.
const LAYERS: &str = "layers";
/// In a layer: whose it is, as a path.
const WORKSPACE: &str = "workspace";
/// Runs beside the owner of a layer, at once.
const BESIDE_MAX: u32 = 256;

/// A layer that a run has to itself as long as this lives.
#[derive(Debug)]
pub struct Held {
    layer: Layer,
    /// Of a layer that goes with this run.
    passing: Option<PathBuf>,
    _lock: File,
}

impl Held {
    /// For the launch.
    pub fn layer(&self) -> Layer {
        self.layer.clone()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(folder) = &self.passing {
            // What is left is removed by the next run that finds it without an owner.
            remove(folder).ok();
        }
    }
}

/// Takes the layer of `policy`'s workspace for a run of `agent`, with everything in `folder`,
/// Stockade's cache folder, hidden from it. `None` when there is no cache to lay it over.
///
/// # Errors
///
/// When the folder cannot be written. The caches are then read-only.
pub fn take(folder: &Path, policy: &mut Policy, agent: &str) -> io::Result<Option<Held>> {
    let Some(home) = policy.home.clone().filter(|_| !policy.caches.is_empty()) else {
        return Ok(None);
    };
    let layers = folder.join(LAYERS);
    let own = layers.join(name_of(policy.workspace.as_path(), agent));
    if !own.is_dir() {
        make_top(&layers)?;
        make_private(&own)?;
    }
    let folder = canonical(folder)?;
    if !policy.hidden.contains(&folder) {
        policy.hidden.push(folder);
    }
    if let Some(lock) = lock(&own)? {
        let note = own.join(WORKSPACE);
        if !note.exists() {
            fs::write(note, policy.workspace.as_os_str().as_bytes())?;
        }
        let layer = layer(&home, &own)?;
        unmark(layer.work.as_path())?;
        return Ok(Some(Held { layer, passing: None, _lock: lock }));
    }
    for number in 0..BESIDE_MAX {
        let beside = own.join(format!("beside-{number}"));
        make_private(&beside)?;
        // Gone between the two calls: its owner ended. The next number is as good.
        let Some(lock) = lock(&beside).ok().flatten() else { continue };
        for name in ["upper", "work", "apart"] {
            remove(&beside.join(name))?;
        }
        let layer = layer(&home, &beside)?;
        return Ok(Some(Held { layer, passing: Some(beside), _lock: lock }));
    }
    Err(io::Error::other("too many runs in this workspace at once"))
}

/// The name of a layer's folder: nothing of a workspace's own text gets into a path.
fn name_of(workspace: &Path, agent: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(workspace.as_os_str().as_bytes());
    hash.update([0]);
    hash.update(agent);
    let mut name = String::new();
    for byte in hash.finalize().iter().take(16) {
        write!(name, "{byte:02x}").expect("invariant: a string takes what is written");
    }
    name
}

fn canonical(path: &Path) -> io::Result<AbsPath> {
    AbsPath::new(folder::canonical(path)?).map_err(io::Error::other)
}

/// Its lock, unless another has it.
fn lock(folder: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600);
    let file = file.open(folder.join("lock"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn layer(home: &AbsPath, folder: &Path) -> io::Result<Layer> {
    let [upper, work] = ["upper", "work"].map(|name| folder.join(name));
    make_private(&upper)?;
    make_private(&work)?;
    Ok(Layer { at: home.clone(), upper: canonical(&upper)?, work: canonical(&work)? })
}

/// Takes the mark of a volatile overlay away, without which its folders can be used once only.
fn unmark(work: &Path) -> io::Result<()> {
    let inner = work.join("work");
    let incompatible = inner.join("incompat");
    let mark = incompatible.join("volatile");
    // The kernel made each of them closed to everybody. Not there: never used.
    for folder in [&inner, &incompatible, &mark] {
        match rustix::fs::chmod(folder, Mode::RWXU) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        }
    }
    fs::remove_file(mark.join("dirty"))?;
    fs::remove_dir(&mark)?;
    fs::remove_dir(&incompatible)
}

/// A layer as it is kept.
#[derive(Debug)]
pub struct Kept {
    /// The workspace that it belongs to.
    pub workspace: PathBuf,
    folder: PathBuf,
}

/// The layers in `folder`, Stockade's cache folder.
pub fn kept(folder: &Path) -> Vec<Kept> {
    use std::os::unix::ffi::OsStringExt as _;
    let Ok(list) = fs::read_dir(folder.join(LAYERS)) else { return Vec::new() };
    let one = |folder: PathBuf| {
        let workspace = fs::read(folder.join(WORKSPACE)).ok()?;
        let workspace = PathBuf::from(std::ffi::OsString::from_vec(workspace));
        Some(Kept { workspace, folder })
    };
    list.flatten().filter_map(|entry| one(entry.path())).collect()
}

impl Kept {
    /// Where it lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Removes it; `false` when a run has it now.
    ///
    /// # Errors
    ///
    /// When something of it cannot be removed.
    pub fn remove(&self) -> io::Result<bool> {
        let Some(_lock) = lock(&self.folder)? else { return Ok(false) };
        remove(&self.folder)?;
        Ok(true)
    }
}

/// Removes `folder` and all that is in it, however deep and whatever its modes: what ran inside
/// chose both. Folders are moved to the top one by one, so that neither the stack nor the length
/// of a path bounds how deep they lie.
fn remove(folder: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let top = match rustix::fs::openat(CWD, folder, flags, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0_u64;
    loop {
        let folders = unlink_files(&top)?;
        if folders.is_empty() {
            break;
        }
        for name in folders {
            rustix::fs::chmodat(&top, name.as_c_str(), Mode::RWXU, AtFlags::empty())?;
            let inner = rustix::fs::openat(&top, name.as_c_str(), flags, Mode::empty())?;
            for deeper in unlink_files(&inner)? {
                // A folder that is moved gets another parent, which it must be writable for.
                rustix::fs::chmodat(&inner, deeper.as_c_str(), Mode::RWXU, AtFlags::empty())?;
                moved += 1;
                rustix::fs::renameat(&inner, deeper.as_c_str(), &top, format!(".moved-{moved}"))?;
            }
            rustix::fs::unlinkat(&top, name.as_c_str(), AtFlags::REMOVEDIR)?;
        }
    }
    fs::remove_dir(folder)
}

/// Removes what is no folder in `folder`; the names of the rest.
fn unlink_files(folder: &OwnedFd) -> io::Result<Vec<std::ffi::CString>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR | Errno::PERM) => folders.push(name.to_owned()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use stockade_policy::{Limits, Mode as SandboxMode, Network};

    use super::*;

    fn policy(workspace: &str, caches: &[&str]) -> Policy {
        let absolute = |path: &str| AbsPath::new(path).unwrap();
        Policy {
            mode: SandboxMode::WorkspaceWrite,
            workspace: absolute(workspace),
            home: Some(absolute("/h")),
            writable: Vec::new(),
            protected: Vec::new(),
            hidden: Vec::new(),
            readable: Vec::new(),
            caches: caches.iter().map(|path| absolute(path)).collect(),
            tops: Vec::new(),
            unprotected: Vec::new(),
            awaited: Vec::new(),
            network: Network::default(),
            limits: Limits::for_memory(1 << 30),
        }
    }

    #[test]
    fn one_run_owns_a_layer_and_others_have_one_that_goes_with_them() {
        let lab = tempfile::tempdir().unwrap();
        let take = |workspace, agent| {
            let mut policy = policy(workspace, &["/h/.npm"]);
            let held = take(lab.path(), &mut policy, agent).unwrap().unwrap();
            assert!(held.layer.upper.as_path().starts_with(policy.hidden[0].as_path()));
            held
        };
        let first = take("/w", "");
        let second = take("/w", "");
        assert_ne!(first.layer.upper, second.layer.upper);
        let passing = second.layer.upper.clone();
        fs::create_dir_all(passing.as_path().join("a/b")).unwrap();
        drop(second);
        assert!(!passing.as_path().parent().unwrap().exists(), "gone with its run");
        for (workspace, agent) in [("/other", ""), ("/w", "claude")] {
            let other = take(workspace, agent);
            assert_ne!(other.layer.upper, first.layer.upper, "{workspace} {agent}");
            assert!(other.passing.is_none());
        }
        let own = first.layer.clone();
        drop(first);
        assert_eq!(take("/w", "").layer, own, "the next run has what the last one left");
        assert!(super::take(lab.path(), &mut policy("/w", &[]), "").unwrap().is_none());
    }

    #[test]
    fn a_layer_is_removed_whatever_is_in_it_unless_a_run_has_it() {
        let lab = tempfile::tempdir().unwrap();
        let outside = lab.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        let mut policy = policy("/w", &["/h/.npm"]);
        let held = take(&lab.path().join("cache"), &mut policy, "").unwrap().unwrap();
        let upper = held.layer.upper.as_path().to_owned();
        std::os::unix::fs::symlink(&outside, upper.join("link")).unwrap();
        let mut deep = rustix::fs::open(&upper, OFlags::RDONLY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&deep, "d", Mode::RWXU).unwrap();
            deep = rustix::fs::openat(&deep, "d", OFlags::RDONLY, Mode::empty()).unwrap();
        }
        let closed = upper.join("closed");
        fs::create_dir(&closed).unwrap();
        fs::write(closed.join("file"), "x").unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o0)).unwrap();
        let kept = kept(&lab.path().join("cache"));
        let [one] = &kept[..] else { panic!("{kept:?}") };
        assert_eq!(one.workspace, Path::new("/w"));
        assert!(!one.remove().unwrap(), "a run has it");
        drop(held);
        assert!(one.remove().unwrap());
        assert!(!one.folder().exists());
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
    }
}
