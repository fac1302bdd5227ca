//! One port of the host's loopback, offered inside.
//!
//! The listener was made by PID 1 in the sandbox's network namespace and works from here; the
//! other end of each connection is dialled here, on the host.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;

/// Serves `listeners` until this process ends.
///
/// # Errors
///
/// When a thread cannot be had.
pub(crate) fn serve(listeners: Vec<OwnedFd>) -> io::Result<()> {
    for listener in listeners {
        let listener = TcpListener::from(listener);
        let port = listener.local_addr()?.port();
        thread::Builder::new().name(format!("port-{port}")).spawn(move || {
            for inside in listener.incoming().flatten() {
                // At the limit of threads a connection is closed, as a full server would.
                thread::Builder::new().spawn(move || carry(inside, port)).ok();
            }
        })?;
    }
    Ok(())
}

/// Carries one connection to the host's port, both ways, each way closed on its own.
fn carry(inside: TcpStream, port: u16) {
    let addresses = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    // Dropping `inside` tells the program that nobody listens there.
    let Ok(outside) = TcpStream::connect(&addresses[..]) else { return };
    drop((inside.set_nodelay(true), outside.set_nodelay(true)));
    let (Ok(inside_read), Ok(outside_read)) = (inside.try_clone(), outside.try_clone()) else {
        return;
    };
    let back = thread::Builder::new().spawn(move || copy(outside_read, &inside));
    copy(inside_read, &outside);
    if let Ok(back) = back {
        back.join().ok();
    }
}

fn copy(mut from: TcpStream, mut to: &TcpStream) {
    io::copy(&mut from, &mut to).ok();
    drop((to.shutdown(Shutdown::Write), from.shutdown(Shutdown::Read)));
}
