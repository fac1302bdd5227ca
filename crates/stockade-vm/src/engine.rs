//! From machines of one kind to one that runs: QEMU is started, and what it runs told whose it is.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use stockade_guest::{ChannelError, Client, Parameters};

use crate::qemu::args::{self, Accelerator, Disks, Machine, Origin};
use crate::qemu::process::{Enclosure, Process, Start};
use crate::template::Template;
use crate::vm::{self, BOOT_MAX, BootError, END_MAX, OWN_MEMORY};
use crate::walls::Walls;

/// How long a machine may take that starts from a template: more than ten times what it takes.
const START_MAX: Duration = Duration::from_secs(20);

/// How often a boot asks whether it is to stop.
const STOP_POLL: Duration = Duration::from_millis(50);

/// What all machines have in common that are of one kind.
#[derive(Clone, Copy)]
pub(crate) struct Engine<'a> {
    pub(crate) qemu: &'a Path,
    pub(crate) holder: &'a Path,
    pub(crate) folder: &'a Path,
    pub(crate) walls: Option<&'a dyn Walls>,
    pub(crate) accelerator: Accelerator,
    pub(crate) memory_mib: u64,
    pub(crate) cpus: u32,
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
    pub(crate) image: &'a Path,
}

impl Engine<'_> {
    /// One of them, for QEMU.
    pub(crate) fn machine(&self, disks: Disks, origin: Origin) -> Machine {
        Machine {
            kernel: self.kernel.to_owned(),
            initramfs: self.initramfs.to_owned(),
            disks: Some(disks),
            memory_mib: self.memory_mib,
            cpus: self.cpus,
            accelerator: self.accelerator,
            counter_khz: vm::counter_khz(self.accelerator),
            origin,
        }
    }

    /// Starts it, and returns its end of the channel.
    pub(crate) fn start(
        &self,
        machine: &Machine,
        origin: Option<OwnedFd>,
    ) -> Result<(Process, UnixStream), BootError> {
        let disks = machine.disks.iter();
        let read_only = disks.clone().flat_map(|disks| [&disks.setup, &disks.program]).flatten();
        let own = [self.kernel, self.initramfs, self.image].map(Path::to_owned);
        let enclosure = self.walls.map(|walls| Enclosure {
            walls,
            readable: own.into_iter().chain(read_only.cloned()).collect(),
            writable: disks.filter_map(|disks| disks.repository.clone()).collect(),
            // QEMU's own, and what it has translated.
            memory_bytes: (self.memory_mib << 20) + OWN_MEMORY,
        });
        let start = Start {
            holder: self.holder,
            qemu: self.qemu,
            arguments: args::of(machine),
            folder: self.folder,
            enclosure,
        };
        let host = |error| BootError::Host("start the machine", error);
        let (own, guests) = UnixStream::pair().map_err(host)?;
        Ok((Process::start(&start, origin, guests).map_err(host)?, own))
    }
}

/// One machine, whose disk is there.
pub(crate) struct Wanted<'a> {
    pub(crate) engine: Engine<'a>,
    pub(crate) disks: Disks,
    pub(crate) parameters: Parameters,
    pub(crate) make_disk: &'a dyn Fn() -> Result<(), BootError>,
}

impl Wanted<'_> {
    /// From the template, where there is one that works; else by a boot.
    pub(crate) fn start(
        &self,
        template: Option<(File, Template)>,
        stop: &dyn Fn() -> bool,
        say: &mut dyn FnMut(String),
    ) -> Result<(Process, Client), BootError> {
        let Some((state, template)) = template else { return self.begin(None, stop) };
        let error = match self.begin(Some(state.into()), stop) {
            Ok(started) => return Ok(started),
            Err(BootError::Stopped) => return Err(BootError::Stopped),
            Err(error) => error,
        };
        let causes = crate::check::with_causes(&error);
        let why = format!("it does not start from its template: {causes}");
        // One that is silent may be on a host that is busy; one that ends has been refused.
        let is_refused = matches!(error, BootError::Ended { .. });
        template
            .forget(is_refused.then_some(&why))
            .map_err(|e| BootError::Host("do away with a template", e))?;
        say(format!("the machine is booted: {why}"));
        (self.make_disk)()?;
        self.begin(None, stop)
    }

    fn begin(
        &self,
        state: Option<OwnedFd>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(Process, Client), BootError> {
        let is_frozen = state.is_some();
        let origin = if is_frozen { Origin::State } else { Origin::Boot };
        let machine = self.engine.machine(self.disks.clone(), origin);
        let (process, own) = self.engine.start(&machine, state)?;
        let parameters = self.parameters.clone();
        let greeted = move || {
            let mut own = own;
            let patience = if is_frozen { START_MAX } else { BOOT_MAX };
            if !is_frozen {
                waiting(&mut own, patience)?;
            }
            let lost = |_| ChannelError::Lost;
            stockade_guest::tell(&mut own, &parameters).map_err(lost)?;
            let reader = own.try_clone().map_err(lost)?;
            Client::connect_within(reader, own, patience)
        };
        let client = heard(&process, stop, greeted)?;
        Ok((process, client))
    }
}

/// Waits until a machine that boots says that it waits.
pub(crate) fn waiting(channel: &mut UnixStream, patience: Duration) -> Result<(), ChannelError> {
    let lost = |_| ChannelError::Lost;
    channel.set_read_timeout(Some(patience)).map_err(lost)?;
    stockade_guest::await_machine(channel, patience)?;
    channel.set_read_timeout(None).map_err(lost)
}

/// What `listen` hears of a machine, in a thread of its own.
pub(crate) fn heard<T: Send + 'static>(
    process: &Process,
    stop: &dyn Fn() -> bool,
    listen: impl FnOnce() -> Result<T, ChannelError> + Send + 'static,
) -> Result<T, BootError> {
    let (sender, greeted) = mpsc::channel();
    thread::Builder::new()
        .name("greeting".to_owned())
        .spawn(move || sender.send(listen()).ok())
        .map_err(|error| BootError::Host("start the machine", error))?;
    let heard = loop {
        match greeted.recv_timeout(STOP_POLL) {
            Ok(heard) => break heard,
            // The machine is killed with `process`, which ends the thread as well.
            Err(RecvTimeoutError::Timeout) if stop() => return Err(BootError::Stopped),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break Err(ChannelError::Lost),
        }
    };
    match heard {
        Ok(heard) => Ok(heard),
        Err(ChannelError::Lost) => {
            // Its last words come with its end.
            process.wait(END_MAX);
            Err(BootError::Ended { said: process.last_words() })
        }
        Err(source) => Err(BootError::Silent { said: process.last_words(), source }),
    }
}
