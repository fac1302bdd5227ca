//! The set-up of a machine: a script before the work. Only while it runs do programs of the machine
//! reach hosts, those of its list, by connections that this side waits for and the gateway judges.

use std::sync::Arc;

use stockade_agents::HandsError;
use stockade_gateway::{Blocked, Gateway, Means, Upstream};
use stockade_policy::environment::{DIRECT, DIRECT_VARIABLES, PROXY_VARIABLES};
use stockade_policy::{Network, UpstreamText};

use super::out::Out;
use super::{CloudError, Running};
use crate::ended::with_causes;
use crate::place::{Place as _, Vm};
use crate::record::Event;
use crate::session::Session;
use crate::store::StoreError;

/// What prepares a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetUp {
    /// A script of the machine's shell.
    pub script: String,
    /// What it may reach.
    pub network: Network,
}

impl Running<'_> {
    /// Runs the set-up script. Afterwards nothing leads out of the machine, whatever came of it.
    pub(super) fn set_up(
        &self,
        (session, vm): (&Session<'_>, &Vm),
        set_up: &SetUp,
    ) -> Result<(), CloudError> {
        let network = &set_up.network;
        let out = if network.has_hosts() { Some(open(vm, network)?) } else { None };
        let variables = out.as_ref().map(|out| variables(out.port(), network)).unwrap_or_default();
        let ran = session.unasked(&set_up.script, (&self.inner, &variables));
        let blocked = out.map_or(Ok(Vec::new()), Out::close).map_err(|error| {
            CloudError::SetUp(format!("its connections do not end: {}", with_causes(&error)))
        })?;
        self.take_down(vm)?;
        let blocked: Vec<String> = blocked.iter().map(told).collect();
        match ran {
            Ok(0) => {
                for host in blocked {
                    self.note(&format!("set-up: {host}"));
                }
                Ok(())
            }
            Ok(status) => {
                let words = [vec![format!("it ended with status {status}")], blocked].concat();
                Err(CloudError::SetUp(words.join("; ")))
            }
            Err(HandsError::Interrupted) => Err(CloudError::Interrupted),
            Err(
                HandsError::Lost(words) | HandsError::Refused(words) | HandsError::Failed(words),
            ) => Err(CloudError::SetUp(words)),
        }
    }

    /// Records what was seen since the last command ended.
    pub(super) fn take_down(&self, vm: &Vm) -> Result<(), StoreError> {
        let noted = vm.noted();
        for connection in noted.connections {
            self.journal.record(&connection)?;
        }
        for (denial, _words) in noted.denials {
            self.journal.record(&Event::Denial(denial))?;
        }
        Ok(())
    }
}

/// A host that was refused, for a person.
fn told(blocked: &Blocked) -> String {
    let Blocked { host, why, remedy, .. } = blocked;
    let remedy = remedy.as_ref().map(|entry| format!(" ({})", allowing(entry)));
    format!("`{host}` was refused: it is {why}{}", remedy.unwrap_or_default())
}

/// What would allow a host in a set-up.
pub(crate) fn allowing(entry: &str) -> String {
    format!("`[cloud] setup_network = [\"{entry}\"]`, or `--allow-host {entry}`, would allow it")
}

/// The way out of a set-up, by a proxy.
fn open(vm: &Vm, network: &Network) -> Result<Out, CloudError> {
    let upstream = upstream(network.upstream.as_ref()).map_err(CloudError::SetUp)?;
    let seen = Arc::clone(vm.seen());
    let means = Means { upstream, ..Means::default() };
    let gateway = Gateway::new(network.clone(), means, move |event| seen.note(event));
    let out = Out::open(vm, gateway, Gateway::serve_program);
    out.map_err(|error| CloudError::SetUp(with_causes(&error)))
}

/// The user's own proxy.
pub(super) fn upstream(text: Option<&UpstreamText>) -> Result<Option<Upstream>, String> {
    let Some(UpstreamText { url, except }) = text else { return Ok(None) };
    let upstream = Upstream::new(url, except);
    upstream.map(Some).ok_or_else(|| "the proxy of this machine is not http".to_owned())
}

/// What leads the script's programs to `port`.
fn variables(port: u16, network: &Network) -> Vec<(&'static str, String)> {
    let proxy = format!("http://127.0.0.1:{port}");
    let proxies = PROXY_VARIABLES.iter().map(|name| (*name, proxy.clone()));
    let direct = DIRECT_VARIABLES.iter().map(|name| (*name, DIRECT.to_owned()));
    let word = ("STOCKADE_NETWORK", network.word().to_owned());
    proxies.chain(direct).chain([word]).collect()
}
