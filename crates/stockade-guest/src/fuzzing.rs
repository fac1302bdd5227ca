//! What the fuzz targets in `fuzz/` hold of both sides. Built for these, and for the tests below, which run
//! them where there is no cargo-fuzz. Nothing is executed and no file is touched: requests end where they would be carried out.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client;
use crate::frame::{self, HEADER};
use crate::inbox::Arrival;
use crate::link::Link;
use crate::lock;
use crate::message::{Message, Stream, WINDOW};
use crate::serve::{Place, ServeOptions};
use crate::start;
use crate::version::Generation;

/// Calls that the host has open.
const CALLS: u32 = 3;

/// Frames, whoever sent them: what is understood has exactly one form.
///
/// # Panics
///
/// When it has another.
pub fn frames(mut stream: &[u8]) {
    while let Ok(Some(frame)) = frame::read(&mut stream) {
        let (number, payload) = (frame.stream, frame.payload.clone());
        let Ok(message) = Message::decode(frame) else { return };
        let again = message.encode(number).expect("what came in a frame fits into one");
        assert_eq!(again.get(HEADER..), Some(payload.as_slice()), "{message:?}");
    }
}

/// What a place says to a host with calls open, one of which is read: each holds one window at
/// most, and after its end there is nothing more.
///
/// # Panics
///
/// When one holds more.
pub fn host(mut stream: &[u8]) {
    let link = Link::default();
    let inboxes: Vec<_> = (0..CALLS).filter_map(|_| link.open().ok()).collect();
    for (_, inbox) in &inboxes {
        inbox.take_credit(WINDOW / 2);
    }
    let mut has_ended = false;
    while let Ok(Some(frame)) = frame::read(&mut stream) {
        if link.dispatch(frame).is_err() {
            break;
        }
        if let Some((_, read)) = inboxes.first() {
            match read.next(false, Duration::ZERO) {
                Arrival::Output(_, data) => assert!(!has_ended && data.len() <= WINDOW),
                Arrival::Finish(_) => has_ended = true,
                // Signs of a program that connects: each is told once, whenever it came.
                Arrival::Opened | Arrival::OutputEnd => {}
                Arrival::Nothing => assert!(!has_ended, "an end is taken back"),
                Arrival::Broken(broken) => unreachable!("nobody broke it: {broken:?}"),
            }
        }
    }
    for (_, inbox) in &inboxes {
        let mut unread = 0;
        while let Arrival::Output(_, data) = inbox.next(false, Duration::ZERO) {
            unread += data.len();
        }
        assert!(unread <= WINDOW, "{unread} bytes wait");
        assert!(inbox.take_credit(usize::MAX) <= WINDOW, "more than a window may be sent");
    }
}

/// Where a place writes to.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a host says to a place, in which every second call is worked at as each further one begins: no call holds
/// or sends more than a window, and all that is answered is well-formed.
///
/// # Panics
///
/// When one does, or something is not.
pub fn place(mut stream: &[u8]) {
    let written = Written::default();
    let place = Place::new(written.clone(), ServeOptions { folder: "/nowhere".into() });
    let calls = Mutex::new(Vec::new());
    let begin = |number, _| {
        if let Ok(call) = place.enter(number) {
            lock(&calls).push(call);
        }
        for call in lock(&calls).iter().step_by(2) {
            while let Ok(Some(data)) = call.try_input() {
                call.took(data.len());
            }
            call.send_some(Stream::Stderr, &[0; 1000]);
            call.new_size();
        }
        Ok(())
    };
    // Whatever it is that ends it.
    drop(place.listen(&mut stream, &begin));
    for call in lock(&calls).iter() {
        let mut unread = 0;
        while let Ok(Some(data)) = call.try_input() {
            unread += data.len();
        }
        assert!(unread <= WINDOW, "{unread} bytes wait");
        assert!(call.credit() <= WINDOW, "more than a window may be sent");
    }
    let written = lock(&written.0);
    let mut answers = written.as_slice();
    while let Some(frame) = frame::read(&mut answers).expect("whole frames") {
        Message::decode(frame).expect("a message");
    }
}

