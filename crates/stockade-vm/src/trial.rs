//! Which accelerator works here: the only honest answer is a boot.
//!
//! `/dev/kvm` can exist and hang every guest, or refuse a processor's registers. So a machine
//! without disks is started under KVM, whose PID 1 says one line and ends it. What came of it is
//! kept until the host is started anew or its kernel or QEMU change.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use stockade_guest::TRIAL_PASSED;

use crate::cache::{Cache, Key};
use crate::qemu::args::{self, Accelerator, Machine};
use crate::qemu::process::{Process, Start};

/// A boot under KVM takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(4);

const WORKS: &str = "it works";

/// What a machine will run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Why it is not the faster one.
    pub why: Option<String>,
}

/// What a trial takes.
pub(crate) struct Trial<'a> {
    pub(crate) holder: &'a Path,
    pub(crate) qemu: &'a Path,
    pub(crate) kernel: &'a Path,
    pub(crate) initramfs: &'a Path,
}

impl Trial<'_> {
    /// The faster accelerator that works; `say` is told before it takes long.
    pub(crate) fn choose(&self, cache: &Cache, say: &mut dyn FnMut(String)) -> io::Result<Chosen> {
        let emulated = |why| Chosen { accelerator: Accelerator::Emulation, why: Some(why) };
        if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/kvm") {
            let why = if error.kind() == io::ErrorKind::NotFound {
                "there is no `/dev/kvm`".to_owned()
            } else if error.kind() == io::ErrorKind::PermissionDenied {
                "`/dev/kvm` is not yours to use (`sudo adduser $USER kvm`)".to_owned()
            } else {
                format!("`/dev/kvm` cannot be opened: {error}")
            };
            return Ok(emulated(why));
        }
        let kept = cache.file(("accelerator", "txt"), (&self.key()?, 4), |file| {
            say("trying KVM with a boot, once".to_owned());
            file.write_all(self.run(cache)?.as_bytes())
        })?;
        let outcome = fs::read_to_string(kept)?;
        if outcome == WORKS {
            return Ok(Chosen { accelerator: Accelerator::Kvm, why: None });
        }
        Ok(emulated(outcome))
    }

    fn key(&self) -> io::Result<String> {
        let mut key = Key::default();
        key.add(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.as_bytes());
        for path in [self.qemu, self.kernel, self.initramfs] {
            key.add_file(path, &fs::metadata(path)?);
        }
        Ok(key.name())
    }

    /// Boots once; what is to be said of it.
    fn run(&self, cache: &Cache) -> io::Result<String> {
        let machine = Machine {
            kernel: self.kernel.to_owned(),
            initramfs: self.initramfs.to_owned(),
            disks: None,
            memory_mib: 256,
            cpus: 1,
            accelerator: Accelerator::Kvm,
            parameters: None,
            counter_khz: None,
        };
        let start = Start {
            holder: self.holder,
            qemu: self.qemu,
            arguments: args::of(&machine),
            folder: cache.folder(),
            // Nothing hostile is in it, and the device of KVM behind no walls.
            enclosure: None,
        };
        let (_host, guest) = UnixStream::pair()?;
        let process = Process::start(&start, guest)?;
        let Some(ended) = process.wait(PATIENCE) else {
            let seconds = PATIENCE.as_secs();
            return Ok(format!("a machine under KVM did not start within {seconds} s"));
        };
        let said = process.last_words();
        if ended? && said.contains(TRIAL_PASSED) {
            return Ok(WORKS.to_owned());
        }
        Ok(format!("a machine under KVM ended early ({said})"))
    }
}
