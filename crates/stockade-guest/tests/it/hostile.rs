//! One side at work, the other hostile: a clear error, no panic, no wait without end.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use stockade_guest::{CallError, ChannelError, Client, Generation, Malformed};

use crate::{serve_in, shell};

pub(crate) const HELLO: &[u8] = b"\x0c\0\0\0\0\0\0\0\x01stockade\x04\0\0\0";

pub(crate) fn frame(stream: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&length, &stream.to_le_bytes(), [kind].as_slice(), payload].concat()
}

/// A client whose place first says `bytes`, and then what `answer` says, once a request has come.
fn client_of(bytes: &[u8], answer: Vec<u8>) -> Result<Client, ChannelError> {
    let (host, mut place) = UnixStream::pair().unwrap();
    place.write_all(bytes).unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 4096];
        // The greeting, then the request; they may come together.
        let mut count = place.read(&mut buffer).unwrap_or(0);
        while count <= HELLO.len() {
            match place.read(&mut buffer) {
                Ok(more) if more > 0 => count += more,
                _ => return,
            }
        }
        // An end of the other side while it is told is what a hostile place has to bear.
        place.write_all(&answer).ok();
        place.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while place.read(&mut buffer).is_ok_and(|count| count > 0) {}
    });
    Client::connect_within(host.try_clone().unwrap(), host, Duration::from_millis(500))
}

#[test]
fn a_place_that_is_something_else_is_not_connected_to() {
    let other = client_of(&frame(0, 1, b"stockade\x01\0\0\0"), vec![]).unwrap_err();
    assert!(matches!(other, ChannelError::Generation { ours: Generation::CURRENT, .. }), "{other}");
    let shell = client_of(b"# login: root\n", vec![]).unwrap_err();
    assert!(matches!(shell, ChannelError::Malformed(_)), "{shell}");
    let silent = client_of(b"", vec![]).unwrap_err();
    assert!(matches!(silent, ChannelError::Silent(_)), "{silent}");
    let (host, place) = UnixStream::pair().unwrap();
    drop(place);
    let gone = Client::connect(host.try_clone().unwrap(), host).unwrap_err();
    assert!(matches!(gone, ChannelError::Lost), "{gone}");
}

/// Threat model, V4: "What comes out of a place is bounded and checked, and can end its channel,
/// nothing else."
#[test]
fn every_breach_ends_the_channel_and_says_which() {
    let output = |length| frame(1, 13, &vec![b'x'; length]);
    let breaches: Vec<(&str, Vec<u8>)> = vec![
        ("unknown kind", frame(1, 77, b"")),
        ("oversized", vec![0xff; 9]),
        ("a stream that never was", frame(2, 15, &[4])),
        ("the channel's own stream", frame(0, 15, &[4])),
        ("a message for the other side", frame(1, 3, &[0; 7])),
        ("a program that nobody waits for", frame(1, 19, b"")),
        ("the end of one", frame(1, 20, b"")),
        ("trailing bytes", frame(1, 15, &[4, 4])),
        ("an end of no kind", frame(1, 15, &[9])),
        ("a refusal that is no text", frame(1, 15, &[5, 0, 0, 0, 0, 1, 0, 0, 0, 0xff])),
        ("empty output", output(0)),
        ("more than the window", output(200_000).repeat(40)),
        ("credit for nothing", frame(1, 12, &[1, 0, 0, 0])),
        ("output after the end", [output(1), frame(1, 15, &[0, 0]), output(1)].concat()),
    ];
    for (name, bytes) in breaches {
        let client = client_of(HELLO, bytes).unwrap();
        let first = client.exec(&shell("true"), &|| false, &mut |_, _| {
            thread::park_timeout(Duration::from_millis(100));
        });
        // An end that came before the breach may be seen first; the channel is closed then.
        let is_told = matches!(first, Err(CallError::Malformed(_)));
        assert!(is_told || name == "output after the end", "{name}: {first:?}");
        let deadline = Instant::now() + Duration::from_secs(5);
        let next = loop {
            let next = client.ping();
            if next.is_err() || Instant::now() > deadline {
                break next;
            }
        };
        assert!(matches!(next, Err(CallError::Malformed(_))), "{name}: {next:?}");
    }
}

