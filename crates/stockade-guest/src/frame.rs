//! How messages are cut out of a stream of bytes: length, stream, kind, payload.
//!
//! ```text
//! 0        4        8      9
//! | length | stream | kind | payload, `length` bytes |      integers are little-endian
//! ```
//!
//! Invariants:
//! - no more is allocated than [`PAYLOAD_MAX`], whatever a length field says;
//! - an end of the stream between two frames is an end; anywhere else it is an error.

use std::io::{self, Read};

/// Longest payload in bytes. Holds a request with a command line as long as Linux takes for one
/// argument (128 KiB, `MAX_ARG_STRLEN`), and its environment.
pub(crate) const PAYLOAD_MAX: usize = 256 * 1024;

/// Bytes in front of each payload.
pub(crate) const HEADER: usize = 9;

/// One frame as it came, its payload not yet understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) stream: u32,
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

/// What came over the channel is not what this protocol says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A length above what any message needs.
    #[error("a frame of {bytes} bytes came, and {PAYLOAD_MAX} are the most")]
    Oversized {
        /// What the frame's length said.
        bytes: u32,
    },
    /// A kind of message that this generation does not have.
    #[error("a message of unknown kind {0} came")]
    UnknownKind(u8),
    /// The stream ended, or the payload did, in the middle of something.
    #[error("a message was cut short")]
    Truncated,
    /// A message was well-formed in itself, but not here or not now.
    #[error("a message came that does not belong there: {0}")]
    Unexpected(&'static str),
}

/// Why no frame could be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("cannot read from the channel")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error,
            ReadError::Malformed(malformed) => Self::new(io::ErrorKind::InvalidData, malformed),
        }
    }
}

/// Reads one frame; `None` at the end of the stream.
pub(crate) fn read(reader: &mut impl Read) -> Result<Option<Frame>, ReadError> {
    let mut header = [0; HEADER];
    if !fill(reader, &mut header)? {
        return Ok(None);
    }
    let [l0, l1, l2, l3, s0, s1, s2, s3, kind] = header;
    let bytes = u32::from_le_bytes([l0, l1, l2, l3]);
    let length = usize::try_from(bytes).ok().filter(|length| *length <= PAYLOAD_MAX);
    let Some(length) = length else { return Err(Malformed::Oversized { bytes }.into()) };
    let mut payload = vec![0; length];
    if length > 0 && !fill(reader, &mut payload)? {
        return Err(Malformed::Truncated.into());
    }
    Ok(Some(Frame { stream: u32::from_le_bytes([s0, s1, s2, s3]), kind, payload }))
}

/// Fills `buffer`; false when the stream ended before its first byte.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> Result<bool, ReadError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match reader.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(Malformed::Truncated.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_believed_only_up_to_the_limit() {
        let mut bytes = vec![0xff; 4];
        bytes.extend([0; 5]);
        let error = read(&mut bytes.as_slice()).unwrap_err();
        assert!(matches!(error, ReadError::Malformed(Malformed::Oversized { bytes: u32::MAX })));
    }

    #[test]
    fn an_end_is_an_end_only_between_frames() {
        assert!(read(&mut [].as_slice()).unwrap().is_none());
        let whole = [2, 0, 0, 0, 7, 0, 0, 0, 1, b'a', b'b'];
        for length in 1..whole.len() {
            let error = read(&mut whole.split_at(length).0).unwrap_err();
            assert!(matches!(error, ReadError::Malformed(Malformed::Truncated)), "{length}");
        }
        let frame = read(&mut whole.as_slice()).unwrap().unwrap();
        assert_eq!(frame, Frame { stream: 7, kind: 1, payload: b"ab".to_vec() });
    }
}
