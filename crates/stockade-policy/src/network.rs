//! What a sandboxed command may reach beyond its own loopback.

/// The network of one thread. Without any entry there is the sandbox's own loopback only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// TCP ports of the host's loopback that are reachable at the same port on 127.0.0.1
    /// and `::1` inside; sorted, without duplicates, never 0.
    pub host_ports: Vec<u16>,
}

impl Network {
    /// The word that `STOCKADE_NETWORK` carries inside: `none` or `hosts`.
    pub fn word(&self) -> &'static str {
        if self.host_ports.is_empty() { "none" } else { "hosts" }
    }
}
