//! A place's way out: what its programs say arrives at the host's sockets, and nothing does once
//! it is closed, whatever the place says.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use stockade_guest::{CallError, Client, Outlet};

use crate::hostile::{HELLO, frame};
use crate::{Served, run, served, shell};

/// An outlet whose connections come out of the receiver.
fn out_of(client: &Client) -> (Outlet, mpsc::Receiver<UnixStream>) {
    let (sender, receiver) = mpsc::channel();
    let connect = move || {
        let (near, far) = UnixStream::pair()?;
        sender.send(far).unwrap();
        Ok(near)
    };
    (client.outlet(connect).unwrap(), receiver)
}

fn program(outlet: &Outlet) -> TcpStream {
    TcpStream::connect(("127.0.0.1", outlet.port())).unwrap()
}

const MOMENT: Duration = Duration::from_secs(30);

#[test]
fn what_a_program_says_and_hears_is_carried_and_each_way_ends_by_itself() {
    let Served { client, .. } = served();
    let (outlet, sockets) = out_of(&client);
    let mut program = program(&outlet);
    let mut host = sockets.recv_timeout(MOMENT).unwrap();
    host.write_all(b"welcome").unwrap();
    let mut first = [0; 7];
    program.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"welcome", "the other end may speak first");
    let long: Vec<u8> = (0..=250).cycle().take(5 << 20).collect();
    let sent = long.clone();
    let saying = thread::spawn(move || {
        program.write_all(&sent).unwrap();
        program.shutdown(Shutdown::Write).unwrap();
        let mut heard = Vec::new();
        program.read_to_end(&mut heard).unwrap();
        heard
    });
    let mut said = Vec::new();
    host.read_to_end(&mut said).unwrap();
    assert!(said == long, "{} bytes", said.len());
    host.write_all(&long).unwrap();
    drop(host);
    assert!(saying.join().unwrap() == long);
    outlet.close().unwrap();
    client.ping().unwrap();
}

#[test]
fn many_programs_at_once_are_carried_and_more_than_there_is_room_for_wait() {
    let Served { client, .. } = served();
    let (outlet, sockets) = out_of(&client);
    let echo = thread::spawn(move || {
        let mut threads = Vec::new();
        for mut socket in sockets {
            threads.push(thread::spawn(move || {
                let mut said = Vec::new();
                socket.read_to_end(&mut said).unwrap();
                socket.write_all(&said).unwrap();
            }));
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).count()
    });
    let programs: Vec<_> = (0..150_u32)
        .map(|number| {
            let mut program = program(&outlet);
            thread::spawn(move || {
                let words = number.to_le_bytes().repeat(1000);
                program.write_all(&words).unwrap();
                thread::park_timeout(Duration::from_millis(20));
                program.shutdown(Shutdown::Write).unwrap();
                let mut heard = Vec::new();
                program.read_to_end(&mut heard).unwrap();
                assert!(heard == words, "{number}");
            })
        })
        .collect();
    for program in programs {
        program.join().unwrap();
    }
    outlet.close().unwrap();
    assert_eq!(echo.join().unwrap(), 150);
}

#[test]
fn an_end_that_does_not_read_holds_up_nothing_else_and_is_closed_all_the_same() {
    let Served { client, .. } = served();
    let (outlet, sockets) = out_of(&client);
    let mut stalled = program(&outlet);
    let unread = sockets.recv_timeout(MOMENT).unwrap();
    thread::spawn(move || while stalled.write_all(&[0; 1 << 13]).is_ok() {});
    let mut other = program(&outlet);
    let mut host = sockets.recv_timeout(MOMENT).unwrap();
    other.write_all(b"x").unwrap();
    host.read_exact(&mut [0]).unwrap();
    let began = Instant::now();
    client.ping().unwrap();
    assert!(began.elapsed() < Duration::from_secs(30));
    outlet.close().unwrap();
    drop(unread);
    client.ping().unwrap();
}

/// Threat model, V7: "The programs of a machine reach hosts while its set-up runs, those of its
/// list, and none before or afterwards."
#[test]
fn once_closed_a_program_is_cut_off_and_no_other_comes_in() {
    let Served { client, folder: _folder, .. } = served();
    let (outlet, sockets) = out_of(&client);
    let port = outlet.port();
    let mut kept = program(&outlet);
    let mut host = sockets.recv_timeout(MOMENT).unwrap();
    kept.write_all(b"before").unwrap();
    host.read_exact(&mut [0; 6]).unwrap();
    outlet.close().unwrap();
    // An ended connection takes a first word and refuses the second.
    kept.set_read_timeout(Some(MOMENT)).unwrap();
    assert_eq!(kept.read(&mut [0]).unwrap_or(0), 0);
    kept.write_all(b"after").ok();
    let mut rest = Vec::new();
    host.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert!(sockets.recv_timeout(Duration::from_millis(300)).is_err());
    // The channel itself is as it was, and can let programs out again.
    assert_eq!(run(&client, &shell("echo on")).1, b"on\n");
    let (again, sockets) = out_of(&client);
    let _program = program(&again);
    sockets.recv_timeout(MOMENT).unwrap();
}

