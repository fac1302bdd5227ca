//! Hosts that are asked about while programs wait, and what came of it.
//!
//! A name that no entry allows gets an address as long as somebody may be asked; nothing leaves this
//! machine for that. The connection is what is asked about, with its port. What an entry denies, and
//! what has to be named by its class, is not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use stockade_policy::{Decision, Host, HostName, Network, NetworkReason};

use crate::login::Login;

/// Names that nobody allowed and that have addresses all the same.
const NAMES_MAX: usize = 256;
/// Hosts that are asked about at one time.
const OPEN_MAX: usize = 16;
/// How long a yes for once lets in those that waited with it. One that asks for the host of both
/// families waits twice.
const ONCE: Duration = Duration::from_secs(1);
/// How long a no is not asked again: a program tries the next address, and once more.
const DENIED: Duration = Duration::from_secs(10);
/// How often somebody who waits looks.
const TURN: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Looking a file up and waiting needs no more.
const STACK: usize = 128 * 1024;

/// Who is asked about hosts.
pub trait AskHost: Send + Sync {
    /// Whether somebody is there who could answer.
    fn is_present(&self) -> bool;

    /// Whether the host was allowed for as long as this runs, before.
    fn is_granted(&self, host: &str, port: u16) -> bool;

    /// Asks, and waits for the answer.
    fn ask(&self, host: &str, port: u16, process: Option<u32>) -> Given;

    /// Asks about a log-in, unless it was allowed for as long as this runs, and waits.
    fn ask_login(&self, login: &Login) -> Given;
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// The connections that wait.
    Once,
    /// This host and port, as long as [`AskHost::is_granted`] says so.
    Always,
    /// No; why, for a person.
    No(String),
}

/// Where a connection stands that no entry allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Somebody is asked.
    Asked,
    /// A person has allowed it, as long as [`AskHost::is_granted`] says so.
    Granted,
    /// A person has allowed it for the connections that waited.
    Once,
    /// Nobody is asked about it; after a no with the reason.
    Refused(Option<String>),
}

#[derive(Debug, Clone)]
enum State {
    Asked,
    Once(Instant),
    Denied(Instant, String),
}

/// The answers of one run.
#[derive(Default)]
pub(crate) struct Grants {
    asker: OnceLock<Arc<dyn AskHost>>,
    states: Arc<Mutex<HashMap<(Host, u16), State>>>,
    names: Mutex<Vec<HostName>>,
}

impl std::fmt::Debug for Grants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grants").finish_non_exhaustive()
    }
}

impl Grants {
    /// From now on `asker` is asked.
    pub(crate) fn ask_by(&self, asker: Arc<dyn AskHost>) {
        // There is one.
        self.asker.set(asker).ok();
    }

    /// Who is asked, if anybody is.
    pub(crate) fn asker(&self) -> Option<&Arc<dyn AskHost>> {
        self.asker.get()
    }

