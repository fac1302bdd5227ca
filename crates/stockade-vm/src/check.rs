//! What machines need, one thing after the other, for a person who asks why none starts.
//!
//! [`look`] touches nothing and takes no time. [`boot`] starts machines without disks, whose PID 1
//! says one line and ends them; nothing else is an answer to whether they start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use crate::cache::Cache;
use crate::kernel::Kernel;
use crate::qemu::process::Enclosure;
use crate::system::Owner;
use crate::trial::Trial;
use crate::vm::{self, BootError, OWN_MEMORY};
use crate::walls::Walls;
use crate::{guest, initramfs, repository, system, tool};

/// Machines that are to be started some day.
#[derive(Debug, Clone)]
pub struct CheckSpec {
    /// As in [`VmSpec`](crate::VmSpec).
    pub cache: PathBuf,
    /// Memory of each.
    pub memory_bytes: u64,
    /// Walls around an emulated one.
    pub walls: Option<Arc<dyn Walls>>,
}

/// What came of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name, one word.
    pub name: &'static str,
    /// What is to be said of it; else why it is lost.
    pub result: Result<String, String>,
    /// What brings it back, in one line; empty when nobody knows.
    pub remedy: String,
}

impl Check {
    fn of(name: &'static str, result: Result<String, BootError>) -> Self {
        let remedy = result.as_ref().err().and_then(BootError::hint).unwrap_or_default();
        Self { name, result: result.map_err(|error| with_causes(&error)), remedy }
    }
}

pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Whether everything is there that a machine is made of.
pub fn look(spec: &CheckSpec) -> Vec<Check> {
    let agent = if guest::PROGRAM.is_empty() { Err(BootError::NoGuest) } else { Ok(String::new()) };
    let qemu = vm::qemu(&tool::find).map(|path| path.display().to_string());
    let kernel = Kernel::find().map(|kernel| kernel.release).map_err(BootError::from);
    let disks = tool::find(&[repository::TOOL]).map(|path| path.display().to_string());
    let disks = disks.ok_or_else(|| {
        let missing = tool::ToolError::Missing(repository::TOOL);
        BootError::Disk(missing.into())
    });
    let memory = vm::memory(spec.memory_bytes);
    vec![
        Check::of("guest-agent", agent),
        Check::of("qemu", qemu),
        Check::of("guest-kernel", kernel),
        Check::of("mke2fs", disks),
        Check::of("machine-memory", memory.map(|mib| format!("{mib} MiB are free for one"))),
    ]
}

/// Boots: under KVM, and emulated where that does not work. Also whether there is room for the
/// image of the system, which takes a while to be measured.
pub fn boot(spec: &CheckSpec) -> Vec<Check> {
    let space = Check::of("machine-space", space(spec));
    match Ready::new(spec) {
        Ok(ready) => [vec![space], ready.accelerators(spec)].concat(),
        Err(error) => vec![space, Check::of("machine", Err(error))],
    }
}

fn space(spec: &CheckSpec) -> Result<String, BootError> {
    let cache = open(spec)?;
    let image = system::wanted(&cache, Kernel::find().ok().as_ref(), Owner::of_this_process())?;
    Ok(image.map_or_else(
        || "the image of this system is there".to_owned(),
        |bytes| format!("the image of this system will take {} MiB", bytes >> 20),
    ))
}

fn open(spec: &CheckSpec) -> Result<Cache, BootError> {
    Cache::open(&spec.cache).map_err(|error| BootError::Host("open the cache", error))
}

/// What a trial needs.
struct Ready {
    cache: Cache,
    qemu: PathBuf,
    holder: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
}

impl Ready {
    fn new(spec: &CheckSpec) -> Result<Self, BootError> {
        let (cache, qemu) = (open(spec)?, vm::qemu(&tool::find)?);
        if guest::PROGRAM.is_empty() {
            return Err(BootError::NoGuest);
        }
        let kernel = Kernel::find()?;
        let host = |error| BootError::Host("write the guest agent", error);
        Ok(Self {
            holder: guest::file(&cache).map_err(host)?,
            initramfs: initramfs::of(&kernel, &cache)?,
            kernel: kernel.unpacked(&cache, &|| false)?,
            cache,
            qemu,
        })
    }

    fn accelerators(&self, spec: &CheckSpec) -> Vec<Check> {
        let trial = Trial {
            holder: &self.holder,
            qemu: &self.qemu,
            kernel: &self.kernel,
            initramfs: &self.initramfs,
        };
        let began = Instant::now();
        let kvm = trial.anew(&self.cache).map_err(|error| error.to_string());
        let kvm = Check {
            name: "kvm",
            result: kvm.and_then(|chosen| match chosen.why {
                None => Ok(format!("a machine started in {}", seconds(began))),
                Some(why) => Err(why),
            }),
            remedy:
                "virtualisation in the firmware, or nested in the host's; `sudo adduser $USER kvm`"
                    .to_owned(),
        };
        if kvm.result.is_ok() {
            return vec![kvm];
        }
        vec![kvm, self.emulation(&trial, spec)]
    }

    fn emulation(&self, trial: &Trial<'_>, spec: &CheckSpec) -> Check {
        let began = Instant::now();
        let enclosure = spec.walls.as_deref().map(|walls| Enclosure {
            walls,
            readable: vec![self.kernel.clone(), self.initramfs.clone()],
            writable: Vec::new(),
            memory_bytes: OWN_MEMORY,
        });
        let tried = tempfile::tempdir()
            .and_then(|folder| trial.emulated(folder.path(), enclosure))
            .map_err(|error| error.to_string());
        let result = tried.and_then(|failure| match failure {
            None => Ok(format!("a machine started in {}", seconds(began))),
            Some(why) => Err(why),
        });
        let remedy = "another kernel (`sudo apt install linux-image-cloud-amd64`)".to_owned();
        Check { name: "emulation", result, remedy }
    }
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}