#[test]
fn a_second_outlet_is_refused_while_there_is_one() {
    let Served { client, .. } = served();
    let (_outlet, _sockets) = out_of(&client);
    let second = client.outlet(|| Err(std::io::ErrorKind::NotConnected.into()));
    assert!(matches!(second, Err(CallError::Refused { errno: libc::EBUSY, .. })), "{second:?}");
}

#[test]
fn where_the_host_has_no_socket_the_program_is_hung_up_on() {
    let Served { client, .. } = served();
    let outlet = client.outlet(|| Err(std::io::ErrorKind::NotConnected.into())).unwrap();
    for _ in 0..3 {
        let mut program = program(&outlet);
        program.set_read_timeout(Some(MOMENT)).unwrap();
        assert_eq!(program.read(&mut [0]).unwrap_or(0), 0);
    }
    outlet.close().unwrap();
}

/// A place by hand: it listens, has a program come, and then says `bytes` once it is told to stop.
fn by_hand(bytes: Vec<u8>) -> (Client, Outlet, Arc<AtomicUsize>) {
    let (host, mut place) = UnixStream::pair().unwrap();
    place.write_all(HELLO).unwrap();
    thread::spawn(move || {
        let mut said = Vec::new();
        let mut buffer = [0; 4096];
        let mut answered = 0;
        while let Ok(count @ 1..) = place.read(&mut buffer) {
            said.extend_from_slice(buffer.get(..count).unwrap());
            // LISTEN and ACCEPT are the first two calls; a STOP ends the hand's patience.
            let has = |number, kind| {
                let frame = frame(number, kind, b"");
                said.windows(frame.len()).any(|window| window == frame)
            };
            if answered == 0 && has(1, 17) {
                place.write_all(&frame(1, 13, &[1, 2])).unwrap();
                answered = 1;
            } else if answered == 1 && has(2, 18) {
                place.write_all(&frame(2, 19, b"")).unwrap();
                answered = 2;
            } else if answered == 2 && has(1, 11) {
                place.write_all(&bytes).ok();
                answered = 3;
            }
        }
    });
    let client = Client::connect(host.try_clone().unwrap(), host).unwrap();
    let count = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&count);
    let connect = move || {
        counted.fetch_add(1, Ordering::SeqCst);
        UnixStream::pair().map(|(near, _far)| near)
    };
    let outlet = client.outlet(connect).unwrap();
    assert_eq!(outlet.port(), 0x0201);
    let deadline = Instant::now() + MOMENT;
    while count.load(Ordering::SeqCst) == 0 && Instant::now() < deadline {
        thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
    (client, outlet, count)
}

/// Threat model, V4: "What comes out of a place is bounded and checked, and can end its channel,
/// nothing else."
#[test]
fn a_place_that_will_not_end_its_connections_is_lost() {
    let (client, outlet, count) = by_hand(Vec::new());
    let began = Instant::now();
    assert!(matches!(outlet.close(), Err(CallError::Lost)));
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    assert!(client.ping().is_err());
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

/// Threat model, V7: "The programs of a machine reach hosts while its set-up runs, those of its
/// list, and none before or afterwards."
#[test]
fn what_a_place_says_after_the_close_reaches_no_socket() {
    let stopped = |number| frame(number, 15, &[3]);
    let ends = [stopped(1), stopped(2), stopped(3)].concat();
    for (name, more, is_broken) in [
        ("a connection that is over", [frame(2, 13, b"x"), frame(3, 19, b"")].concat(), false),
        ("a connection that nobody waited for", frame(4, 19, b""), true),
        ("one on the channel's own stream", frame(0, 19, b""), true),
    ] {
        let (client, outlet, count) = by_hand([ends.clone(), more].concat());
        let closed = outlet.close();
        // The breach may be seen first; what comes for a call that is just ending is one too.
        let is_told = matches!(closed, Err(CallError::Malformed(_)));
        assert!(closed.is_ok() || is_told, "{name}: {closed:?}");
        thread::park_timeout(Duration::from_millis(200));
        assert_eq!(count.load(Ordering::SeqCst), 1, "{name}");
        if is_broken {
            assert!(matches!(client.ping(), Err(CallError::Malformed(_))), "{name}");
        }
    }
}