    /// Whether a program may learn an address for a name that no entry allows.
    pub(crate) fn may_know(&self, network: &Network, name: &HostName) -> bool {
        let Some(asker) = self.asker.get() else { return false };
        let host = Host::Name(name.clone());
        let is_denied = network.deny.iter().any(|rule| rule.entry.names(&host));
        if name.is_localhost() || is_denied {
            return false;
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.contains(name) {
            return true;
        }
        if names.len() >= NAMES_MAX || !asker.is_present() {
            return false;
        }
        names.push(name.clone());
        true
    }

    /// Where a connection stands that `decision` does not allow. With `asks` it is asked about if
    /// nobody has been yet.
    pub(crate) fn standing(
        &self,
        decision: &Decision<'_>,
        (host, port): (&Host, u16),
        process: Option<u32>,
        asks: bool,
    ) -> Standing {
        let is_open = match decision.reason {
            NetworkReason::NotListed | NetworkReason::OtherPort => true,
            NetworkReason::Listed
            | NetworkReason::Open(_)
            | NetworkReason::Denied
            | NetworkReason::Class(_) => false,
        };
        let asker = self.asker.get().filter(|_| is_open && !is_this_machine(host));
        let Some(asker) = asker else { return Standing::Refused(None) };
        if asker.is_granted(&host.to_string(), port) {
            return Standing::Granted;
        }
        let key = (host.clone(), port);
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match states.get(&key) {
            Some(State::Asked) => return Standing::Asked,
            Some(State::Once(until)) if now < *until => return Standing::Once,
            Some(State::Denied(until, why)) if now < *until => {
                return Standing::Refused(Some(why.clone()));
            }
            Some(State::Once(_) | State::Denied(..)) | None => drop(states.remove(&key)),
        }
        states.retain(|_, state| match state {
            State::Asked => true,
            State::Once(until) | State::Denied(until, _) => now < *until,
        });
        if !asks || states.len() >= OPEN_MAX || !asker.is_present() {
            return Standing::Refused(None);
        }
        states.insert(key.clone(), State::Asked);
        let (asker, shared) = (Arc::clone(asker), Arc::clone(&self.states));
        let asked = key.clone();
        let ask = move || {
            let given = asker.ask(&asked.0.to_string(), asked.1, process);
            let mut states = shared.lock().unwrap_or_else(PoisonError::into_inner);
            match given {
                Given::Always => drop(states.remove(&asked)),
                Given::Once => drop(states.insert(asked, State::Once(Instant::now() + ONCE))),
                Given::No(why) => {
                    states.insert(asked, State::Denied(Instant::now() + DENIED, why));
                }
            }
        };
        let spawned =
            thread::Builder::new().name("question".to_owned()).stack_size(STACK).spawn(ask);
        if spawned.is_ok() {
            return Standing::Asked;
        }
        states.remove(&key);
        Standing::Refused(None)
    }

    /// The same, when it is settled.
    pub(crate) fn settled(
        &self,
        decision: &Decision<'_>,
        to: (&Host, u16),
        process: Option<u32>,
    ) -> Standing {
        loop {
            match self.standing(decision, to, process, true) {
                Standing::Asked => drop(poll(&mut [], Some(&TURN))),
                standing @ (Standing::Granted | Standing::Once | Standing::Refused(_)) => {
                    return standing;
                }
            }
        }
    }
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Name(name) => name.is_localhost(),
        Host::Address(address) => address.is_loopback() || address.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct Person {
        is_there: bool,
        given: Given,
        asked: AtomicU32,
    }

    impl AskHost for Person {
        fn is_present(&self) -> bool {
            self.is_there
        }

        fn is_granted(&self, host: &str, port: u16) -> bool {
            (host, port) == ("granted.example.org", 443)
        }

        fn ask(&self, _host: &str, _port: u16, _process: Option<u32>) -> Given {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.given.clone()
        }

        fn ask_login(&self, _login: &Login) -> Given {
            self.given.clone()
        }
    }

    fn grants(is_there: bool, given: Given) -> (Grants, Arc<Person>) {
        let (grants, asked) = (Grants::default(), AtomicU32::new(0));
        let person = Arc::new(Person { is_there, given, asked });
        grants.ask_by(Arc::clone(&person) as Arc<dyn AskHost>);
        (grants, person)
    }

    fn network() -> Network {
        let rule = |entry: &str| stockade_policy::HostRule {
            entry: entry.parse().unwrap(),
            place: "test".into(),
        };
        let (allow, deny) = (vec![rule("a.example.org")], vec![rule("evil.example.org:*")]);
        Network { allow, deny, ..Network::default() }
    }

    fn settled(grants: &Grants, host: &str, port: u16) -> Standing {
        let (host, network) = (Host::new(host).unwrap(), network());
        grants.settled(&network.decide(&host, port), (&host, port), None)
    }

    #[test]
    fn what_is_denied_or_of_a_class_is_not_asked_about() {
        let (grants, person) = grants(true, Given::Once);
        for host in ["evil.example.org", "10.0.0.1", "127.0.0.1", "169.254.169.254", "localhost"] {
            assert_eq!(settled(&grants, host, 443), Standing::Refused(None), "{host}");
        }
        let name = |text: &str| HostName::new(text).unwrap();
        assert!(!grants.may_know(&network(), &name("evil.example.org")));
        assert!(!grants.may_know(&network(), &name("localhost")));
        assert_eq!(person.asked.load(Ordering::Relaxed), 0);
        assert_eq!(settled(&grants, "other.example.org", 443), Standing::Once, "the control");
        assert!(grants.may_know(&network(), &name("other.example.org")));
    }

    #[test]
    fn an_answer_is_for_its_host_and_port_and_is_not_asked_twice_at_once() {
        let (grants, person) = grants(true, Given::No("no".to_owned()));
        let refused = Standing::Refused(Some("no".to_owned()));
        assert_eq!(settled(&grants, "b.example.org", 443), refused);
        assert_eq!(settled(&grants, "b.example.org", 443), refused);
        assert_eq!(person.asked.load(Ordering::Relaxed), 1);
        assert_eq!(settled(&grants, "a.example.org", 22), refused, "another port");
        assert_eq!(person.asked.load(Ordering::Relaxed), 2);
        assert_eq!(settled(&grants, "granted.example.org", 443), Standing::Granted);
        assert_eq!(settled(&grants, "granted.example.org", 22), refused);
    }

    #[test]
    fn with_nobody_there_nothing_is_asked_and_no_name_known() {
        let (grants, person) = grants(false, Given::Once);
        assert_eq!(settled(&grants, "b.example.org", 443), Standing::Refused(None));
        assert!(!grants.may_know(&network(), &HostName::new("b.example.org").unwrap()));
        assert_eq!(person.asked.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn made_up_names_do_not_fill_the_table() {
        let (grants, _person) = grants(true, Given::Once);
        let known = (0..NAMES_MAX + 9).filter(|number| {
            let name = HostName::new(&format!("n{number}.example.org")).unwrap();
            grants.may_know(&network(), &name)
        });
        assert_eq!(known.count(), NAMES_MAX);
    }
}
