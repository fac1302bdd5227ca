//! Questions for names, as they come over the wire, and our answers.
//!
//! Only what a resolver asks is understood: one question in the Internet class. What is asked
//! about any other name, type or class is answered from here all the same, at once, so that
//! nothing waits and no name leaves the machine. Source: RFC 1035.

use std::net::{Ipv4Addr, Ipv6Addr};

use stockade_policy::HostName;

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const TYPE_ANY: u16 = 255;
const CLASS_IN: u16 = 1;
/// An address holds for the whole run; that a name may be asked for may change.
const SECONDS_TO_LIVE: u32 = 30;

const NO_ERROR: u8 = 0;
const FORMAT_ERROR: u8 = 1;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;
const NOT_IMPLEMENTED: u8 = 4;

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It has these addresses.
    At(Ipv4Addr, Ipv6Addr),
    /// It does not exist here.
    No,
    /// It would exist, and there is no room for it.
    Full,
}

/// The answer to `packet`; `None` when it deserves none.
pub(crate) fn answer(packet: &[u8], known: impl FnOnce(&HostName) -> Known) -> Option<Vec<u8>> {
    let header = packet.first_chunk::<HEADER>()?;
    let [_, _, flags, _, questions @ ..] = header;
    if flags & 0x80 != 0 {
        // An answer; to answer it would begin a game without end.
        return None;
    }
    if flags & 0x78 != 0 {
        return Some(reply(header, &[], NOT_IMPLEMENTED));
    }
    let question = match questions {
        [0, 1, ..] => Question::read(packet.get(HEADER..).unwrap_or_default()),
        _ => None,
    };
    let Some(question) = question else { return Some(reply(header, &[], FORMAT_ERROR)) };
    let known = question.name.as_ref().map_or(Known::No, known);
    let (v4, v6) = match known {
        Known::At(v4, v6) => (v4, v6),
        Known::No => return Some(reply(header, question.bytes, NO_SUCH_NAME)),
        Known::Full => return Some(reply(header, question.bytes, SERVER_FAILURE)),
    };
    let mut answer = reply(header, question.bytes, NO_ERROR);
    let wants = |kind| question.class == CLASS_IN && [kind, TYPE_ANY].contains(&question.kind);
    let mut count = 0;
    if wants(TYPE_A) {
        record(&mut answer, TYPE_A, &v4.octets());
        count += 1;
    }
    if wants(TYPE_AAAA) {
        record(&mut answer, TYPE_AAAA, &v6.octets());
        count += 1;
    }
    if let Some(number) = answer.get_mut(7) {
        *number = count;
    }
    Some(answer)
}

/// One question as it was asked.
struct Question<'a> {
    bytes: &'a [u8],
    /// `None` when what is asked for could not be the name of a host.
    name: Option<HostName>,
    kind: u16,
    class: u16,
}

impl<'a> Question<'a> {
    fn read(rest: &'a [u8]) -> Option<Self> {
        let mut text = Vec::new();
        let mut is_host = true;
        let mut at = 0;
        loop {
            let length = usize::from(*rest.get(at)?);
            // The two highest bits mark a reference, which no question needs.
            if length > 63 || at > 255 {
                return None;
            }
            at += 1;
            if length == 0 {
                break;
            }
            let label = rest.get(at..at + length)?;
            // A dot in a label would be read as two.
            is_host &= !label.contains(&b'.');
            text.extend(label);
            text.push(b'.');
            at += length;
        }
        let &[a, b, c, d] = rest.get(at..)?.first_chunk::<4>()?;
        let name = std::str::from_utf8(&text).ok().filter(|_| is_host);
        Some(Self {
            bytes: rest.get(..at + 4)?,
            name: name.and_then(|name| HostName::new(name).ok()),
            kind: u16::from_be_bytes([a, b]),
            class: u16::from_be_bytes([c, d]),
        })
    }
}

fn reply(header: &[u8; HEADER], question: &[u8], code: u8) -> Vec<u8> {
    let [id_high, id_low, flags, ..] = *header;
    // An answer; "recursion desired" as it was asked, "recursion available" always.
    let mut reply = vec![id_high, id_low, 0x80 | flags & 0x01, 0x80 | code];
    reply.extend([0, u8::from(!question.is_empty()), 0, 0, 0, 0, 0, 0]);
    reply.extend(question);
    reply
}

