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
use crate::qemu::args::{self, Accelerator, Machine, Origin};
use crate::qemu::process::{Enclosure, Process, Start};
use crate::vm::{self, BOOT_MAX};

/// A boot under KVM takes a tenth of this.
const PATIENCE: Duration = Duration::from_secs(4);

const WORKS: &str = "it works";

/// The file in the cache with what came of it.
const KEPT: (&str, &str) = ("accelerator", "txt");

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
        let kept = cache.file(KEPT, (&self.key()?, 4), |file| {
            say("trying KVM with a boot, once".to_owned());
            // Nothing hostile is in it, and the device of KVM behind no walls.
            let folder = cache.folder();
            let failure = self.run(Accelerator::Kvm, folder, (PATIENCE, None))?;
            file.write_all(failure.as_deref().unwrap_or(WORKS).as_bytes())
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
        key.add_file(self.qemu, &fs::metadata(self.qemu)?);
        // Named by their content; their times tell when they were used last.
        for path in [self.kernel, self.initramfs] {
            key.add(path.as_os_str().as_encoded_bytes());
        }
        Ok(key.name())
    }

    /// The same, whatever came of it before.
    pub(crate) fn anew(&self, cache: &Cache) -> io::Result<Chosen> {
        cache.forget(KEPT, &self.key()?)?;
        self.choose(cache, &mut |_| {})
    }

    /// Boots an emulated machine that is as slow as any may be; why it did not start, if it did
    /// not.
    pub(crate) fn emulated(
        &self,
        folder: &Path,
        enclosure: Option<Enclosure<'_>>,
    ) -> io::Result<Option<String>> {
        self.run(Accelerator::Emulation, folder, (BOOT_MAX, enclosure))
    }

    /// Boots once; why that failed, if it did.
    fn run(
        &self,
        accelerator: Accelerator,
        folder: &Path,
        (patience, enclosure): (Duration, Option<Enclosure<'_>>),
    ) -> io::Result<Option<String>> {
        let machine = Machine {
            kernel: self.kernel.to_owned(),
            initramfs: self.initramfs.to_owned(),
            disks: None,
            memory_mib: 256,
            cpus: 1,
            accelerator,
            counter_khz: vm::counter_khz(accelerator),
            origin: Origin::Boot,
        };
        let start = Start {
            holder: self.holder,
            qemu: self.qemu,
            arguments: args::of(&machine),
            folder,
            enclosure,
        };
        let (_host, guest) = UnixStream::pair()?;
        let process = Process::start(&start, None, guest)?;
        let name = match accelerator {
            Accelerator::Kvm => "a machine under KVM",
            Accelerator::Emulation => "an emulated machine",
        };
        let Some(ended) = process.wait(patience) else {
            let seconds = patience.as_secs();
            return Ok(Some(format!("{name} did not start within {seconds} s")));
        };
        let said = process.last_words();
        if ended? && said.contains(TRIAL_PASSED) {
            return Ok(None);
        }
        Ok(Some(format!("{name} ended early ({said})")))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_came_of_a_trial_is_kept_when_the_same_files_are_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let [qemu, kernel, initramfs] = ["qemu", "kernel", "initramfs"].map(|name| {
            let path = folder.path().join(name);
            fs::write(&path, name).unwrap();
            path
        });
        let trial = Trial { holder: &qemu, qemu: &qemu, kernel: &kernel, initramfs: &initramfs };
        let first = trial.key().unwrap();
        let later = |path: &Path| {
            let file = File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() + Duration::from_secs(9)).unwrap();
        };
        later(&kernel);
        later(&initramfs);
        assert_eq!(trial.key().unwrap(), first);
        later(&qemu);
        assert_ne!(trial.key().unwrap(), first, "another QEMU");
        let other = folder.path().join("other");
        assert_ne!(Trial { kernel: &other, ..trial }.key().unwrap(), first);
    }
}
