//! Names and the synthetic addresses that programs inside know them by.
//!
//! A name gets one number, for the whole run, and with it an IPv4 and an IPv6 address. No number
//! is given twice, so that an address means one name only.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use stockade_policy::{AddressRange, HostName, PROXY_PORT, SYNTHETIC};

/// Where the proxy is.
pub(crate) const PROXY: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 18, 0, 1)), PROXY_PORT);
/// The first number: those below are the network and the resolver.
const FIRST: u32 = 2;
/// As many names as the table may hold: what a program could make it grow to by asking for
/// sub-domains that are allowed and do not exist.
const NAMES_MAX: usize = 32_768;

/// The table of one run.
#[derive(Debug, Default)]
pub(crate) struct Names(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    numbers: HashMap<HostName, u32>,
    names: Vec<HostName>,
}

impl Names {
    /// The addresses of `name`; `None` when the table is full.
    pub(crate) fn addresses(&self, name: &HostName) -> Option<(Ipv4Addr, Ipv6Addr)> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = table.numbers.get(name) {
            return Some(synthetic(*number));
        }
        if table.names.len() >= NAMES_MAX {
            return None;
        }
        let number = FIRST + u32::try_from(table.names.len()).ok()?;
        table.names.push(name.clone());
        table.numbers.insert(name.clone(), number);
        Some(synthetic(number))
    }

    /// The names that got addresses last, `most` of them.
    pub(crate) fn latest(&self, most: usize) -> Vec<HostName> {
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.names.iter().rev().take(most).cloned().collect()
    }

    /// The name that has `address`.
    pub(crate) fn name(&self, address: IpAddr) -> Option<HostName> {
        let [v4, v6] = SYNTHETIC;
        let number = match (address.to_canonical(), v4.first(), v6.first()) {
            (IpAddr::V4(address), IpAddr::V4(first), _) => {
                address.to_bits().checked_sub(first.to_bits())?
            }
            (IpAddr::V6(address), _, IpAddr::V6(first)) => {
                u32::try_from(address.to_bits().checked_sub(first.to_bits())?).ok()?
            }
            _ => return None,
        };
        let table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.names.get(usize::try_from(number.checked_sub(FIRST)?).ok()?).cloned()
    }
}

/// Whether `address` is one that only names have.
pub(crate) fn is_synthetic(address: IpAddr) -> bool {
    SYNTHETIC.iter().any(|range| range.contains(address))
}

fn synthetic(number: u32) -> (Ipv4Addr, Ipv6Addr) {
    let [v4, v6] = SYNTHETIC.map(AddressRange::first);
    let v4 = match v4 {
        IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits() + number),
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    let v6 = match v6 {
        IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() + u128::from(number)),
        IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
    };
    (v4, v6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_addresses_and_an_address_its_name() {
        let names = Names::default();
        let name = |text: &str| HostName::new(text).unwrap();
        let first = names.addresses(&name("a.example.org")).unwrap();
        let second = names.addresses(&name("b.example.org")).unwrap();
        assert_ne!(first, second);
        assert_eq!(names.addresses(&name("A.example.org.")), Some(first));
        assert_eq!(first.0.to_string(), "198.18.0.2");
        for (addresses, expected) in [(first, "a.example.org"), (second, "b.example.org")] {
            for address in [IpAddr::V4(addresses.0), IpAddr::V6(addresses.1)] {
                assert!(is_synthetic(address));
                assert_eq!(names.name(address).unwrap().as_str(), expected);
            }
        }
        for unknown in [
            "198.18.0.0",
            "198.18.0.1",
            "198.18.0.4",
            "10.0.0.1",
            "::1",
            "fd53:746f:636b:6164:1::2",
        ] {
            assert_eq!(names.name(unknown.parse().unwrap()), None, "{unknown}");
        }
    }

    #[test]
    fn the_table_does_not_grow_without_bound() {
        let names = Names::default();
        for number in 0..NAMES_MAX {
            assert!(names.addresses(&HostName::new(&format!("a{number}.org")).unwrap()).is_some());
        }
        assert_eq!(names.addresses(&HostName::new("more.org").unwrap()), None);
        let (last, _) = names.addresses(&HostName::new("a32767.org").unwrap()).unwrap();
        assert!(is_synthetic(last.into()), "{last}");
    }
}
