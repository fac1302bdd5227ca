//! Where a conversation and a key may be sent.
//!
//! Whoever listens on the way reads both, so plain `http` is for this machine only. The host
//! is not looked up here: a name counts as this machine only when it says so by itself.

use std::net::IpAddr;

/// Checks the base URL of a model server.
///
/// # Errors
///
/// [`EndpointError`] when it is no such URL, or would carry a secret to where others read it.
pub fn check_endpoint(url: &str) -> Result<(), EndpointError> {
    let (scheme, rest) = url.split_once("://").ok_or(EndpointError::NotAUrl)?;
    let is_plain = match scheme.to_ascii_lowercase().as_str() {
        "https" => false,
        "http" => true,
        _ => return Err(EndpointError::NotAUrl),
    };
    let is_odd = |c: char| c.is_whitespace() || c.is_control() || c == '\\';
    if rest.contains(is_odd) {
        return Err(EndpointError::NotAUrl);
    }
    if rest.contains(['?', '#']) {
        return Err(EndpointError::Query);
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(EndpointError::LogIn);
    }
    let host = host(authority).ok_or(EndpointError::NotAUrl)?;
    if is_plain && !is_this_machine(host) {
        return Err(EndpointError::Plain);
    }
    Ok(())
}

/// Whether `url`, which [`check_endpoint`] has passed, leads to this machine's loopback.
pub fn is_loopback_endpoint(url: &str) -> bool {
    let rest = url.split_once("://").map(|(_, rest)| rest).unwrap_or_default();
    host(rest.split('/').next().unwrap_or_default()).is_some_and(is_this_machine)
}

/// Whether `url`, which [`check_endpoint`] has passed, is an `https` one.
pub fn is_encrypted_endpoint(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

/// The host of `host`, `host:port` or `[address]:port`.
fn host(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    (is_port && !host.is_empty()).then_some(host)
}

fn is_this_machine(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// Why a URL cannot be the base of a model server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not `https://HOST…` or `http://HOST…`.
    #[error("it is not an `https://` or `http://` URL with a host")]
    NotAUrl,
    /// With `?` or `#`.
    #[error("it has a query or a fragment")]
    Query,
    /// With `user:password@`.
    #[error("it holds a log-in")]
    LogIn,
    /// Plain `http` to another machine.
    #[error("plain `http` to another machine shows the conversation and the key to the network")]
    Plain,
}

impl EndpointError {
    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::NotAUrl | Self::Query => {
                "it is what stands before `/responses`, `/chat/completions` or `/v1/messages`"
            }
            Self::LogIn => "`[model] key` says where the key comes from",
            Self::Plain => "use `https`, or a tunnel that ends at `http://localhost:PORT`",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_encrypted_or_on_this_machine() {
        for url in [
            "https://api.example.org/v1",
            "HTTPS://api.example.org:8443",
            "http://localhost:11434/v1",
            "http://127.0.0.1:8080",
            "http://127.8.8.8/v1/",
            "http://[::1]:8080/v1",
        ] {
            assert_eq!(check_endpoint(url), Ok(()), "{url}");
        }
        for (url, error) in [
            ("api.example.org/v1", EndpointError::NotAUrl),
            ("ftp://example.org", EndpointError::NotAUrl),
            ("https://", EndpointError::NotAUrl),
            ("https://:80", EndpointError::NotAUrl),
            ("https://h:0", EndpointError::NotAUrl),
            ("https://h:99999", EndpointError::NotAUrl),
            ("https://h\\@evil", EndpointError::NotAUrl),
            ("http://localhost\t.evil.org", EndpointError::NotAUrl),
            ("https://example.org/v1?key=x", EndpointError::Query),
            ("https://me:secret@example.org", EndpointError::LogIn),
            ("http://localhost@evil.org", EndpointError::LogIn),
            ("http://example.org/v1", EndpointError::Plain),
            ("http://localhost.evil.org", EndpointError::Plain),
            ("http://10.0.0.5:8080", EndpointError::Plain),
            ("http://0.0.0.0:8080", EndpointError::Plain),
            ("http://[::2]:8080", EndpointError::Plain),
        ] {
            assert_eq!(check_endpoint(url), Err(error), "{url}");
        }
    }
}
