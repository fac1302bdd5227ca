//! A place in memory, and an agent at work in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use stockade_agents::{
    AgentError, AgentEvent, Api, Builtin, Entry, EntryKind, Exit, Finished, Hands, HandsError,
    Match, Model, Patience, Search, Secret, ShellCall, ShellOutcome, Stop, Task,
};
use stockade_testkit::model::{FakeModel, Fault, Step};

pub(crate) const APIS: [Api; 3] = [Api::Responses, Api::Chat, Api::Messages];

/// Files, and what was asked for.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) files: Mutex<BTreeMap<PathBuf, Vec<u8>>>,
    pub(crate) ran: Mutex<Vec<ShellCall>>,
    /// What a shell line does instead of saying "ran".
    pub(crate) answers: BTreeMap<String, Result<ShellOutcome, HandsError>>,
    /// Paths that are refused, with the words.
    pub(crate) refused: BTreeMap<PathBuf, String>,
}

impl Memory {
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| (path.into(), text.as_bytes().to_vec()));
        Self { files: Mutex::new(files.collect()), ..Self::default() }
    }

    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let files = self.files.lock().unwrap();
        files.get(Path::new(path)).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    }

    pub(crate) fn lines_run(&self) -> Vec<String> {
        self.ran.lock().unwrap().iter().map(|call| call.line.clone()).collect()
    }

    fn judge(&self, path: &Path) -> Result<(), HandsError> {
        match self.refused.get(path) {
            Some(words) => Err(HandsError::Refused(words.clone())),
            None => Ok(()),
        }
    }
}

impl Hands for Memory {
    fn shell(
        &self,
        call: &ShellCall,
        output: &mut dyn FnMut(&[u8]),
    ) -> Result<ShellOutcome, HandsError> {
        self.ran.lock().unwrap().push(call.clone());
        if let Some(answer) = self.answers.get(&call.line) {
            return answer.clone();
        }
        output(b"ran ");
        output(call.line.as_bytes());
        let printed = format!("ran {}", call.line).into_bytes();
        Ok(ShellOutcome { exit: Exit::Status(0), output: printed, is_truncated: false })
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>, HandsError> {
        self.judge(path)?;
        let missing = || HandsError::Failed(format!("there is no `{}`", path.display()));
        self.files.lock().unwrap().get(path).cloned().ok_or_else(missing)
    }

    fn list(&self, path: &Path) -> Result<Vec<Entry>, HandsError> {
        self.judge(path)?;
        let files = self.files.lock().unwrap();
        let entry = |(path, bytes): (&PathBuf, &Vec<u8>)| Entry {
            name: path.as_os_str().to_owned(),
            kind: EntryKind::File,
            bytes: u64::try_from(bytes.len()).unwrap(),
        };
        Ok(files.iter().map(entry).collect())
    }

    fn search(&self, query: &Search) -> Result<Vec<Match>, HandsError> {
        let files = self.files.lock().unwrap();
        let mut found = Vec::new();
        for (path, bytes) in files.iter() {
            let text = String::from_utf8_lossy(bytes).into_owned();
            for (line, text) in (1..).zip(text.lines().map(str::to_owned)) {
                if text.contains(&query.pattern) && found.len() < query.max {
                    found.push(Match { path: path.clone(), line, text });
                }
            }
        }
        Ok(found)
    }

    fn write(&self, path: &Path, content: Option<&[u8]>) -> Result<(), HandsError> {
        self.judge(path)?;
        let mut files = self.files.lock().unwrap();
        match content {
            Some(bytes) => files.insert(path.to_owned(), bytes.to_vec()),
            None => files.remove(path),
        };
        Ok(())
    }
}

/// Impatient where a fault is one of time, so that the test takes little; patient otherwise, so
/// that a machine under load makes no fault of its own.
pub(crate) fn patience(faults: &[Fault]) -> Patience {
    let is_silent = |fault: &Fault| matches!(fault, Fault::Silent | Fault::Stall);
    let is_endless = |fault: &Fault| matches!(fault, Fault::Comments);
    let time = |is_short, short_ms, long| {
        if is_short { Duration::from_millis(short_ms) } else { long }
    };
    Patience {
        idle: time(faults.iter().any(is_silent), 700, Duration::from_mins(1)),
        answer: time(faults.iter().any(is_endless), 1500, Duration::from_mins(2)),
        tries: 3,
        first_delay: Duration::from_millis(4),
        longest_delay: Duration::from_secs(2),
    }
}

pub(crate) fn task() -> Task {
    Task {
        prompt: "Do it.".to_owned(),
        system: "The workspace is /work.".to_owned(),
        max_turns: 20,
        max_tokens: None,
        context_tokens: 1_000_000,
        command_timeout: Duration::from_mins(1),
    }
}

pub(crate) fn model(api: Api, port: u16) -> Model {
    let base = match api {
        Api::Responses | Api::Chat => "/v1/",
        Api::Messages => "",
    };
    Model {
        api,
        base_url: format!("http://127.0.0.1:{port}{base}"),
        name: "fake-1".to_owned(),
        key: Some(Secret::new("sk-very-secret\n")),
    }
}

/// One run of an agent, and what was seen of it.
pub(crate) struct Run {
    pub(crate) result: Result<Finished, AgentError>,
    pub(crate) events: Vec<AgentEvent>,
    pub(crate) requests: Vec<serde_json::Value>,
}

impl Run {
    pub(crate) fn new(api: Api, script: &[Step], faults: &[Fault], hands: &dyn Hands) -> Self {
        Self::of_task(api, script, faults, (&task(), hands))
    }

    pub(crate) fn of_task(
        api: Api,
        script: &[Step],
        faults: &[Fault],
        (task, hands): (&Task, &dyn Hands),
    ) -> Self {
        let server = FakeModel::start_faulty(script.to_vec(), faults.to_vec()).unwrap();
        let agent = Builtin::with_patience(model(api, server.port()), patience(faults)).unwrap();
        let mut events = Vec::new();
        let result = agent.run(task, hands, &mut |event| events.push(event), &Stop::default());
        Self { result, events, requests: server.requests() }
    }

    pub(crate) fn finished(&self) -> &str {
        match &self.result {
            Ok(finished) => &finished.text,
            Err(error) => panic!("{}", said(error)),
        }
    }

    /// What the user is told, with all causes and the hint.
    pub(crate) fn failed(&self) -> String {
        match &self.result {
            Ok(finished) => panic!("it finished: {finished:?}"),
            Err(error) => said(error),
        }
    }

    pub(crate) fn retries(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, AgentEvent::Retrying { .. })).count()
    }

    /// What the model was told of its calls, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        let last = self.requests.last().unwrap();
        let items = last["messages"].as_array().or_else(|| last["input"].as_array()).unwrap();
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
        let mut told = Vec::new();
        for item in items {
            if item["type"] == "function_call_output" {
                told.extend(text(&item["output"]));
            } else if item["role"] == "tool" {
                told.extend(text(&item["content"]));
            } else {
                let blocks = item["content"].as_array().into_iter().flatten();
                told.extend(
                    blocks
                        .filter(|block| block["type"] == "tool_result")
                        .filter_map(|block| text(&block["content"])),
                );
            }
        }
        told
    }
}

pub(crate) fn said(error: &AgentError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text} / {error}");
        cause = error.source();
    }
    match error.hint() {
        Some(hint) => format!("{text} / hint: {hint}"),
        None => text,
    }
}
