//! Another agent's program at work in a machine: its model is at a port of the machine's loopback while
//! it works, and nothing else is.
//!
//! What it says there becomes calls of the model's, judged one by one, to the one server that the user
//! has; with the user's key, which is in no machine, or not at all.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use stockade_agents::{AgentError, HandsError, InMachine, Meant};
use stockade_gateway::{Blocked, Credentials, Endpoint, Gateway, Means};
use stockade_guest::{ENVIRONMENT, USER_NAME};
use stockade_policy::{
    Credential, HostEntry, KeySource, Network, PathPattern, RequestRule, RuleOwner, UpstreamText,
};

use super::Running;
use super::out::Out;
use super::package::{Package, files};
use super::setup::upstream;
use super::work::WorkEnd;
use crate::ended::{Ended, title, with_causes};
use crate::network::read_secret;
use crate::place::{Place as _, Vm};
use crate::record::{Event, Message, Role, State};
use crate::session::{Session, Typed};

/// What an agent has as its key where the server wants none; some do not start without.
const NO_KEY: &str = "none";

/// What stands for the task among an agent's arguments.
pub const PROMPT: &str = "{prompt}";

/// Another agent's program, and its task.
#[derive(Debug, Clone)]
pub struct External {
    /// Its name, for a person.
    pub name: String,
    /// The task, in the user's words.
    pub prompt: String,
    /// Its files.
    pub package: Package,
    /// Its arguments for a task; [`PROMPT`] stands for that.
    pub words: Vec<OsString>,
    /// How it finds its model.
    pub way: InMachine,
    /// Variables that it always has.
    pub environment: Vec<(String, String)>,
    /// Its model.
    pub model: ModelServer,
}

/// The server of a model.
#[derive(Debug, Clone)]
pub struct ModelServer {
    /// Its URL: `https`, or `http` to this machine.
    pub url: String,
    /// The model's name, if one is configured.
    pub name: Option<String>,
    /// The variable that holds the key in the machine: a placeholder.
    pub variable: String,
    /// Where the key comes from, if it needs one.
    pub key: Option<KeySource>,
    /// The proxy by which this machine reaches others.
    pub upstream: Option<UpstreamText>,
}

impl ModelServer {
    /// The entry of `network` that denies it, if one does.
    pub fn denied_by(&self, network: &Network) -> Option<String> {
        let endpoint = Endpoint::new(&self.url)?;
        network.denied(endpoint.host(), endpoint.port()).map(ToString::to_string)
    }

    /// What may be asked of it, and the secret that goes with that.
    fn network(&self, way: &InMachine, endpoint: &Endpoint) -> Result<Network, String> {
        let entry = HostEntry::exactly(endpoint.host(), endpoint.port());
        let credential = self.key.clone().map(|source| Credential {
            variable: self.variable.clone(),
            source,
            header: None,
        });
        let rule = |(method, path): &(&str, &str)| {
            let path = format!("{}{path}", endpoint.path());
            Ok(RequestRule {
                entry: entry.clone(),
                methods: vec![(*method).to_owned()],
                paths: vec![PathPattern::new(&path).ok_or(format!("`{path}` is no plain path"))?],
                upgrade: false,
                credential: credential.clone(),
                owner: RuleOwner::User,
                place: "the agent's model".to_owned(),
            })
        };
        let requests = way.api.calls().iter().map(rule).collect::<Result<_, String>>()?;
        let upstream = self.upstream.clone();
        Ok(Network { requests, upstream, ..Network::default() })
    }
}

/// The way to an agent's model.
struct ToModel {
    out: Out,
    url: String,
    /// What stands for the key.
    key: String,
}

impl ToModel {
    fn open(vm: &Vm, server: &ModelServer, way: &InMachine) -> Result<Self, String> {
        let endpoint = Endpoint::new(&server.url);
        let endpoint = endpoint.ok_or_else(|| format!("`{}` is no server", server.url))?;
        let network = server.network(way, &endpoint)?;
        let credentials = server.key.is_some().then(|| Credentials::new(&network, read_secret));
        let credentials = credentials.transpose().map_err(|error| with_causes(&error))?;
        let held = credentials.iter().flat_map(Credentials::placeholders).next();
        let key = held.map_or(NO_KEY, |(_, placeholder)| placeholder).to_owned();
        let upstream = upstream(network.upstream.as_ref())?;
        let means = Means { upstream, credentials, ..Means::default() };
        let seen = Arc::clone(vm.seen());
        let gateway = Gateway::new(network, means, move |event| seen.note(event));
        let path = endpoint.path().to_owned();
        let serve = move |gateway: &Gateway, stream| gateway.serve_endpoint(stream, &endpoint);
        let out = Out::open(vm, gateway, serve).map_err(|error| with_causes(&error))?;
        let url = format!("http://127.0.0.1:{}{path}", out.port());
        Ok(Self { out, url, key })
    }
}

