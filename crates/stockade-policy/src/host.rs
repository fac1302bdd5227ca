//! Hosts by name and by address, and the entries that speak of them.
//!
//! A name has one spelling here: lower-case ASCII without a trailing dot. Whatever another
//! program could read as an address, or cut short, is no name, so that what was judged is what is
//! looked up. Sources: RFC 952, 1123 (names), RFC 3986 (addresses), the WHATWG URL standard (what
//! browsers take for an IPv4 address).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::AddressRange;

/// A DNS name in its one spelling.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

impl HostName {
    /// Reads a name: case and one trailing dot do not matter, everything else is strict.
    ///
    /// # Errors
    ///
    /// [`HostError`]: it is no name, or some program would take it for something else.
    pub fn new(text: &str) -> Result<Self, HostError> {
        if !text.is_ascii() {
            return Err(HostError::International);
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() || name.len() > 253 {
            return Err(HostError::Length);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        for label in name.split('.') {
            if label.is_empty() || label.len() > 63 {
                return Err(HostError::Length);
            }
            if !label.bytes().all(is_plain) {
                return Err(HostError::Character);
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(HostError::Hyphen);
            }
        }
        if name.rsplit('.').next().is_some_and(is_numeric) {
            return Err(HostError::Number);
        }
        Ok(Self(name))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a sub-domain of `parent`, at any depth.
    pub fn is_below(&self, parent: &Self) -> bool {
        self.0.strip_suffix(parent.as_str()).is_some_and(|head| head.ends_with('.'))
    }

    /// Whether this is `localhost` or below it, which means this machine everywhere (RFC 6761).
    pub fn is_localhost(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether C libraries or browsers would read a name that ends so as an IPv4 address.
fn is_numeric(label: &str) -> bool {
    let is_hexadecimal = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    label.bytes().all(|byte| byte.is_ascii_digit())
        || label.strip_prefix("0x").is_some_and(is_hexadecimal)
}

/// What a program asked for: a name, or an address as such.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// By name.
    Name(HostName),
    /// By address; never an IPv4 address in IPv6 clothes.
    Address(IpAddr),
}

impl Host {
    /// Reads what stands before the port in a request: a name, an IPv4 address, or an IPv6 address
    /// in brackets.
    ///
    /// # Errors
    ///
    /// [`HostError`]: it is neither.
    pub fn new(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Brackets)?;
            return Ok(Self::Address(IpAddr::V6(plain_v6(inner)?)));
        }
        match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(Self::Address(address.into())),
            Err(_) => HostName::new(text).map(Self::Name),
        }
    }

    /// The host of an address.
    pub fn of(address: IpAddr) -> Self {
        Self::Address(address.to_canonical())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Reads an IPv6 address that is one: no zone, no IPv4 address inside.
fn plain_v6(text: &str) -> Result<Ipv6Addr, HostError> {
    if text.contains('%') {
        return Err(HostError::Zone);
    }
    let address: Ipv6Addr = text.parse().map_err(|_not_one| HostError::Address)?;
    match address.to_ipv4_mapped() {
        Some(_) => Err(HostError::Mapped),
        None => Ok(address),
    }
}

/// Which hosts an entry is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// `example.org`.
    Name(HostName),
    /// `*.example.org`: its sub-domains, not itself.
    Below(HostName),
    /// An address, or a range of them.
    Range(AddressRange),
}

/// Which ports an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ports {
    /// 80 and 443: an entry that names none.
    Web,
    /// This one.
    One(u16),
    /// `:*`.
    All,
}

impl Ports {
    /// Whether `port` is one of them.
    pub fn contain(self, port: u16) -> bool {
        match self {
            Self::Web => matches!(port, 80 | 443),
            Self::One(one) => one == port,
            Self::All => true,
        }
    }
}

/// One entry of a list of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostEntry {
    /// Which hosts.
    pub pattern: HostPattern,
    /// Which of their ports.
    pub ports: Ports,
}

impl HostEntry {
    /// `host` at `port` and nothing else. Unlike what is read it may be this machine.
    pub fn exactly(host: &Host, port: u16) -> Self {
        let pattern = match host {
            Host::Name(name) => HostPattern::Name(name.clone()),
            Host::Address(address) => HostPattern::Range(AddressRange::of(*address)),
        };
        Self { pattern, ports: Ports::One(port) }
    }

    /// Whether it speaks of `host`, whatever the port.
    pub fn names(&self, host: &Host) -> bool {
        match (&self.pattern, host) {
            (HostPattern::Name(name), Host::Name(host)) => name == host,
            (HostPattern::Below(parent), Host::Name(host)) => host.is_below(parent),
            (HostPattern::Range(range), Host::Address(address)) => range.contains(*address),
            (HostPattern::Name(_) | HostPattern::Below(_), Host::Address(_))
            | (HostPattern::Range(_), Host::Name(_)) => false,
        }
    }

    /// Whether it speaks of `host` at `port`.
    pub fn covers(&self, host: &Host, port: u16) -> bool {
        self.ports.contain(port) && self.names(host)
    }
}

