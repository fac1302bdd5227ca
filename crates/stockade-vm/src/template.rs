//! The state of a machine that has come up and waits to be told whose it is, from which others start.
//!
//! It is made by a machine of its own, which has no disk but the system's and is told nothing; then that one is
//! ended. So what is in a template is what the kernel and PID 1 have made of files that all threads share.
//!
//! Invariants:
//! - a state fits the machine that it is used for: everything that QEMU is told is in its key, with QEMU itself and
//!   this start of the host;
//! - a state is used only when it is as it was written, by its sum; who can write there could change this program
//!   as well, so that the sum is against damage alone;
//! - nobody but its user can read it, and it is written by no machine that starts from it.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use stockade_guest::Generation;

use crate::cache::{Bound, Cache, Key};
use crate::engine::{Engine, heard, waiting};
use crate::qemu::args::{self, Disks, Origin};
use crate::qemu::monitor::Monitor;
use crate::vm::{BOOT_MAX, BootError};

/// Templates that are kept: of machines with a few sizes, for commands that are root or not.
const KEPT: Bound = Bound { files: 4, bytes: 1 << 30 };

/// Its file in the cache, and one with the reason why there is none.
const NAME: (&str, &str) = ("template", "state");
const WITHOUT: (&str, &str) = ("template", "without");

/// What a state may take: three times what one has taken.
const SPACE: u64 = 256 << 20;

/// The first bytes of such a file, before the sum and the state itself.
const MAGIC: &[u8; 8] = b"stk-vm-1";
const HEADER: usize = 16;
const STATE: SeekFrom = SeekFrom::Start(16);

/// A template that fits.
#[derive(Debug)]
pub(crate) struct Template {
    cache: Cache,
    key: String,
    /// Whether it was made just now, and never used before.
    is_new: bool,
}

impl Template {
    /// No machine is started from it again. When it was new and was `refused`, the next one would be so as
    /// well: machines of its kind are booted from now on, until the key changes.
    pub(crate) fn forget(&self, refused: Option<&String>) -> io::Result<()> {
        self.cache.forget(NAME, &self.key)?;
        match refused.filter(|_| self.is_new) {
            Some(why) => without(&self.cache, &self.key, why),
            None => Ok(()),
        }
    }
}

fn without(cache: &Cache, key: &str, why: &str) -> io::Result<()> {
    cache.file(WITHOUT, (key, KEPT.files), |file| file.write_all(why.as_bytes())).map(drop)
}

/// The template for such machines, made when there is none, and its state, for QEMU to read from where it
/// stands. `None`, said, when it cannot be had.
pub(crate) fn of(
    engine: &Engine<'_>,
    cache: &Cache,
    (stop, say): (&dyn Fn() -> bool, &mut dyn FnMut(String)),
) -> Result<Option<(File, Template)>, BootError> {
    let key = key(engine).map_err(|error| BootError::Host("find a template", error))?;
    if let Some(path) = cache.find(WITHOUT, &key) {
        let why = fs::read_to_string(path).unwrap_or_default();
        say(format!("the machine is booted: {why}"));
        return Ok(None);
    }
    // The second time, when the first found a damaged one.
    for _ in 0..2 {
        let mut is_new = false;
        let made = cache.file_unless(NAME, (&key, KEPT), stop, |file| {
            is_new = true;
            say("preparing a template of the machine, once: the next ones start without a boot"
                .to_owned());
            make(engine, cache, file, stop)
        });
        let path = match made {
            Ok(made) => made.ok_or(BootError::Stopped)?,
            Err(Failed(BootError::Stopped)) => return Err(BootError::Stopped),
            Err(Failed(error)) => {
                let causes = crate::check::with_causes(&error);
                let why = format!("no template of it could be made: {causes}");
                // What is missing may be there the next time; what QEMU cannot do will not.
                if matches!(error, BootError::Host(SAVE, _)) {
                    without(cache, &key, &why).map_err(|e| BootError::Host("write", e))?;
                }
                say(format!("the machine is booted: {why}"));
                return Ok(None);
            }
        };
        match opened(&path) {
            Ok(state) => return Ok(Some((state, Template { cache: cache.clone(), key, is_new }))),
            Err(error) => {
                say(format!("the template of the machine is of no use, and made anew: {error}"));
                let host = |error| BootError::Host("do away with a template", error);
                cache.forget(NAME, &key).map_err(host)?;
            }
        }
    }
    say("the machine is booted: its template cannot be read back".to_owned());
    Ok(None)
}

/// What fails when QEMU cannot write a state.
const SAVE: &str = "save the state of a machine";

struct Failed(BootError);

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self(BootError::Host("write a template", error))
    }
}

impl From<BootError> for Failed {
    fn from(error: BootError) -> Self {
        Self(error)
    }
}

