//! What happened on the network, for the record and for the end of a run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// As many refused hosts as are kept apart.
const KEPT_MAX: usize = 256;

/// Who inside made a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The process, by its number inside.
    pub process: u32,
    /// The file that it ran, when that is known. The name is the program's, and may hold anything.
    pub command: Option<String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A host was reached: what passes between it and the program passes from now on.
    Opened {
        /// By which its end is told.
        id: u64,
        /// The host as the program asked for it.
        host: String,
        /// Its port.
        port: u16,
        /// Who inside, when it is known.
        caller: Option<Caller>,
        /// What allowed it.
        rule: String,
    },
    /// A connection is over.
    Connection {
        /// By which it was told that it was opened; none when it never was.
        id: Option<u64>,
        /// The host as the program asked for it.
        host: String,
        /// Its port.
        port: u16,
        /// Who inside, when it is known.
        caller: Option<Caller>,
        /// What allowed it.
        rule: String,
        /// Bytes to the host.
        sent: u64,
        /// Bytes from it.
        received: u64,
        /// Why it came to nothing, if it did.
        failure: Option<String>,
    },
    /// A log-in by ssh was signed.
    Login {
        /// Where.
        host: String,
        /// As whom.
        user: String,
        /// Who inside, when it is known.
        caller: Option<Caller>,
        /// What ssh shows of the key.
        fingerprint: String,
        /// What allowed it.
        rule: String,
    },
    /// Something was refused.
    Refused {
        /// The connection on which it was said, when that was open.
        id: Option<u64>,
        /// The host as the program asked for it.
        host: String,
        /// Its port; `None` when a name was asked for.
        port: Option<u16>,
        /// Who inside, when it is known.
        caller: Option<Caller>,
        /// Why.
        why: String,
        /// The entry of `--allow-host` that would allow it, if one would.
        remedy: Option<String>,
    },
}

/// One host that was refused, however often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The host, with its port when that is known.
    pub host: String,
    /// How often.
    pub times: u64,
    /// Why, the last time.
    pub why: String,
    /// The entry of `--allow-host` that would allow it, if one would.
    pub remedy: Option<String>,
}

/// Where events go.
pub(crate) struct Log {
    sink: Box<dyn Fn(&Event) + Send + Sync>,
    /// Connections that were opened so far.
    opened: AtomicU64,
    blocked: Mutex<BTreeMap<String, Blocked>>,
    /// Hosts that are allowed and could not be reached, with why, the last time.
    unreached: Mutex<BTreeMap<String, String>>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("blocked", &self.blocked).finish_non_exhaustive()
    }
}

impl Log {
    pub(crate) fn new(sink: Box<dyn Fn(&Event) + Send + Sync>) -> Self {
        let (blocked, unreached) = (Mutex::default(), Mutex::default());
        Self { sink, opened: AtomicU64::new(0), blocked, unreached }
    }

    /// Tells that a host was reached; the value is what its end is told by.
    pub(crate) fn open(
        &self,
        (host, port): (String, u16),
        caller: Option<Caller>,
        rule: String,
    ) -> u64 {
        let id = self.opened.fetch_add(1, Ordering::Relaxed) + 1;
        self.tell(&Event::Opened { id, host, port, caller, rule });
        id
    }

    pub(crate) fn tell(&self, event: &Event) {
        if let Event::Refused { host, port, why, remedy, .. } = event
            && !(port.is_none() && asks_backwards(host))
        {
            let host = match port {
                Some(port) => format!("{host}:{port}"),
                None => host.clone(),
            };
            let mut blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = blocked.get_mut(&host) {
                known.times += 1;
                known.why.clone_from(why);
            } else if blocked.len() < KEPT_MAX {
                let (why, remedy) = (why.clone(), remedy.clone());
                blocked.insert(host.clone(), Blocked { host, times: 1, why, remedy });
            }
        }
        if let Event::Connection { host, port, sent: 0, received: 0, failure: Some(why), .. } =
            event
        {
            let mut unreached = self.unreached.lock().unwrap_or_else(PoisonError::into_inner);
            if unreached.len() < KEPT_MAX {
                unreached.insert(format!("{host}:{port}"), why.clone());
            }
        }
        (self.sink)(event);
    }

    pub(crate) fn unreached(&self) -> Vec<(String, String)> {
        let unreached = self.unreached.lock().unwrap_or_else(PoisonError::into_inner);
        unreached.iter().map(|(host, why)| (host.clone(), why.clone())).collect()
    }

    pub(crate) fn blocked(&self) -> Vec<Blocked> {
        let blocked = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocked.values().cloned().collect()
    }
}

/// Whether a name is the question which name an address has (RFC 1035 section 3.5, RFC 3596 section
/// 2.5): servers ask so of whoever connects. It is recorded, and nobody would allow it.
fn asks_backwards(name: &str) -> bool {
    name.ends_with(".in-addr.arpa") || name.ends_with(".ip6.arpa")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_for_the_name_of_an_address_is_recorded_and_not_listed() {
        let told = std::sync::Arc::new(Mutex::new(Vec::new()));
        let sink = std::sync::Arc::clone(&told);
        let log = Log::new(Box::new(move |event| sink.lock().unwrap().push(format!("{event:?}"))));
        for (host, port) in [
            ("1.0.0.127.in-addr.arpa", None),
            ("8.b.d.0.ip6.arpa", None),
            ("example.org", None),
            ("x.ip6.arpa", Some(443)),
        ] {
            let (host, why) = (host.to_owned(), "not allowed".to_owned());
            let refused = Event::Refused { id: None, host, port, caller: None, why, remedy: None };
            log.tell(&refused);
        }
        let blocked: Vec<_> = log.blocked().into_iter().map(|one| one.host).collect();
        assert_eq!(blocked, ["example.org", "x.ip6.arpa:443"]);
        assert_eq!(told.lock().unwrap().len(), 4);
    }
}
