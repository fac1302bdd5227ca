//! One server that programs reach at an address of the gateway's, without TLS and without its name:
//! the model of an agent that has no network.
//!
//! What they ask becomes a request to that server and no other, with the user's secret or not at all.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;
use stockade_policy::{Host, check_endpoint, is_encrypted_endpoint, parse_port};

use crate::authority;
use crate::head::{Head, Target, Upgrade};

/// What may stand in a query. Some servers take a key or a method from there.
const QUERY: [&str; 3] = ["alt", "beta", "client_version"];

/// Headers that are another program's affair, or that servers take for something of a request that was
/// judged otherwise.
const LEFT_OUT: [&str; 9] = [
    "cookie",
    "forwarded",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "proxy-authorization",
    "proxy-connection",
];

/// A server, by its URL. Clones are handles on the same.
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    host: Host,
    port: u16,
    /// As a `Host` header has it.
    authority: String,
    path: String,
    /// How TLS is spoken to it; `None`: not at all.
    tls: Option<OnceLock<Result<Arc<ClientConfig>, String>>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Endpoint").field(&self.0.authority).finish()
    }
}

impl Endpoint {
    /// The server of a URL: `https`, or `http` to this machine. `None` when it is no such URL.
    pub fn new(url: &str) -> Option<Self> {
        check_endpoint(url).ok()?;
        let is_encrypted = is_encrypted_endpoint(url);
        let (_, rest) = url.split_once("://")?;
        let end = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(parse_port(port).ok()?)),
            _ => (authority, None),
        };
        Some(Self(Arc::new(Inner {
            host: Host::new(name).ok()?,
            port: port.unwrap_or(if is_encrypted { 443 } else { 80 }),
            authority: authority.to_owned(),
            path: path.trim_end_matches('/').to_owned(),
            tls: is_encrypted.then(OnceLock::new),
        })))
    }

    /// Who it is.
    pub fn host(&self) -> &Host {
        &self.0.host
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The path of its URL, without a slash at the end.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    pub(crate) fn authority(&self) -> &str {
        &self.0.authority
    }

    /// How TLS is spoken to it, or why it cannot be; `None` where none is.
    pub(crate) fn client(&self) -> Option<Result<Arc<ClientConfig>, String>> {
        self.0.tls.as_ref().map(|tls| tls.get_or_init(authority::client).clone())
    }
}

/// Whether a request is one that an endpoint may get, whatever rules say of its path.
pub(crate) fn check(head: &Head) -> Result<(), &'static str> {
    let Target::Path(path) = &head.target else {
        return Err("its target is no path");
    };
    if head.upgrade != Upgrade::No {
        return Err("it asks to go on in another protocol");
    }
    let query = path.split_once('?').map(|(_, query)| query);
    let is_known = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        QUERY.contains(&name) && value.bytes().all(is_plain)
    };
    if query.is_some_and(|query| !query.split('&').all(is_known)) {
        return Err("its query says more than `alt`, `beta` and `client_version`");
    }
    Ok(())
}

/// Makes it a request to `authority`.
pub(crate) fn address(head: &mut Head, authority: &str) {
    head.leave_out(|name| LEFT_OUT.iter().any(|other| name.eq_ignore_ascii_case(other)));
    head.set("Host", authority);
}

#[cfg(test)]
mod tests;