/// A machine that nobody has.
fn disks(engine: &Engine<'_>) -> Disks {
    let system = engine.image.to_owned();
    Disks { system, repository: None, setup: None, program: None }
}

/// Everything that the state depends on, QEMU's own version by its file. Processor, microcode, host's
/// kernel and speed of the counter are the same until the host starts anew.
fn key(engine: &Engine<'_>) -> io::Result<String> {
    let mut machine = engine.machine(disks(engine), Origin::Template);
    // Measured, and never twice the same.
    machine.counter_khz = None;
    let mut key = Key::default();
    key.add(MAGIC);
    key.add(Generation::CURRENT.to_string().as_bytes());
    key.add(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.as_bytes());
    key.add_file(engine.qemu, &fs::metadata(engine.qemu)?);
    for argument in args::of(&machine) {
        key.add(argument.as_encoded_bytes());
    }
    // Its name says what it was built from; of two builds one may have another order.
    let image = fs::metadata(engine.image)?;
    for number in [image.dev(), image.ino(), image.len()] {
        key.add(&number.to_le_bytes());
    }
    Ok(key.name())
}

/// Boots a machine until it waits, and writes its state.
fn make(
    engine: &Engine<'_>,
    cache: &Cache,
    file: &mut File,
    stop: &dyn Fn() -> bool,
) -> Result<(), Failed> {
    let free = cache.space()?;
    if free < SPACE {
        let text = format!("{free} bytes are free, and it may need {SPACE}");
        return Err(io::Error::new(io::ErrorKind::StorageFull, text).into());
    }
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    file.seek(STATE)?;
    let (own, monitors) = UnixStream::pair()?;
    let machine = engine.machine(disks(engine), Origin::Template);
    let (process, channel) = engine.start(&machine, Some(monitors.into()))?;
    let mut waited = channel.try_clone()?;
    heard(&process, stop, move || waiting(&mut waited, BOOT_MAX))?;
    let saved = Monitor::open(own).and_then(|mut monitor| monitor.save(file, stop));
    // Told nothing, and of no further use.
    process.kill();
    process.wait(BOOT_MAX);
    drop(channel);
    if !saved.map_err(|error| BootError::Host(SAVE, error))? {
        return Err(BootError::Stopped.into());
    }
    file.seek(STATE)?;
    let sum = sum(file)?;
    let header = [MAGIC.as_slice(), &sum.to_le_bytes()].concat();
    Ok(file.write_all_at(&header, 0)?)
}

/// The state in a file, when it is whole.
fn opened(path: &Path) -> io::Result<File> {
    let mut file = File::open(path)?;
    let mut header = [0; HEADER];
    file.read_exact(&mut header)?;
    let sum = sum(&mut file)?;
    if header.as_slice() != [MAGIC.as_slice(), &sum.to_le_bytes()].concat() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is damaged"));
    }
    file.seek(STATE)?;
    Ok(file)
}

/// Four sums side by side of words of eight bytes, in each of which every bit counts, and their number: as
/// fast as the file is read.
fn sum(file: &mut File) -> io::Result<u64> {
    const WORD: usize = 8;
    const LANES: usize = 4;
    // Odd, so that nothing is lost by it; the constant of splitmix64.
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let mut lanes = [1_u64, 2, 3, 4];
    let mut length: u64 = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read(rest)? {
                0 => break,
                count => filled += count,
            }
        }
        let Some(read) = buffer.get(..filled).filter(|read| !read.is_empty()) else { break };
        length += filled as u64;
        for block in read.chunks(WORD * LANES) {
            for (lane, bytes) in lanes.iter_mut().zip(block.chunks(WORD)) {
                let mut word = [0; WORD];
                word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                *lane = mix(*lane, u64::from_le_bytes(word));
            }
        }
    }
    Ok(lanes.into_iter().fold(length, mix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("template");
        let state: Vec<u8> = (0..100_003_u32).map(|number| number.to_le_bytes()[1]).collect();
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.seek(STATE).unwrap();
        file.write_all(&state).unwrap();
        file.seek(STATE).unwrap();
        let sum = sum(&mut file).unwrap();
        file.write_all_at(&[MAGIC.as_slice(), &sum.to_le_bytes()].concat(), 0).unwrap();
        let mut read = Vec::new();
        opened(&path).unwrap().read_to_end(&mut read).unwrap();
        assert!(read == state, "QEMU finds the state and nothing before it");
        let whole = fs::read(&path).unwrap();
        let is_seen = |damaged: &[u8]| {
            fs::write(&path, damaged).unwrap();
            opened(&path).is_err()
        };
        for at in [0, 8, 16, 17, 50_000, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(is_seen(&damaged), "{at}");
        }
        for length in [0, 8, 16, 50_000, whole.len() - 1] {
            assert!(is_seen(&whole[..length]), "{length}");
        }
        assert!(is_seen(&[whole.as_slice(), &[0]].concat()));
        assert!(!is_seen(&whole));
    }
}
