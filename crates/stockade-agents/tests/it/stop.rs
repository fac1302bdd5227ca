//! Stopping: at once, whatever is waited for.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use stockade_agents::{
    AgentError, AgentEvent, Builtin, Entry, Hands, HandsError, Match, Patience, Search, ShellCall,
    ShellOutcome, Stop,
};
use stockade_testkit::model::{FakeModel, Fault, Step};

use crate::memory::{APIS, Memory, model, task};

/// A server that keeps a client waiting for a minute, one way or another.
fn waits() -> Vec<Fault> {
    let head = "Retry-After: 60\r\n".to_owned();
    let busy = Fault::Status { code: 429, head, body: String::new() };
    vec![Fault::Silent, Fault::Stall, Fault::Comments, busy]
}

#[test]
fn a_wish_to_stop_wakes_a_waiting_call() {
    for api in APIS {
        for fault in waits() {
            let name = format!("{api:?} {fault:?}");
            let server = FakeModel::start_faulty(vec![Step::say("never")], vec![fault]).unwrap();
            let patience = Patience { idle: Duration::from_mins(1), ..Patience::default() };
            let agent = Builtin::with_patience(model(api, server.port()), patience).unwrap();
            let stop = Stop::default();
            let (asked, is_asked) = mpsc::channel();
            let (wish, seen) = (stop.clone(), server);
            thread::spawn(move || {
                while seen.requests().is_empty() {
                    thread::yield_now();
                }
                asked.send(Instant::now()).unwrap();
                wish.request();
            });
            let result = agent.run(&task(), &Memory::default(), &mut |_| {}, &stop);
            assert!(matches!(result, Err(AgentError::Interrupted)), "{name}: {result:?}");
            let took = is_asked.recv().unwrap().elapsed();
            assert!(took < Duration::from_secs(30), "{name}: {took:?}");
        }
    }
}

#[test]
fn a_wish_from_before_the_start_asks_nobody() {
    let server = FakeModel::start(vec![Step::say("never")]).unwrap();
    let agent = Builtin::new(model(APIS[0], server.port())).unwrap();
    let stop = Stop::default();
    stop.request();
    let result = agent.run(&task(), &Memory::default(), &mut |_| {}, &stop);
    assert!(matches!(result, Err(AgentError::Interrupted)));
    assert!(server.requests().is_empty());
}

/// Hands that are told to stop in the middle of the first command, and finish it all the same.
struct Stopped(Stop, Memory);

impl Hands for Stopped {
    fn shell(
        &self,
        call: &ShellCall,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<ShellOutcome, HandsError> {
        self.0.request();
        self.1.shell(call, output)
    }
    fn read(&self, path: &std::path::Path) -> Result<Vec<u8>, HandsError> {
        self.1.read(path)
    }
    fn list(&self, path: &std::path::Path) -> Result<Vec<Entry>, HandsError> {
        self.1.list(path)
    }
    fn search(&self, query: &Search) -> Result<Vec<Match>, HandsError> {
        self.1.search(query)
    }
    fn write(&self, path: &std::path::Path, content: Option<&[u8]>) -> Result<(), HandsError> {
        self.1.write(path, content)
    }
}

#[test]
fn no_call_is_carried_out_after_a_wish_to_stop() {
    let shell = |line: &str| ("shell".to_owned(), serde_json::json!({"command": line}));
    let script = vec![Step::Tools(vec![shell("one"), shell("two")]), Step::say("never")];
    for api in APIS {
        let server = FakeModel::start(script.clone()).unwrap();
        let agent = Builtin::new(model(api, server.port())).unwrap();
        let stop = Stop::default();
        let hands = Stopped(stop.clone(), Memory::default());
        let mut events = Vec::new();
        let result = agent.run(&task(), &hands, &mut |event| events.push(event), &stop);
        assert!(matches!(result, Err(AgentError::Interrupted)), "{result:?}");
        assert_eq!(hands.1.lines_run(), ["one"]);
        assert_eq!(server.requests().len(), 1);
        assert!(!events.iter().any(|event| matches!(event, AgentEvent::Retrying { .. })));
    }
}