#[test]
fn an_answer_cut_short_is_an_error() {
    let (host, mut place) = UnixStream::pair().unwrap();
    place.write_all(HELLO).unwrap();
    let client = Client::connect(host.try_clone().unwrap(), host).unwrap();
    place.write_all(frame(1, 15, &[4]).split_at(4).0).unwrap();
    drop(place);
    let error = client.ping().unwrap_err();
    assert!(
        matches!(error, CallError::Malformed(Malformed::Truncated) | CallError::Lost),
        "{error}"
    );
}

#[test]
fn lists_and_finds_are_looked_through() {
    let entry = |name: &[u8]| {
        let length = u32::try_from(name.len()).unwrap().to_le_bytes();
        [[0_u8; 9].as_slice(), &length, name].concat()
    };
    for bad in [entry(b"../x"), entry(b".."), entry(b""), entry(b"a\0"), vec![0; 5], vec![7; 20]] {
        let answer = [frame(1, 13, &bad), frame(1, 15, &[4])].concat();
        let error = client_of(HELLO, answer).unwrap().list("x".as_ref()).unwrap_err();
        assert!(matches!(error, CallError::Malformed(_)), "{bad:?}: {error}");
    }
    let answer = [frame(1, 13, b"more than asked"), frame(1, 15, &[4])].concat();
    let error = client_of(HELLO, answer).unwrap().read_file("x".as_ref(), 3).unwrap_err();
    assert!(matches!(error, CallError::Malformed(_)), "{error}");
}

#[test]
fn a_place_that_does_not_read_holds_up_nobody() {
    let (host, mut place) = UnixStream::pair().unwrap();
    place.write_all(HELLO).unwrap();
    let client = Client::connect(host.try_clone().unwrap(), host).unwrap();
    let big = vec![0; 10_000_000];
    let started = Instant::now();
    let stop = || started.elapsed() > Duration::from_millis(100);
    let exec = stockade_guest::Exec { stdin: big, ..shell("cat") };
    thread::scope(|scope| {
        let call = scope.spawn(|| {
            client.exec(&exec, &|| started.elapsed() > Duration::from_millis(100), &mut |_, _| {})
        });
        while !stop() {
            thread::park_timeout(Duration::from_millis(10));
        }
        // The place is killed, as a machine is: the call ends at once.
        drop(place);
        assert!(matches!(call.join().unwrap(), Err(CallError::Lost)));
    });
    assert!(started.elapsed() < Duration::from_mins(1));
}

#[test]
fn a_call_that_is_stopped_does_not_wait_for_ever() {
    let (host, mut place) = UnixStream::pair().unwrap();
    place.write_all(HELLO).unwrap();
    let client = Client::connect(host.try_clone().unwrap(), host).unwrap();
    let error = client.exec(&shell("true"), &|| true, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, CallError::Lost), "{error}");
    assert!(matches!(client.ping(), Err(CallError::Lost)), "the place counts as lost from then on");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A place that says anything at all.
    #[test]
    fn no_bytes_make_the_host_panic_or_hang(bytes in proptest::collection::vec(any_frame(), 0..6)) {
        let client = client_of(HELLO, bytes.concat()).unwrap();
        // Neither an end nor a breach: then the hang-up, after a moment, is what ends the call.
        let (sender, receiver) = std::sync::mpsc::channel();
        thread::spawn(move || {
            drop(client.exec(&shell("x"), &|| false, &mut |_, _| {}));
            sender.send(()).ok();
        });
        prop_assert!(receiver.recv_timeout(Duration::from_secs(20)).is_ok());
    }

    /// A host that says anything at all.
    #[test]
    fn no_bytes_make_the_place_panic(bytes in proptest::collection::vec(any_frame(), 0..6)) {
        let folder = tempfile::tempdir().unwrap();
        let (mut host, serving) = serve_in(folder.path());
        host.write_all(HELLO).unwrap();
        host.write_all(&bytes.concat()).ok();
        host.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        host.read_to_end(&mut answer).ok();
        prop_assert!(serving.join().is_ok());
    }
}

/// Frames that are nearly right: the right streams and kinds, and any payload.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let payload = proptest::collection::vec(prop_oneof![Just(0_u8), Just(1), any::<u8>()], 0..12);
    prop_oneof![
        9 => (0..3_u32, 0..18_u8, payload)
            .prop_filter("no command of chance", |(_, kind, _)| *kind != 3)
            .prop_map(|(stream, kind, payload)| frame(stream, kind, &payload)),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ]
}
