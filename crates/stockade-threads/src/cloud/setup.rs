//! The set-up of a machine: a script before the work. Only while it runs do programs of the machine
//! reach hosts, those of its list, by connections that this side waits for and the gateway judges.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use stockade_agents::HandsError;
use stockade_gateway::{Blocked, Gateway, Means, Upstream};
use stockade_guest::Outlet;
use stockade_policy::environment::{DIRECT, DIRECT_VARIABLES, PROXY_VARIABLES};
use stockade_policy::{Network, UpstreamText};

use super::{CloudError, Running};
use crate::ended::with_causes;
use crate::place::{Place as _, Vm};
use crate::record::Event;
use crate::session::Session;

/// How long connections that were cut off may take to be told of.
const SETTLED: Duration = Duration::from_secs(2);

/// What prepares a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetUp {
    /// A script of the machine's shell.
    pub script: String,
    /// What it may reach.
    pub network: Network,
}

/// The machine's programs and the hosts that they may reach.
struct Out {
    gateway: Gateway,
    outlet: Outlet,
    network: Network,
}

impl Running<'_> {
    /// Runs the set-up script. Afterwards nothing leads out of the machine, whatever came of it.
    pub(super) fn set_up(
        &self,
        (session, vm): (&Session<'_>, &Vm),
        set_up: &SetUp,
    ) -> Result<(), CloudError> {
        let out =
            if set_up.network.has_hosts() { Some(Out::open(vm, &set_up.network)?) } else { None };
        let variables = out.as_ref().map(Out::variables).unwrap_or_default();
        let ran = session.unasked(&set_up.script, (&self.inner, &variables));
        let blocked = out.map_or(Ok(Vec::new()), Out::close)?;
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

    /// Records what was seen since the script ended.
    fn take_down(&self, vm: &Vm) -> Result<(), CloudError> {
        let noted = vm.noted();
        for connection in noted.connections {
            self.journal.record(&Event::Connection(connection))?;
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

impl Out {
    fn open(vm: &Vm, network: &Network) -> Result<Self, CloudError> {
        let upstream = match &network.upstream {
            Some(UpstreamText { url, except }) => {
                let no_http = || CloudError::SetUp("the proxy of this machine is not http".into());
                Some(Upstream::new(url, except).ok_or_else(no_http)?)
            }
            None => None,
        };
        let seen = Arc::clone(vm.seen());
        let means = Means { upstream, ..Means::default() };
        let gateway = Gateway::new(network.clone(), means, move |event| seen.note(event));
        let serving = gateway.clone();
        let connect = move || {
            let (near, far) = UnixStream::pair()?;
            serving.serve_program(far);
            Ok(near)
        };
        let outlet = vm.client().outlet(connect);
        let outlet = outlet.map_err(|error| CloudError::SetUp(with_causes(&error)))?;
        Ok(Self { gateway, outlet, network: network.clone() })
    }

    /// What leads the script's programs here.
    fn variables(&self) -> Vec<(&'static str, String)> {
        let proxy = format!("http://127.0.0.1:{}", self.outlet.port());
        let proxies = PROXY_VARIABLES.iter().map(|name| (*name, proxy.clone()));
        let direct = DIRECT_VARIABLES.iter().map(|name| (*name, DIRECT.to_owned()));
        let word = ("STOCKADE_NETWORK", self.network.word().to_owned());
        proxies.chain(direct).chain([word]).collect()
    }

    /// Cuts off what is connected; the value is what was refused.
    fn close(self) -> Result<Vec<Blocked>, CloudError> {
        let Self { gateway, outlet, .. } = self;
        let closed = outlet.close();
        closed.map_err(|error| {
            CloudError::SetUp(format!("its connections do not end: {}", with_causes(&error)))
        })?;
        gateway.settle(SETTLED);
        Ok(gateway.blocked())
    }
}
