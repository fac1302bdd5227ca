//! Connections that a person's answer allowed: they end when it is taken back.
//!
//! One thread looks after all of them, as long as there are any.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use rustix::event::{Timespec, poll};
use stockade_policy::Host;

use crate::grants::AskHost;

/// How often it is looked whether the answer still holds.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
/// Reading a file needs no more.
const STACK: usize = 128 * 1024;
/// Why such a connection ended, for a person.
pub(crate) const TAKEN_BACK: &str = "the answer that allowed it was taken back";

/// One connection, both of whose ends can be closed.
#[derive(Debug)]
pub(crate) struct Granted {
    host: String,
    port: u16,
    ends: [TcpStream; 2],
    is_taken_back: AtomicBool,
}

impl Granted {
    /// Whether it ended because the answer was taken back.
    pub(crate) fn is_taken_back(&self) -> bool {
        self.is_taken_back.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.is_taken_back.store(true, Ordering::Release);
        for end in &self.ends {
            // Gone already, perhaps.
            end.shutdown(Shutdown::Both).ok();
        }
    }
}

/// Those that are open.
#[derive(Debug, Default)]
struct Open {
    connections: Vec<Weak<Granted>>,
    is_watched: bool,
}

/// Those that are open, and who looks after them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watching(Arc<Mutex<Open>>);

impl Watching {
    /// Has the connection of these two ends closed when `asker` says that it is not granted any more. To
    /// be kept as long as it is open.
    ///
    /// # Errors
    ///
    /// When nobody could look after it.
    pub(crate) fn begin(
        &self,
        asker: &Arc<dyn AskHost>,
        (host, port): (&Host, u16),
        (program, server): (&TcpStream, &TcpStream),
    ) -> io::Result<Arc<Granted>> {
        let ends = [program.try_clone()?, server.try_clone()?];
        let is_taken_back = AtomicBool::new(false);
        let granted = Arc::new(Granted { host: host.to_string(), port, ends, is_taken_back });
        let mut open = self.locked();
        open.connections.push(Arc::downgrade(&granted));
        if !open.is_watched {
            let (watching, asker) = (self.clone(), Arc::clone(asker));
            let watch = move || watching.watch(asker.as_ref());
            thread::Builder::new().name("granted".to_owned()).stack_size(STACK).spawn(watch)?;
            open.is_watched = true;
        }
        Ok(granted)
    }

    fn watch(&self, asker: &dyn AskHost) {
        loop {
            poll(&mut [], Some(&TURN)).ok();
            let mut open = self.locked();
            open.connections.retain(|connection| connection.strong_count() > 0);
            if open.connections.is_empty() {
                open.is_watched = false;
                return;
            }
            let connections: Vec<_> = open.connections.iter().filter_map(Weak::upgrade).collect();
            drop(open);
            for granted in connections {
                if !granted.is_taken_back() && !asker.is_granted(&granted.host, granted.port) {
                    granted.end();
                }
            }
        }
    }

    fn locked(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;
    use crate::grants::Given;
    use crate::login::Login;

    struct Person(AtomicBool);

    impl AskHost for Person {
        fn is_present(&self) -> bool {
            true
        }

        fn is_granted(&self, host: &str, port: u16) -> bool {
            self.0.load(Ordering::Acquire) && (host, port) == ("example.org", 443)
        }

        fn ask(&self, _host: &str, _port: u16, _process: Option<u32>) -> Given {
            Given::Always
        }

        fn ask_login(&self, _login: &Login) -> Given {
            Given::Always
        }
    }

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn a_connection_ends_when_its_answer_is_taken_back() {
        let person = Arc::new(Person(AtomicBool::new(true)));
        let asker: Arc<dyn AskHost> = Arc::clone(&person) as Arc<dyn AskHost>;
        let watching = Watching::default();
        let ((mut program, inside), (outside, mut server)) = (pair(), pair());
        let host = Host::new("example.org").unwrap();
        let granted = watching.begin(&asker, (&host, 443), (&inside, &outside)).unwrap();
        program.set_read_timeout(Some(std::time::Duration::from_millis(1500))).unwrap();
        assert!(program.read(&mut [0]).is_err(), "it stays open as long as the answer holds");
        person.0.store(false, Ordering::Release);
        program.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        assert_eq!(program.read(&mut [0]).unwrap(), 0);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        assert!(granted.is_taken_back());
        drop(granted);
        // Who looks after them ends when there are none.
        while watching.locked().is_watched {
            poll(&mut [], Some(&TURN)).unwrap();
        }
    }
}
