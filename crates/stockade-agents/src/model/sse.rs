//! Server-sent events out of bytes that come in pieces of any size.
//!
//! Lines end with LF, CR or CRLF; a piece may end anywhere, between CR and LF and inside a
//! character too. An event is handed out once, when its blank line is there.
//! Source: HTML Standard, 9.2.6 "Interpreting an event stream".

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; empty when none was named.
    pub(super) name: String,
    /// Its data, the lines joined by LF.
    pub(super) data: Vec<u8>,
}

/// In front of a text that says so that it is UTF-8; no part of it.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What of a stream has come so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    has_begun: bool,
    line: Vec<u8>,
    /// The last byte was a CR, so a LF that follows belongs to it.
    is_after_cr: bool,
    event: Event,
    has_data: bool,
}

impl Stream {
    /// Takes in `bytes` and gives each event that is whole to `each`, until that fails.
    pub(super) fn feed<E>(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in bytes {
            let is_line_end = match byte {
                b'\n' => !std::mem::take(&mut self.is_after_cr),
                b'\r' => {
                    self.is_after_cr = true;
                    true
                }
                _ => {
                    self.is_after_cr = false;
                    self.line.push(byte);
                    false
                }
            };
            if is_line_end && let Some(event) = self.end_of_line() {
                each(event)?;
            }
        }
        Ok(())
    }

    /// The event whose blank line never came, as the stream has ended: some servers leave it out
    /// after the last. Whether the event is whole is for its reader to say.
    pub(super) fn finish(&mut self) -> Option<Event> {
        let event = self.end_of_line();
        event.or_else(|| self.end_of_line())
    }

    /// What is kept of an event that is not whole yet.
    pub(super) fn pending_bytes(&self) -> usize {
        self.line.len() + self.event.data.len()
    }

    fn end_of_line(&mut self) -> Option<Event> {
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.has_begun, true) && line.starts_with(MARK) {
            line.drain(..MARK.len());
        }
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (field, value) = line.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.event.data.push(b'\n');
                }
                self.event.data.extend_from_slice(value);
                self.has_data = true;
            }
            b"event" => self.event.name = String::from_utf8_lossy(value).into_owned(),
            // `id` and `retry` are for streams that are resumed; a line that starts with a
            // colon is a comment, which keeps the connection alive.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: &[&[u8]]) -> Vec<(String, String)> {
        let mut stream = Stream::default();
        let mut events = Vec::new();
        for piece in pieces {
            let each = |event: Event| {
                events.push((event.name, String::from_utf8(event.data).unwrap()));
                Ok::<(), ()>(())
            };
            stream.feed(piece, each).unwrap();
        }
        events
    }

    #[test]
    fn events_are_read_as_the_standard_says() {
        let text = ": hello\r\rid: 1\nevent: a\ndata: one\ndata:two\n\nevent: lost\n\ndata\r\n\r\ndata: cut\n";
        let events = read(&[text.as_bytes()]);
        let expected = [("a", "one\ntwo"), ("", "")];
        let found: Vec<_> = events.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_mark_in_front_is_no_part_of_it_and_the_last_event_needs_no_blank_line() {
        assert_eq!(read(&[b"\xef\xbb", b"\xbfdata: a\n\n"]), [(String::new(), "a".to_owned())]);
        for end in ["data: b", "data: b\n"] {
            let mut stream = Stream::default();
            stream.feed(end.as_bytes(), |_| Err(())).unwrap();
            assert_eq!(stream.finish().unwrap().data, b"b");
            assert_eq!(stream.finish(), None);
        }
    }

    proptest! {
        #[test]
        fn where_a_piece_ends_makes_no_difference(
            ends in proptest::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 5),
            cuts in proptest::collection::vec(0_usize..80, 0..6),
        ) {
            let [a, b, c, d, e] = <[&str; 5]>::try_from(ends).unwrap();
            let text = format!("event: ä{a}data: größe €{b}{c}data: zwei{d}{e}");
            let whole = read(&[text.as_bytes()]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> =
                cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            prop_assert_eq!(read(&pieces), whole);
        }
    }
}
