//! A machine: from what is wanted to a channel into it, and its end.

use std::fs;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use stockade_guest::{ChannelError, Client, Parameters};

use crate::cache::Cache;
use crate::kept::Kept;
use crate::kernel::{Kernel, KernelError};
use crate::program::{self, Shown};
use crate::qemu::args::{self, Accelerator, Disks, Machine};
use crate::qemu::process::{Enclosure, Process, Start};
use crate::repository::{self, DiskError};
use crate::system::{self, ImageError, Owner};
use crate::tool::{self, ToolError};
use crate::trial::{Chosen, Trial};
use crate::walls::Walls;
use crate::{guest, initramfs};

/// How long a machine may take until its agent greets: emulated ones on a busy host are slow.
pub(crate) const BOOT_MAX: Duration = Duration::from_secs(90);

/// How long a machine may take to switch itself off.
const END_MAX: Duration = Duration::from_secs(5);

/// What QEMU uses beside the guest's memory, at most: its translations of the guest's code take
/// up to a gibibyte, as it comes.
pub(crate) const OWN_MEMORY: u64 = 2 << 30;

/// How often a boot asks whether it is to stop.
const STOP_POLL: Duration = Duration::from_millis(50);

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
    /// `None` tries which one works.
    pub accelerator: Option<Accelerator>,
    /// Walls around QEMU itself. Under KVM there are none: its device is not behind them, said.
    pub walls: Option<Arc<dyn Walls>>,
}

/// A part of a boot that takes time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Kernel, initial file system and image of the system; nothing to do the second time.
    Image,
    /// The repository's disk.
    Disk,
    /// Until the guest's agent has greeted.
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
        let qemu = qemu()?;
        let memory_mib = memory(spec.memory_bytes)?;
        let owner = Owner::of_this_process();
        let cache = Cache::open(&spec.cache).map_err(|e| BootError::Host("open the cache", e))?;
        let system = in_phase(Phase::Image, progress, |progress| {
            let say = &mut |note| progress(Progress::Note(note));
            Prepared::new(&cache, spec, owner, (stop, say))
        })?;
        check(stop)?;
        let disk = std::path::absolute(spec.state.join("repository.ext4"))
            .map_err(|error| BootError::Host("find the folder of the machine", error))?;
        in_phase(Phase::Disk, progress, |_| {
            repository::make(&spec.repository, &disk, spec.disk_bytes, owner, stop).map_err(
                |error| {
                    if matches!(error, DiskError::Tool(ToolError::Stopped)) {
                        return BootError::Stopped;
                    }
                    error.into()
                },
            )
        })?;
        check(stop)?;
        let setup = spec.setup.as_ref();
        let kept = setup.map(|setup| Kept::new(&cache, setup, &system.image));
        let archive = kept.as_ref().and_then(Kept::file).map(Path::to_owned);
        let chosen = system.choose(&qemu, &cache, spec.accelerator, &mut |note| {
            progress(Progress::Note(note));
        })?;
        if let Some(why) = &chosen.why {
            let note = format!("the machine is emulated in software, which is slow: {why}");
            progress(Progress::Note(note));
        }
        let machine = Machine {
            kernel: system.kernel.clone(),
            initramfs: system.initramfs.clone(),
            disks: Some(system.disks(&disk, archive.as_ref())),
            memory_mib,
            cpus: spec.cpus,
            accelerator: chosen.accelerator,
            parameters: Some(parameters(spec, owner, (&archive, &system.program))),
            counter_khz: counter_khz(chosen.accelerator),
        };
        let is_emulated = chosen.accelerator == Accelerator::Emulation;
        if spec.walls.is_some() && !is_emulated {
            let note = "QEMU has the device of KVM, and so no boundary of Stockade's around it";
            progress(Progress::Note(note.to_owned()));
        }
        let walls = spec.walls.as_deref().filter(|_| is_emulated);
        let start = Start {
            holder: &system.holder,
            qemu: &qemu,
            arguments: args::of(&machine),
            folder: &spec.state,
            enclosure: walls.map(|walls| Enclosure {
                walls,
                readable: [machine.kernel, machine.initramfs, system.image.clone()]
                    .into_iter()
                    .chain(archive)
                    .chain(system.program.clone())
                    .collect(),
                writable: vec![disk.clone()],
                // QEMU's own, and what it has translated.
                memory_bytes: spec.memory_bytes + OWN_MEMORY,
            }),
        };
        let (process, client) = in_phase(Phase::Boot, progress, |_| start_machine(&start, stop))?;
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
            initramfs: initramfs::of(&kernel, cache, spec.is_root)?,
            image: system::image(cache, &spec.toolchains, owner, (stop, say))
                .map_err(BootError::of_image)?,
            program: program::image(cache, &spec.program, (stop, say))
                .map_err(BootError::of_image)?,
        })
    }

    fn disks(&self, repository: &Path, setup: Option<&PathBuf>) -> Disks {
        Disks {
            system: self.image.clone(),
            repository: repository.to_owned(),
            setup: setup.cloned(),
            program: self.program.clone(),
        }
    }

    fn choose(
        &self,
        qemu: &Path,
        cache: &Cache,
        wanted: Option<Accelerator>,
        say: &mut dyn FnMut(String),
    ) -> Result<Chosen, BootError> {
        if let Some(accelerator) = wanted {
            return Ok(Chosen { accelerator, why: None });
        }
        let trial =
            Trial { holder: &self.holder, qemu, kernel: &self.kernel, initramfs: &self.initramfs };
        trial.choose(cache, say).map_err(|error| BootError::Host("try KVM", error))
    }
}

pub(crate) fn qemu() -> Result<PathBuf, BootError> {
    if !cfg!(target_arch = "x86_64") {
        return Err(BootError::Architecture);
    }
    tool::find(&["qemu-system-x86_64", "qemu-kvm"]).ok_or(BootError::NoQemu)
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
        clock: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
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

fn start_machine(
    start: &Start<'_>,
    stop: &dyn Fn() -> bool,
) -> Result<(Process, Client), BootError> {
    let host = |error| BootError::Host("start the machine", error);
    let (own, guests) = UnixStream::pair().map_err(host)?;
    let reader = own.try_clone().map_err(host)?;
    let process = Process::start(start, guests).map_err(host)?;
    let (sender, greeted) = mpsc::channel();
    thread::Builder::new()
        .name("greeting".to_owned())
        .spawn(move || sender.send(Client::connect_within(reader, own, BOOT_MAX)).ok())
        .map_err(host)?;
    let connected = loop {
        match greeted.recv_timeout(STOP_POLL) {
            Ok(connected) => break connected,
            // The machine is killed with `process`, which ends the thread as well.
            Err(RecvTimeoutError::Timeout) if stop() => return Err(BootError::Stopped),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break Err(ChannelError::Lost),
        }
    };
    match connected {
        Ok(client) => Ok((process, client)),
        Err(ChannelError::Lost) => {
            // Its last words come with its end.
            process.wait(END_MAX);
            Err(BootError::Ended { said: process.last_words() })
        }
        Err(source) => Err(BootError::Silent { said: process.last_words(), source }),
    }
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
}