/// What a machine that waits is told: it is started by nothing but a whole start, and has read no further.
///
/// # Panics
///
/// When it is started by something else.
pub fn start(stream: &[u8]) {
    let mut told = Told { rest: stream };
    let Ok(Some(start)) = start::await_start(&mut told) else { return };
    let hello = Message::Hello(Generation::CURRENT).encode(0).expect("a greeting fits");
    let start = Message::Start(start).encode(0).expect("what came in a frame fits into one");
    let read = stream.len() - told.rest.len();
    assert_eq!(read, hello.len() + start.len());
    // The number of the stream, which is nobody's yet, is not looked at.
    let payload = |bytes: &[u8]| bytes.get(hello.len() + HEADER..read).map(<[u8]>::to_vec);
    assert_eq!(payload(stream), payload(&[hello.clone(), start].concat()));
}

/// A channel whose other side is heard and not answered.
struct Told<'a> {
    rest: &'a [u8],
}

impl io::Read for Told<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.rest.read(buffer)
    }
}

impl io::Write for Told<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The answers to listings and searches: no name leads elsewhere.
///
/// # Panics
///
/// When one does.
pub fn answers(answer: &[u8]) {
    for entry in client::entries(answer).unwrap_or_default() {
        let path = std::path::Path::new("/folder").join(&entry.name);
        assert_eq!(path.parent(), Some("/folder".as_ref()), "{entry:?}");
        assert_eq!(path.file_name(), Some(entry.name.as_os_str()), "{entry:?}");
    }
    let found = client::found(answer).unwrap_or_default();
    let held: usize = found.iter().map(|found| found.text.len()).sum();
    assert!(held <= answer.len(), "it grows");
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::frame::Frame;

    /// Edited seeds that each target is given; of those that fill windows, which take longer, fewer.
    const CASES: u32 = 2000;
    const LARGE_CASES: u32 = 40;
    const LARGE: usize = 16 * 1024;

    /// What the target of that name begins with.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
        let mut paths: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "{target}");
        paths.iter().map(|path| fs::read(path).unwrap()).collect()
    }

    fn frames_of(mut stream: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = frame::read(&mut stream).unwrap() {
            frames.push(frame);
        }
        frames
    }

    fn bytes_of(frames: &[Frame]) -> Vec<u8> {
        let bytes = frames.iter().flat_map(|frame| {
            let length = u32::try_from(frame.payload.len()).unwrap().to_le_bytes();
            [&length, &frame.stream.to_le_bytes(), [frame.kind].as_slice(), &frame.payload].concat()
        });
        bytes.collect()
    }

    /// A change of a stream. Those of whole frames get further than those of bytes.
    #[derive(Debug, Clone)]
    enum Edit {
        Again(Index, Index),
        Away(Index),
        Stream(Index, u32),
        Kind(Index, u8),
        Payload(Index, Vec<u8>),
        Byte(Index, u8),
        Cut(Index),
    }

    fn any_edit() -> impl Strategy<Value = Edit> {
        let at = || any::<Index>();
        let payload = proptest::collection::vec(any::<u8>(), 0..12);
        let byte = prop_oneof![any::<u8>(), proptest::sample::select(&b"\0\x01\xff/."[..])];
        prop_oneof![
            3 => (at(), at()).prop_map(|(from, to)| Edit::Again(from, to)),
            2 => at().prop_map(Edit::Away),
            3 => (at(), 0..6_u32).prop_map(|(at, stream)| Edit::Stream(at, stream)),
            3 => (at(), 0..23_u8).prop_map(|(at, kind)| Edit::Kind(at, kind)),
            2 => (at(), payload).prop_map(|(at, payload)| Edit::Payload(at, payload)),
            2 => (at(), byte).prop_map(|(at, byte)| Edit::Byte(at, byte)),
            1 => at().prop_map(Edit::Cut),
        ]
    }

    fn edited(seed: &[u8], edits: &[Edit]) -> Vec<u8> {
        let mut frames = frames_of(seed);
        for edit in edits {
            let count = frames.len();
            if count == 0 {
                break;
            }
            match edit {
                Edit::Again(from, to) => {
                    let frame = frames[from.index(count)].clone();
                    frames.insert(to.index(count), frame);
                }
                Edit::Away(at) => drop(frames.remove(at.index(count))),
                Edit::Stream(at, stream) => frames[at.index(count)].stream = *stream,
                Edit::Kind(at, kind) => frames[at.index(count)].kind = *kind,
                Edit::Payload(at, payload) => {
                    frames[at.index(count)].payload.clone_from(payload);
                }
                Edit::Byte(..) | Edit::Cut(_) => {}
            }
        }
        raw(bytes_of(&frames), edits)
    }

    /// Only the edits of bytes.
    fn raw(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
        for edit in edits {
            match edit {
                Edit::Byte(at, byte) if !bytes.is_empty() => {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                }
                Edit::Cut(at) if !bytes.is_empty() => bytes.truncate(at.index(bytes.len())),
                Edit::Byte(..)
                | Edit::Cut(_)
                | Edit::Again(..)
                | Edit::Away(_)
                | Edit::Stream(..)
                | Edit::Kind(..)
                | Edit::Payload(..) => {}
            }
        }
        bytes
    }

    /// Gives `target` its seeds, as they are and edited.
    fn hold(name: &str, edit: fn(&[u8], &[Edit]) -> Vec<u8>, target: fn(&[u8])) {
        let (large, small): (Vec<_>, Vec<_>) =
            seeds(name).into_iter().partition(|seed| seed.len() > LARGE);
        for (seeds, cases) in [(small, CASES), (large, LARGE_CASES)] {
            for seed in &seeds {
                target(seed);
            }
            if seeds.is_empty() {
                continue;
            }
            let config =
                ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) };
            let edits = proptest::collection::vec(any_edit(), 1..8);
            let mut runner = proptest::test_runner::TestRunner::new(config);
            let ran = runner.run(&(any::<Index>(), edits), |(at, edits)| {
                target(&edit(&seeds[at.index(seeds.len())], &edits));
                Ok(())
            });
            ran.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    #[test]
    fn frames_have_one_form() {
        hold("guest_frames", edited, frames);
    }

    #[test]
    fn the_hosts_side_holds_against_any_place() {
        hold("guest_host", edited, host);
    }

    #[test]
    fn the_places_side_holds_against_any_host() {
        hold("guest_place", edited, place);
    }

    #[test]
    fn a_machine_is_started_by_a_start_alone() {
        hold("guest_start", edited, start);
    }

    #[test]
    fn no_answer_names_anything_elsewhere() {
        let bytes = |seed: &[u8], edits: &[Edit]| raw(seed.to_owned(), edits);
        hold("guest_answers", bytes, answers);
    }

    /// Seeds of an earlier generation would test the first frame and nothing else.
    #[test]
    fn seeds_are_of_this_generation_and_have_every_kind_of_message() {
        let mut kinds = BTreeSet::new();
        let mut greetings = 0;
        for seed in seeds("guest_frames") {
            for frame in frames_of(&seed) {
                kinds.insert(frame.kind);
                if let Message::Hello(generation) = Message::decode(frame).unwrap() {
                    assert_eq!(generation, Generation::CURRENT);
                    greetings += 1;
                }
            }
        }
        let unknown = |kind: &u8| {
            let frame = Frame { stream: 1, kind: *kind, payload: Vec::new() };
            Message::decode(frame) == Err(crate::Malformed::UnknownKind(*kind))
        };
        let known: BTreeSet<u8> = (0..=u8::MAX).filter(|kind| !unknown(kind)).collect();
        assert_eq!((greetings, kinds), (3, known));
        // The others begin after the greeting.
        for target in ["guest_host", "guest_place"] {
            for frame in seeds(target).iter().flat_map(|seed| frames_of(seed)) {
                Message::decode(frame).unwrap();
            }
        }
    }
}
