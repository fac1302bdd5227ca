//! A machine: from what is wanted to a channel into it, and its end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use stockade_guest::{ChannelError, Client, Parameters};

use crate::cache::{self, Cache};
use crate::engine::{Engine, Wanted};
use crate::kept::Kept;
use crate::kernel::{Kernel, KernelError};
use crate::program::{self, Shown};
use crate::qemu::args::{Accelerator, Disks};
use crate::qemu::process::Process;
use crate::repository::{self, DiskError};
use crate::system::{self, ImageError, Owner};
use crate::template;
use crate::tool::{self, ToolError};
use crate::trial::{Chosen, Trial};
use crate::walls::Walls;
use crate::{guest, initramfs};

/// How long a machine may take until its agent greets: emulated ones on a busy host are slow.
pub(crate) const BOOT_MAX: Duration = Duration::from_secs(90);

/// How long a machine may take to switch itself off.
pub(crate) const END_MAX: Duration = Duration::from_secs(5);

/// The least memory that a machine comes up and works with: kernel and initial file system take 60 MiB of it.
const LEAST_MIB: u64 = 96;

/// What QEMU uses beside the guest's memory, at most: its translations of the guest's code take
/// up to a gibibyte, as it comes.
pub(crate) const OWN_MEMORY: u64 = 2 << 30;

/// A machine that is wanted.
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// Folder for what is built once and shared: kernel, image of the system.
    pub cache: PathBuf,
    /// Folder of this machine alone, which exists; its disk is put there.
    pub state: PathBuf,
    /// A clone made for this machine; its files are given to the guest's user. Its index is believed:
    /// git alone has written what is in it.
    pub repository: PathBuf,
    /// Where the guest has the repository.
    pub folder: PathBuf,
    /// Whether the guest's commands are root there.
    pub is_root: bool,
    /// Folders of toolchains outside `/usr`, which the guest sees as they are.
    pub toolchains: Vec<PathBuf>,
    /// Files and folders of the host that the guest sees below [`stockade_guest::PROGRAM_FOLDER`].
    pub program: Vec<Shown>,
    /// Memory of the guest.
    pub memory_bytes: u64,
    /// Processors of the guest.
    pub cpus: u32,
    /// How large the repository's disk may grow.
    pub disk_bytes: u64,
    /// What the machine is to be set up for, if what that leaves is kept: see [`Vm::kept`].
    pub setup: Option<String>,
    /// Whether it is booted even where it could start from a template.
    pub is_booted: bool,
    /// `None` tries which one works.
    pub accelerator: Option<Accelerator>,
    /// Walls around QEMU itself. Under KVM there are none: its device is not behind them, said.
    pub walls: Option<Arc<dyn Walls>>,
}

/// A part of a boot that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Kernel, initial file system, image of the system, and a booted machine as a template; nothing to do
    /// the second time.
    Image,
    /// The repository's disk.
    Disk,
    /// Until the guest's agent has greeted, from a template or by a boot.
    Boot,
}

/// What a boot reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It begins.
    Started(Phase),
    /// It is over.
    Finished(Phase, Duration),
    /// Something that a person should know.
    Note(String),
}