/// One record for the name of the question, which stands right after the header.
fn record(answer: &mut Vec<u8>, kind: u16, data: &[u8]) {
    answer.extend([0xc0, 0x0c]);
    answer.extend(kind.to_be_bytes());
    answer.extend(CLASS_IN.to_be_bytes());
    answer.extend(SECONDS_TO_LIVE.to_be_bytes());
    answer.extend(u16::try_from(data.len()).unwrap_or_default().to_be_bytes());
    answer.extend(data);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn question(name: &str, kind: u16) -> Vec<u8> {
        let mut packet = vec![7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            packet.push(u8::try_from(label.len()).unwrap());
            packet.extend(label.as_bytes());
        }
        packet.extend([0]);
        packet.extend(kind.to_be_bytes());
        packet.extend(CLASS_IN.to_be_bytes());
        packet
    }

    fn known(name: &HostName) -> Known {
        match name.as_str() {
            "example.org" => Known::At(Ipv4Addr::new(198, 18, 0, 2), Ipv6Addr::LOCALHOST),
            "full.org" => Known::Full,
            _ => Known::No,
        }
    }

    fn code(answer: &[u8]) -> u8 {
        answer[3] & 0x0f
    }

    #[test]
    fn an_allowed_name_has_addresses_and_nothing_else() {
        let asked = question("eXaMple.ORG", TYPE_A);
        let got = answer(&asked, known).unwrap();
        assert_eq!(got[..4], [7, 9, 0x81, 0x80]);
        assert_eq!(got[4..12], [0, 1, 0, 1, 0, 0, 0, 0]);
        assert_eq!(got[12..asked.len()], asked[12..], "the question as it was asked");
        assert_eq!(got[asked.len()..], [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 198, 18, 0, 2]);
        let got = answer(&question("example.org", TYPE_AAAA), known).unwrap();
        assert_eq!((got[7], &got[got.len() - 2..]), (1, &[0, 1][..]));
        for other in [2, 5, 15, 16, 33, 64, 65, 257] {
            let got = answer(&question("example.org", other), known).unwrap();
            assert_eq!((code(&got), got[7]), (NO_ERROR, 0), "type {other}");
        }
    }

    #[test]
    fn every_other_name_does_not_exist_whatever_is_asked() {
        for name in ["evil.org", "c2VjcmV0.evil.org", "-odd-.example.org", "0x7f.1"] {
            for kind in [TYPE_A, TYPE_AAAA, 16, 15, 255] {
                assert_eq!(code(&answer(&question(name, kind), known).unwrap()), NO_SUCH_NAME);
            }
        }
        let mut dotted = question("example-org", TYPE_A);
        dotted[12 + 1 + 7] = b'.';
        assert_eq!(code(&answer(&dotted, known).unwrap()), NO_SUCH_NAME);
        let mut nul = question("example.org", TYPE_A);
        nul[13] = 0;
        assert_eq!(code(&answer(&nul, known).unwrap()), NO_SUCH_NAME);
        assert_eq!(code(&answer(&question("full.org", TYPE_A), known).unwrap()), SERVER_FAILURE);
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let asked = question("example.org", TYPE_A);
        let with = |at: usize, byte: u8| {
            let mut packet = asked.clone();
            packet[at] = byte;
            answer(&packet, known)
        };
        assert!(with(2, 0x81).is_none(), "an answer");
        assert_eq!(code(&with(2, 0x29).unwrap()), NOT_IMPLEMENTED, "an update");
        assert_eq!(code(&with(5, 2).unwrap()), FORMAT_ERROR, "two questions");
        assert_eq!(code(&with(5, 0).unwrap()), FORMAT_ERROR, "none");
        assert_eq!(code(&with(12, 0xc0).unwrap()), FORMAT_ERROR, "a reference");
        assert_eq!(code(&answer(&asked[..20], known).unwrap()), FORMAT_ERROR, "cut short");
        assert!(answer(&asked[..11], known).is_none());
    }

    proptest! {
        #[test]
        fn no_packet_does_harm(packet in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(answer) = answer(&packet, |_name| Known::No) {
                prop_assert!(answer.len() <= packet.len().max(HEADER));
                prop_assert_eq!(&answer[..2], &packet[..2]);
            }
        }
    }
}
