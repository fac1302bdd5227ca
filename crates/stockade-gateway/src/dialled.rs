//! Who was dialled, and which names a program may say to them.

use std::sync::Arc;

use stockade_policy::{Host, Network, Request, is_carrier};

use crate::credentials::{Credentials, Lent};
use crate::head::Head;

/// The far end of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Dialled {
    host: Host,
    port: u16,
    network: Arc<Network>,
    credentials: Option<Credentials>,
}

impl Dialled {
    pub(crate) fn new(
        host: Host,
        port: u16,
        network: Arc<Network>,
        credentials: Option<Credentials>,
    ) -> Self {
        Self { host, port, network, credentials }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether a program may speak to it as `said`. Who was dialled by name has this name only; an
    /// address that is allowed may serve any name but those that are denied, or whose requests are
    /// judged: by an address nobody would judge them.
    pub(crate) fn is(&self, said: &Host) -> bool {
        match self.host {
            Host::Name(_) => *said == self.host,
            Host::Address(_) => {
                *said == self.host
                    || self.network.denied(said, self.port).is_none()
                        && !self.network.limits_requests(said, self.port)
            }
        }
    }

    /// Whether its requests are judged one by one.
    pub(crate) fn is_judged(&self) -> bool {
        self.network.limits_requests(&self.host, self.port)
    }

    /// Whether it may be asked this; why not, otherwise.
    pub(crate) fn judge(&self, request: &Request<'_>) -> Result<(), String> {
        let judged = self.network.judge_request(&self.host, self.port, request);
        judged.map_err(|refusal| refusal.to_string())
    }

    /// Puts the secrets of `request` into its `head`, which was judged.
    pub(crate) fn lend(&self, request: &Request<'_>, head: &mut Head) -> Result<Vec<Lent>, String> {
        let Some(credentials) = &self.credentials else { return Ok(Vec::new()) };
        let given = self.network.credentials_for((&self.host, self.port), request);
        credentials.lend(given, head)
    }

    /// Whether no header of `head` holds a log-in but the placeholders of this host's credentials; where
    /// it has one, whether a header does hold it. Otherwise a program could speak for somebody
    /// else, to whom what it says would go.
    ///
    /// Where there is no credential, such headers are left out.
    pub(crate) fn has_no_other_secret(&self, head: &mut Head) -> Result<(), &'static str> {
        if let Some(credentials) = &self.credentials {
            return credentials.are_only(head);
        }
        head.leave_out(is_carrier);
        Ok(())
    }

    #[cfg(test)]
    pub(crate) fn only(text: &str) -> Self {
        let (host, port) = text.rsplit_once(':').unwrap();
        Self::new(Host::new(host).unwrap(), port.parse().unwrap(), Arc::default(), None)
    }
}
