//! Who was dialled, and which names a program may say to them.

use std::sync::Arc;

use stockade_policy::{Host, Network};

/// The far end of one connection.
#[derive(Debug, Clone)]
pub(crate) struct Dialled {
    host: Host,
    port: u16,
    network: Arc<Network>,
}

impl Dialled {
    pub(crate) fn new(host: Host, port: u16, network: Arc<Network>) -> Self {
        Self { host, port, network }
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether a program may speak to it as `said`. Who was dialled by name has this name only; an
    /// address that is allowed may serve any name but those that are denied.
    pub(crate) fn is(&self, said: &Host) -> bool {
        match self.host {
            Host::Name(_) => *said == self.host,
            Host::Address(_) => self.network.denied(said, self.port).is_none(),
        }
    }

    #[cfg(test)]
    pub(crate) fn only(text: &str) -> Self {
        let (host, port) = text.rsplit_once(':').unwrap();
        Self::new(Host::new(host).unwrap(), port.parse().unwrap(), Arc::default())
    }
}
