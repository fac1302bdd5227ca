//! The user's own ssh agent, outside, as a client.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::PublicKey;
use super::wire::{self, Request};

/// How long it may take to tell which keys it has. To sign it may have to ask a person.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_TO_SIGN: Duration = Duration::from_mins(5);

/// A connection to it.
#[derive(Debug)]
pub struct UserAgent(UnixStream);

impl UserAgent {
    /// Connects to the one at `socket`.
    ///
    /// # Errors
    ///
    /// As `connect` does.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// The keys that it has, in its order.
    ///
    /// # Errors
    ///
    /// When it does not answer, or not with a list.
    pub fn keys(&self) -> io::Result<Vec<PublicKey>> {
        let answer = self.ask(&Request::Identities.message())?;
        let keys = wire::read_identities(&answer).ok_or(io::ErrorKind::InvalidData)?;
        Ok(keys.into_iter().map(|(blob, comment)| PublicKey { blob, comment }).collect())
    }

    /// Has it sign `request`, in the session that `bind` bound.
    ///
    /// # Errors
    ///
    /// When it does not answer, or does not want to.
    pub fn sign(&self, bind: &[u8], request: &[u8]) -> io::Result<Vec<u8>> {
        // For keys that it keeps for certain hosts; an agent that does not know the message says so.
        self.ask(bind)?;
        self.0.set_read_timeout(Some(PATIENCE_TO_SIGN))?;
        let answer = self.ask(request)?;
        wire::read_signed(&answer).ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }

    fn ask(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        wire::send(&self.0, message)?;
        wire::receive(&self.0)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}
