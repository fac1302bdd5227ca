//! Connections, as a record tells of them.

use serde::{Deserialize, Serialize};

use super::Decision;

/// A connection through the gateway that begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionOpened {
    /// By which its end is told.
    pub id: String,
    /// The name or address that was asked for.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The process, as it is numbered inside, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    /// The file that it ran, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
}

/// A connection through the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// As what it was opened, where that was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The name or address that was asked for.
    pub host: String,
    /// The port; none for a name that was asked for and refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The process, as it is numbered inside, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
    /// The file that it ran, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Whether it was made.
    pub decision: Decision,
    /// What decided, or why it came to nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Bytes to the host.
    #[serde(default)]
    pub sent: u64,
    /// Bytes from it.
    #[serde(default)]
    pub received: u64,
}

impl Connection {
    /// Where it led: host and port.
    pub fn place(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }
}