/// No machine could be started. Nothing of one is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// This architecture has no `microvm` machine.
    #[error("not yet: microVMs on this architecture")]
    Architecture,
    /// The program was built where no static guest agent could be.
    #[error("this build of Stockade has no guest agent")]
    NoGuest,
    /// QEMU is not there.
    #[error("`qemu-system-x86_64` is not installed")]
    NoQemu,
    /// There is less memory than the machine is to have.
    #[error("the machine is to have {wanted_mib} MiB of memory, and {available_mib} MiB are free")]
    NoMemory {
        /// What it is to have.
        wanted_mib: u64,
        /// What the host can give.
        available_mib: u64,
    },
    /// No kernel comes up with so little.
    #[error("the machine is to have {wanted_mib} MiB of memory, and needs {} at least", LEAST_MIB)]
    LittleMemory {
        /// What it is to have.
        wanted_mib: u64,
    },
    /// No kernel.
    #[error("cannot prepare a kernel for the machine")]
    Kernel(#[from] KernelError),
    /// No image of the system.
    #[error("cannot prepare the system of the machine")]
    Image(#[from] ImageError),
    /// No disk.
    #[error("cannot prepare the repository of the machine")]
    Disk(#[from] DiskError),
    /// Something of the host failed.
    #[error("cannot {0}")]
    Host(&'static str, #[source] io::Error),
    /// The machine ended before its agent had greeted.
    #[error("the machine ended while it started ({said})")]
    Ended {
        /// The last that it said, for a person.
        said: String,
    },
    /// The agent did not greet.
    #[error("the machine did not come up ({said})")]
    Silent {
        /// The last that it said, for a person.
        said: String,
        /// What the channel says.
        source: ChannelError,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Stopped,
}

impl BootError {
    fn of_disk(error: DiskError) -> Self {
        let is_stopped = matches!(error, DiskError::Tool(ToolError::Stopped));
        if is_stopped { Self::Stopped } else { error.into() }
    }

    fn of_image(error: ImageError) -> Self {
        if matches!(error, ImageError::Stopped) { Self::Stopped } else { error.into() }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoGuest => Some(
                "build it again where `cc -static` links (Debian: `libc6-dev`, Fedora: \
                 `glibc-static`)"
                    .to_owned(),
            ),
            Self::NoQemu => Some("`sudo apt install qemu-system-x86`".to_owned()),
            Self::NoMemory { .. } => {
                Some("end something, or give the machine less: `[cloud] memory`".to_owned())
            }
            Self::LittleMemory { .. } => Some("more for `[cloud] memory`".to_owned()),
            Self::Kernel(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Disk(error) => error.hint(),
            Self::Architecture
            | Self::Host(..)
            | Self::Ended { .. }
            | Self::Silent { .. }
            | Self::Stopped => None,
        }
    }
}

/// A running machine. It ends when this is dropped, or this process does.
#[derive(Debug)]
pub struct Vm {
    client: Client,
    process: Process,
    chosen: Chosen,
    disk: PathBuf,
    kept: Option<Kept>,
}

impl Vm {
    /// Prepares what is missing and starts a machine. `stop` is asked often.
    ///
    /// # Errors
    ///
    /// [`BootError`]; nothing runs then.
    pub fn boot(
        spec: &VmSpec,
        stop: &dyn Fn() -> bool,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, BootError> {
        let qemu = programs(&tool::find)?;
        let memory_mib = memory(spec.memory_bytes)?;
        let owner = Owner::of_this_process();
        let cache = Cache::open(&spec.cache).map_err(|e| BootError::Host("open the cache", e))?;
        let (system, chosen, template) = in_phase(Phase::Image, progress, |progress| {
            let say: &mut dyn FnMut(String) = &mut |note| progress(Progress::Note(note));
            let system = Prepared::new(&cache, spec, owner, (stop, &mut *say))?;
            check(stop)?;
            let chosen = system.chosen(&qemu, &cache, spec, &mut *say)?;
            let engine = system.engine(spec, (&qemu, chosen.accelerator), memory_mib);
            let template = (!spec.is_booted).then(|| template::of(&engine, &cache, (stop, say)));
            Ok((system, chosen, template.transpose()?.flatten()))
        })?;
        check(stop)?;
        let host = |error| BootError::Host("use the folder of the machine", error);
        let disk = std::path::absolute(spec.state.join("repository.ext4")).map_err(host)?;
        let setup = spec.setup.as_ref();
        let kept = setup.map(|setup| Kept::new(&cache, setup, &system.image));
        let archive = kept.as_ref().and_then(Kept::file).map(Path::to_owned);
        let machine = Wanted {
            engine: system.engine(spec, (&qemu, chosen.accelerator), memory_mib),
            parameters: parameters(spec, owner, (&archive, &system.program)),
            disks: Disks {
                system: system.image.clone(),
                repository: Some(disk.clone()),
                setup: archive,
                program: system.program.clone(),
            },
            make_disk: &|| {
                // One that a machine has begun upon is another's file, as that may still write to it.
                cache::remove(&disk).map_err(host)?;
                repository::make(&spec.repository, &disk, spec.disk_bytes, owner, stop)
                    .map_err(BootError::of_disk)
            },
        };
        in_phase(Phase::Disk, progress, |_| (machine.make_disk)())?;
        check(stop)?;
        let (process, client) = in_phase(Phase::Boot, progress, |progress| {
            machine.start(template, stop, &mut |note| progress(Progress::Note(note)))
        })?;
        Ok(Self { client, process, chosen, disk, kept })
    }

    /// The channel into it.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where what its set-up leaves is kept. When there is some already the guest's user reads it,
    /// an archive, at [`stockade_guest::SETUP_ARCHIVE`].
    pub fn kept(&self) -> Option<&Kept> {
        self.kept.as_ref()
    }

    /// What carries out its instructions, and why.
    pub fn chosen(&self) -> &Chosen {
        &self.chosen
    }

    /// The last that the machine has said on its console, for a person.
    pub fn last_words(&self) -> String {
        self.process.last_words()
    }

    /// Ends it: in good order when it does so within five seconds, else by force. Its disk goes.
    ///
    /// # Errors
    ///
    /// When its disk could not be removed.
    pub fn stop(self) -> io::Result<()> {
        self.client.close();
        if self.process.wait(END_MAX).is_none() {
            self.process.kill();
            self.process.wait(END_MAX);
        }
        fs::remove_file(&self.disk)
    }
}

/// What is shared by all machines of a host.
struct Prepared {
    holder: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
    image: PathBuf,
    program: Option<PathBuf>,
}

impl Prepared {
    fn new(
        cache: &Cache,
        spec: &VmSpec,
        owner: Owner,
        (stop, say): (&dyn Fn() -> bool, &mut dyn FnMut(String)),
    ) -> Result<Self, BootError> {
        if guest::PROGRAM.is_empty() {
            return Err(BootError::NoGuest);
        }
        let kernel = Kernel::find()?;
        let host = |error| BootError::Host("write the guest agent", error);
        Ok(Self {
            holder: guest::file(cache).map_err(host)?,
            kernel: kernel.unpacked(cache, stop).map_err(|error| {
                if matches!(error, KernelError::Tool(ToolError::Stopped)) {
                    return BootError::Stopped;
                }
                error.into()
            })?,
            initramfs: initramfs::of(&kernel, cache)?,
            image: system::image(cache, (&spec.toolchains, &kernel), owner, (stop, say))
                .map_err(BootError::of_image)?,
            program: program::image(cache, &spec.program, (stop, say))
                .map_err(BootError::of_image)?,
        })
    }

    /// Who carries out a machine's instructions, and what a person should know of that.
    fn chosen(
        &self,
        qemu: &Path,
        cache: &Cache,
        spec: &VmSpec,
        say: &mut dyn FnMut(String),
    ) -> Result<Chosen, BootError> {
        let trial =
            Trial { holder: &self.holder, qemu, kernel: &self.kernel, initramfs: &self.initramfs };
        let chosen = match spec.accelerator {
            Some(accelerator) => Chosen { accelerator, why: None },
            None => trial.choose(cache, say).map_err(|e| BootError::Host("try KVM", e))?,
        };
        if let Some(why) = &chosen.why {
            say(format!("the machine is emulated in software, which is slow: {why}"));
        }
        if spec.walls.is_some() && chosen.accelerator == Accelerator::Kvm {
            say("QEMU has the device of KVM, and so no boundary of Stockade's around it".to_owned());
        }
        Ok(chosen)
    }

    fn engine<'a>(
        &'a self,
        spec: &'a VmSpec,
        (qemu, accelerator): (&'a Path, Accelerator),
        memory_mib: u64,
    ) -> Engine<'a> {
        let is_emulated = accelerator == Accelerator::Emulation;
        Engine {
            qemu,
            holder: &self.holder,
            folder: &spec.state,
            walls: spec.walls.as_deref().filter(|_| is_emulated),
            accelerator,
            memory_mib,
            cpus: spec.cpus,
            kernel: &self.kernel,
            initramfs: &self.initramfs,
            image: &self.image,
        }
    }
}

/// QEMU, when everything that a machine takes later is there as well: an image takes a minute to be built.
fn programs(find: &dyn Fn(&[&str]) -> Option<PathBuf>) -> Result<PathBuf, BootError> {
    let qemu = qemu(find)?;
    match find(&[repository::TOOL]) {
        Some(_) => Ok(qemu),
        None => Err(BootError::of_disk(ToolError::Missing(repository::TOOL).into())),
    }
}

pub(crate) fn qemu(find: &dyn Fn(&[&str]) -> Option<PathBuf>) -> Result<PathBuf, BootError> {
    if !cfg!(target_arch = "x86_64") {
        return Err(BootError::Architecture);
    }
    find(&["qemu-system-x86_64", "qemu-kvm"]).ok_or(BootError::NoQemu)
}

fn parameters(
    spec: &VmSpec,
    owner: Owner,
    (setup, program): (&Option<PathBuf>, &Option<PathBuf>),
) -> Parameters {
    Parameters {
        uid: owner.uid,
        gid: owner.gid,
        folder: spec.folder.clone(),
        is_root: spec.is_root,
        gives: owner.is_given_inside,
        has_setup: setup.is_some(),
        has_program: program.is_some(),
    }
}

pub(crate) fn counter_khz(accelerator: Accelerator) -> Option<u64> {
    match accelerator {
        Accelerator::Kvm => None,
        #[cfg(target_arch = "x86_64")]
        Accelerator::Emulation => Some(stockade_guest::counter_khz()),
        #[cfg(not(target_arch = "x86_64"))]
        Accelerator::Emulation => None,
    }
}

/// Mebibytes for QEMU, when the host has them to spare.
pub(crate) fn memory(bytes: u64) -> Result<u64, BootError> {
    let wanted_mib = bytes >> 20;
    if wanted_mib < LEAST_MIB {
        return Err(BootError::LittleMemory { wanted_mib });
    }
    let text = fs::read_to_string("/proc/meminfo")
        .map_err(|error| BootError::Host("see how much memory is free", error))?;
    // A kernel without this line is older than any that runs this.
    let available_mib = available(&text).unwrap_or(u64::MAX) >> 10;
    if wanted_mib > available_mib {
        return Err(BootError::NoMemory { wanted_mib, available_mib });
    }
    Ok(wanted_mib)
}

/// `MemAvailable` of `/proc/meminfo`, in KiB.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn check(stop: &dyn Fn() -> bool) -> Result<(), BootError> {
    if stop() { Err(BootError::Stopped) } else { Ok(()) }
}

fn in_phase<T>(
    phase: Phase,
    progress: &mut dyn FnMut(Progress),
    work: impl FnOnce(&mut dyn FnMut(Progress)) -> Result<T, BootError>,
) -> Result<T, BootError> {
    progress(Progress::Started(phase));
    let started = Instant::now();
    let done = work(progress)?;
    progress(Progress::Finished(phase, started.elapsed()));
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_the_host_can_give() {
        let text = "MemTotal:  100 kB\nMemAvailable:   24051512 kB\nBuffers: 1 kB\n";
        assert_eq!(available(text), Some(24_051_512));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert!(matches!(memory(u64::MAX), Err(BootError::NoMemory { .. })));
    }
    #[test]
    fn what_no_kernel_comes_up_with_is_refused_at_once() {
        let refused = memory((LEAST_MIB - 1) << 20).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "the machine is to have 95 MiB of memory, and needs 96 at least"
        );
        assert!(refused.hint().unwrap().contains("[cloud] memory"));
        assert!(memory(LEAST_MIB << 20).is_ok());
    }

    /// Before an image is built, which takes a minute.
    #[test]
    fn programs_that_are_needed_late_are_missed_at_once() {
        let without = |missing: &'static str| {
            programs(&move |names| {
                let name = names.iter().find(|name| **name != missing)?;
                Some(Path::new("/usr/bin").join(name))
            })
        };
        assert_eq!(without("none").unwrap(), Path::new("/usr/bin/qemu-system-x86_64"));
        let error = without(repository::TOOL).unwrap_err();
        assert!(matches!(&error, BootError::Disk(DiskError::Tool(ToolError::Missing("mke2fs")))));
        assert_eq!(error.hint().as_deref(), Some("`sudo apt install e2fsprogs`"));
        assert!(matches!(programs(&|_| None), Err(BootError::NoQemu)));
    }
}