impl fmt::Display for HostEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pattern {
            HostPattern::Name(name) => name.fmt(f)?,
            HostPattern::Below(name) => write!(f, "*.{name}")?,
            HostPattern::Range(range) if range.is_v6() => write!(f, "[{range}]")?,
            HostPattern::Range(range) => range.fmt(f)?,
        }
        match self.ports {
            Ports::Web => Ok(()),
            Ports::One(port) => write!(f, ":{port}"),
            Ports::All => f.write_str(":*"),
        }
    }
}

impl FromStr for HostEntry {
    type Err = HostError;

    /// Reads `HOST`, `HOST:PORT` or `HOST:*`, where HOST is a name, `*.name`, an IPv4 address or
    /// range, or an IPv6 address or range in brackets.
    fn from_str(text: &str) -> Result<Self, HostError> {
        if is_url(text) {
            return Err(HostError::Url);
        }
        let (host, port) = split_port(text)?;
        let ports = match port {
            None => Ports::Web,
            Some("*") => Ports::All,
            Some(port) => Ports::One(parse_port(port)?),
        };
        Ok(Self { pattern: pattern(host)?, ports })
    }
}

/// Whether `text` has a scheme, or a path after a name: a range has its `/` after an address.
fn is_url(text: &str) -> bool {
    let before = text.split_once('/').map(|(before, _)| before);
    let host = before.map(|before| before.split(':').next().unwrap_or(before));
    let host = host.map(|host| host.strip_prefix("*.").unwrap_or(host));
    text.contains("://") || host.is_some_and(|host| HostName::new(host).is_ok())
}

/// Parts `HOST:PORT`; what is in brackets belongs to the host.
fn split_port(text: &str) -> Result<(&str, Option<&str>), HostError> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or(HostError::Brackets)?;
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(HostError::Brackets),
        };
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(HostError::Brackets),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// Reads a port as people write one: digits, no sign, no leading zero.
///
/// # Errors
///
/// [`HostError::Port`].
pub fn parse_port(text: &str) -> Result<u16, HostError> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    match text.parse::<u16>() {
        Ok(port) if is_plain => Ok(port),
        Ok(_) | Err(_) => Err(HostError::Port),
    }
}

fn pattern(host: &str) -> Result<HostPattern, HostError> {
    let name = |text: &str| match HostName::new(text)? {
        name if name.is_localhost() => Err(HostError::Localhost),
        name => Ok(name),
    };
    if let Some(parent) = host.strip_prefix("*.") {
        return name(parent).map(HostPattern::Below);
    }
    if host == "*" {
        return Err(HostError::Everything);
    }
    if let Some(inner) = host.strip_prefix('[') {
        let inner = inner.strip_suffix(']').ok_or(HostError::Brackets)?;
        let (address, _) = inner.split_once('/').unwrap_or((inner, ""));
        plain_v6(address)?;
        return range(inner);
    }
    if host.contains('/') || host.parse::<Ipv4Addr>().is_ok() {
        return range(host);
    }
    name(host).map(HostPattern::Name)
}

fn range(text: &str) -> Result<HostPattern, HostError> {
    let range: AddressRange = text.parse()?;
    if range.is_never_a_destination() {
        return Err(HostError::NoDestination);
    }
    Ok(HostPattern::Range(range))
}

/// Why a text names no host, or no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Empty, an empty label, or too long.
    #[error("a name has 1 to 253 characters, in parts of 1 to 63 between dots")]
    Length,
    /// Not ASCII.
    #[error("a name beyond ASCII is written as it is looked up, `xn--…`")]
    International,
    /// A character that is in no name.
    #[error("a name has letters, digits, `-`, `_` and dots only")]
    Character,
    /// `-` at an end.
    #[error("no part of a name starts or ends with `-`")]
    Hyphen,
    /// What other programs take for an address.
    #[error("this is an address in an unusual spelling, or ends like one")]
    Number,
    /// `https://example.org`, `example.org/path`.
    #[error("this is a URL; an entry is the host alone, without a scheme and a path")]
    Url,
    /// No address.
    #[error("this is no address")]
    Address,
    /// `::ffff:1.2.3.4`.
    #[error("this is an IPv4 address in IPv6 clothes; write the IPv4 address")]
    Mapped,
    /// `fe80::1%eth0`.
    #[error("an address with a zone cannot be opened")]
    Zone,
    /// `/` and what follows.
    #[error("the prefix of a range is a number of bits, and the address has none set beyond them")]
    Prefix,
    /// `[` without `]`, or an IPv6 address without them.
    #[error("an IPv6 address stands in brackets, `[2001:db8::1]:443`")]
    Brackets,
    /// Not 1 to 65535.
    #[error("a port is a number from 1 to 65535, or `*`")]
    Port,
    /// `localhost`.
    #[error("`localhost` inside is the sandbox's own; one port of the host's is `localhost:PORT`")]
    Localhost,
    /// `*`.
    #[error("`*` alone is not an entry; `network_access = true` opens every public host")]
    Everything,
    /// Loopback and other ranges that nothing may be allowed to.
    #[error("this range is never opened (loopback, multicast, or used by Stockade itself)")]
    NoDestination,
}

#[cfg(test)]
mod tests;
