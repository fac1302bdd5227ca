//! How a machine becomes somebody's: it says that it waits, and is told whose it is.
//!
//! ```text
//! machine: HELLO            it has come up, and waits
//!    host: HELLO, START     whose it is, the time, a seed
//! machine: HELLO            and so on, as any place (`serve`, `Client`)
//! ```
//!
//! Invariant: until `START` has come a machine has nothing of a thread's. Frozen while it waits it can be started
//! many times, each time for somebody else.

use std::fmt;
use std::io::{self, Read, Write};
use std::time::{Duration, SystemTime};

use rustix::rand::{GetRandomFlags, getrandom};

use crate::client::ChannelError;
use crate::frame::{self, Malformed, ReadError};
use crate::message::Message;
use crate::parameters::Parameters;
use crate::version::Generation;

/// Bytes of a seed: as many as the state of the kernel's generator, twice.
pub(crate) const SEED_BYTES: usize = 64;

/// Random bytes of the host's, for one machine alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed(pub(crate) [u8; SEED_BYTES]);

impl Seed {
    fn drawn() -> io::Result<Self> {
        let mut seed = [0; SEED_BYTES];
        let mut filled = 0;
        while let Some(rest) = seed.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match getrandom(rest, GetRandomFlags::empty()) {
                Ok(count) => filled += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Self(seed))
    }

    /// Has the kernel's random numbers follow from this as well from now on, every processor's.
    ///
    /// # Errors
    ///
    /// When the kernel refuses: this has to be a machine of its own, and its caller root there.
    pub fn sow(&self) -> io::Result<()> {
        crate::sys::random_unsafe::reseed(&self.0)
    }
}

/// Guessing what follows from it would be easier for who has read it.
impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// What a machine is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// Whose it is.
    pub parameters: Parameters,
    /// The time since the epoch: it has no clock of its own.
    pub clock: Duration,
    /// For its random numbers.
    pub seed: Seed,
}

/// The machine's side: says that it waits, and returns what it is told; `None` when the host hangs up
/// instead.
///
/// # Errors
///
/// When the channel breaks, or the host speaks something else.
pub fn await_start(channel: &mut (impl Read + Write)) -> io::Result<Option<Start>> {
    let hello = Message::Hello(Generation::CURRENT).encode(0).unwrap_or_default();
    channel.write_all(&hello)?;
    let Some(message) = next(channel)? else { return Ok(None) };
    let theirs = message.greeting().map_err(ReadError::Malformed)?;
    if theirs != Generation::CURRENT {
        let ours = Generation::CURRENT;
        let text = format!("the host speaks generation {theirs} of the channel, this is {ours}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    match next(channel)? {
        Some(Message::Start(start)) => Ok(Some(start)),
        Some(_) => Err(ReadError::from(Malformed::Unexpected("something before the start")).into()),
        None => Ok(None),
    }
}

fn next(reader: &mut impl Read) -> Result<Option<Message>, ReadError> {
    let frame = frame::read(reader)?;
    Ok(frame.map(Message::decode).transpose()?)
}

/// The host's side: waits until a machine says that it waits.
///
/// # Errors
///
/// [`ChannelError`]; `patience` is the read's own, which the caller has set.
pub fn await_machine(reader: &mut impl Read, patience: Duration) -> Result<(), ChannelError> {
    let theirs = match next(reader) {
        Ok(Some(message)) => message.greeting().map_err(ChannelError::Malformed)?,
        Ok(None) => return Err(ChannelError::Lost),
        Err(ReadError::Malformed(malformed)) => return Err(ChannelError::Malformed(malformed)),
        Err(ReadError::Io(error)) => {
            let is_late =
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            return Err(if is_late { ChannelError::Silent(patience) } else { ChannelError::Lost });
        }
    };
    let ours = Generation::CURRENT;
    if theirs == ours { Ok(()) } else { Err(ChannelError::Generation { ours, theirs }) }
}

/// Tells a machine whose it is, and what time it is. The seed is drawn here, for this one.
///
/// # Errors
///
/// When it cannot be told.
pub fn tell(writer: &mut impl Write, parameters: &Parameters) -> io::Result<()> {
    let start = Start {
        parameters: parameters.clone(),
        clock: SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default(),
        seed: Seed::drawn()?,
    };
    let too_long = || io::Error::from(io::ErrorKind::InvalidInput);
    for message in [Message::Hello(Generation::CURRENT), Message::Start(start)] {
        writer.write_all(&message.encode(0).ok_or_else(too_long)?)?;
    }
    writer.flush()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    fn parameters() -> Parameters {
        Parameters {
            uid: 1000,
            gid: 100,
            folder: "/work".into(),
            is_root: false,
            gives: true,
            has_setup: false,
            has_program: true,
        }
    }

    /// What a machine makes of what `host` does.
    fn waited(host: impl FnOnce(&mut UnixStream)) -> io::Result<Option<Start>> {
        let (mut own, mut machines) = UnixStream::pair().unwrap();
        let machine = thread::spawn(move || await_start(&mut machines));
        await_machine(&mut own, Duration::ZERO).unwrap();
        host(&mut own);
        drop(own);
        machine.join().unwrap()
    }

    #[test]
    fn a_machine_waits_and_is_told() {
        let first = waited(|host| tell(host, &parameters()).unwrap()).unwrap().unwrap();
        assert_eq!(first.parameters, parameters());
        assert!(first.clock > Duration::from_secs(1_700_000_000));
        let second = waited(|host| tell(host, &parameters()).unwrap()).unwrap().unwrap();
        assert_ne!(first.seed, second.seed);
        assert!(!format!("{second:?}").contains(&format!("{:?}", second.seed.0)));
        assert_eq!(waited(|_| ()).unwrap(), None);
    }

    #[test]
    fn another_generation_is_refused_by_both_and_named() {
        let other = Message::Hello(Generation(3)).encode(0).unwrap();
        let error = waited(|host| host.write_all(&other).unwrap()).unwrap_err();
        let ours = Generation::CURRENT;
        let text = format!("the host speaks generation 3 of the channel, this is {ours}");
        assert_eq!(error.to_string(), text);
        let error = await_machine(&mut other.as_slice(), Duration::ZERO).unwrap_err();
        let text = format!("the place speaks generation 3 of the channel, this is {ours}");
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn nothing_else_starts_a_machine() {
        let hello = Message::Hello(Generation::CURRENT).encode(0).unwrap();
        for wrong in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            Message::Close.encode(0).unwrap(),
            [hello.clone(), hello].concat(),
        ] {
            waited(|host| host.write_all(&wrong).unwrap()).unwrap_err();
        }
    }

    #[test]
    fn a_machine_that_says_nothing_is_waited_for_so_long() {
        let (mut own, _machine) = UnixStream::pair().unwrap();
        let patience = Duration::from_millis(10);
        own.set_read_timeout(Some(patience)).unwrap();
        let error = await_machine(&mut own, patience).unwrap_err();
        assert!(matches!(error, ChannelError::Silent(_)), "{error}");
    }
}