impl Running<'_> {
    /// Has the agent work. Afterwards nothing leads out of the machine, whatever came of it.
    pub(super) fn external(
        &self,
        (session, vm): (&Session<'_>, &Vm),
        agent: &External,
    ) -> Result<Ended, WorkEnd> {
        let lost = |words: String| Ended::of_agent(self.thread, Err(AgentError::Lost(words)));
        let to_model = match ToModel::open(vm, &agent.model, &agent.way) {
            Ok(to_model) => to_model,
            Err(words) => return Err(WorkEnd::Ended(lost(words))),
        };
        for (path, text) in agent.way.files() {
            let path = Path::new("/home").join(USER_NAME).join(path);
            let written = vm.client().write_file(&path, Some(text.as_bytes()));
            if let Err(error) = written {
                return Err(WorkEnd::Ended(lost(with_causes(&error))));
            }
        }
        let meant =
            Meant { url: &to_model.url, key: &to_model.key, model: agent.model.name.as_deref() };
        let argv = agent.argv(&meant, &self.prompt(&agent.prompt));
        let environment = Some(agent.environment(&meant));
        let typed = Typed { argv: &argv, folder: &self.inner, environment };
        let ran = session.agent(typed);
        let closed = to_model.out.close();
        self.take_down(vm)?;
        let ended = match ran {
            Ok((end, printed)) => {
                let answer = String::from_utf8_lossy(&printed).trim().to_owned();
                if !answer.is_empty() {
                    let text = answer.clone();
                    let said = Message { role: Role::Assistant, text };
                    self.journal.record(&Event::Message(said))?;
                }
                if end.status == 0 {
                    self.ended(State::Completed, 0, title(&answer))
                } else {
                    let how = format!("`{}` ended with status {}", agent.name, end.status);
                    self.ended(State::Failed, 1, end.failure.unwrap_or(how))
                }
            }
            Err(HandsError::Interrupted) => {
                Ended::of_agent(self.thread, Err(AgentError::Interrupted))
            }
            Err(
                HandsError::Lost(words) | HandsError::Refused(words) | HandsError::Failed(words),
            ) => lost(words),
        };
        match closed {
            Ok(blocked) => blocked.iter().for_each(|blocked| self.tell_refused(blocked)),
            Err(error) => {
                return Err(WorkEnd::Ended(lost(format!(
                    "its connections do not end: {}",
                    with_causes(&error)
                ))));
            }
        }
        Ok(ended)
    }

    /// What the agent is asked, with what was before.
    fn prompt(&self, now: &str) -> String {
        self.before.as_ref().map_or_else(|| now.to_owned(), |before| before.task(now))
    }

    fn tell_refused(&self, Blocked { host, times, why, .. }: &Blocked) {
        let often = if *times > 1 { format!(", and {} more", times - 1) } else { String::new() };
        self.note(&format!("refused to the agent: {host}: {why}{often}"));
    }
}

impl External {
    fn argv(&self, meant: &Meant<'_>, prompt: &str) -> Vec<OsString> {
        let program = self.package.program.clone().into_os_string();
        let script = self.package.script.clone().map(OsString::from);
        let further = self.way.arguments(meant).into_iter().map(OsString::from);
        let word = |word: &OsString| if word == PROMPT { prompt.into() } else { word.clone() };
        let start = [program].into_iter().chain(script);
        start.chain(further).chain(self.words.iter().map(word)).collect()
    }

    fn environment(&self, meant: &Meant<'_>) -> Vec<(OsString, OsString)> {
        let mut all: Vec<(OsString, OsString)> = Vec::new();
        let mut set = |name: &str, value: &str| {
            all.retain(|(other, _)| other != name);
            all.push((name.into(), value.into()));
        };
        for (name, value) in ENVIRONMENT {
            if name == "PATH" && self.package.has_files {
                set(name, &format!("{}:{value}", files().display()));
            } else {
                set(name, value);
            }
        }
        // What it prints is kept as text.
        set("NO_COLOR", "1");
        let further = self.way.environment(meant, &self.model.variable);
        for (name, value) in self.environment.iter().chain(&further) {
            set(name, value);
        }
        all
    }
}
