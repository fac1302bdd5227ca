//! Ranges of addresses, and which of them a name may not lead to.
//!
//! Sources: IANA's special-purpose registries (RFC 6890), RFC 6052 (NAT64), RFC 3056 (6to4).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::HostError;

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// Where the sandbox's names live: synthetic addresses, IPv4 (RFC 2544) and IPv6.
pub const SYNTHETIC: [AddressRange; 2] = [
    AddressRange { first: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 0)), bits: 15 },
    AddressRange {
        first: IpAddr::V6(Ipv6Addr::new(
            SYNTHETIC_V6[0],
            SYNTHETIC_V6[1],
            SYNTHETIC_V6[2],
            SYNTHETIC_V6[3],
            0,
            0,
            0,
            0,
        )),
        bits: 64,
    },
];

/// The first half of a unique local range (RFC 4193) whose 40 random bits spell a word.
const SYNTHETIC_V6: [u16; 4] = [0xfd53, 0x746f, 0x636b, 0x6164];

impl AddressRange {
    /// One address.
    pub fn of(address: IpAddr) -> Self {
        Self { first: address, bits: width(address) }
    }

    /// The first address.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// How many leading bits are the same.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// Whether it is a range of IPv6 addresses.
    pub fn is_v6(self) -> bool {
        self.first.is_ipv6()
    }

    /// Whether `address` is in it. IPv4 addresses in IPv6 clothes are what is in them.
    pub fn contains(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4()
            && number(address) & mask(self.first, self.bits) == number(self.first)
    }

    /// Whether it is one address.
    pub fn is_one(self) -> bool {
        self.bits == if self.first.is_ipv4() { 32 } else { 128 }
    }

    fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// Whether it holds an address that nothing may be allowed to reach: this machine's loopback,
    /// more than one host at a time, or what Stockade uses itself.
    pub fn is_never_a_destination(self) -> bool {
        NEVER.iter().chain(&SYNTHETIC).any(|never| never.overlaps(self))
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> AddressRange {
    AddressRange { first: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
}

const fn v6(head: [u16; 4], bits: u8) -> AddressRange {
    let [a, b, c, d] = head;
    AddressRange { first: IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), bits }
}

const NEVER: [AddressRange; 6] = [
    v4(0, 0, 0, 0, 8),
    v4(127, 0, 0, 0, 8),
    v4(224, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
    // `::` and `::1`, with the IPv4-compatible ones (deprecated, RFC 4291).
    v6([0, 0, 0, 0], 96),
    v6([0xff00, 0, 0, 0], 8),
];

/// Why no name may lead to an address by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressClass {
    /// RFC 1918, unique local, carrier-grade NAT.
    Private,
    /// This machine, by its loopback or `0.0.0.0`.
    Loopback,
    /// The same wire, with the metadata services of clouds.
    LinkLocal,
    /// Where a cloud gives out the machine's credentials.
    Metadata,
    /// More than one host.
    Multicast,
    /// What has another use than to be a host.
    Reserved,
    /// An address of this machine.
    Own,
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Private => "private",
            Self::Loopback => "loopback",
            Self::LinkLocal => "link-local",
            Self::Metadata => "metadata",
            Self::Multicast => "multicast",
            Self::Reserved => "reserved",
            Self::Own => "own",
        })
    }
}

/// Longer prefixes first where one lies in another.
const CLASSES: &[(AddressRange, AddressClass)] = &[
    (v4(0, 0, 0, 0, 8), AddressClass::Loopback),
    (v4(10, 0, 0, 0, 8), AddressClass::Private),
    (v4(100, 100, 100, 200, 32), AddressClass::Metadata),
    (v4(100, 64, 0, 0, 10), AddressClass::Private),
    (v4(127, 0, 0, 0, 8), AddressClass::Loopback),
    (v4(168, 63, 129, 16, 32), AddressClass::Metadata),
    (v4(169, 254, 169, 254, 32), AddressClass::Metadata),
    (v4(169, 254, 0, 0, 16), AddressClass::LinkLocal),
    (v4(172, 16, 0, 0, 12), AddressClass::Private),
    (v4(192, 0, 0, 0, 24), AddressClass::Reserved),
    (v4(192, 168, 0, 0, 16), AddressClass::Private),
    (v4(198, 18, 0, 0, 15), AddressClass::Reserved),
    (v4(224, 0, 0, 0, 4), AddressClass::Multicast),
    (v4(240, 0, 0, 0, 4), AddressClass::Reserved),
    (v6([0, 0, 0, 0], 96), AddressClass::Loopback),
    // NAT64 of this network's own, whatever it leads to (RFC 8215).
    (v6([0x64, 0xff9b, 1, 0], 48), AddressClass::Private),
    // Teredo.
    (v6([0x2001, 0, 0, 0], 32), AddressClass::Reserved),
    (v6([0xfc00, 0, 0, 0], 7), AddressClass::Private),
    (v6([0xfe80, 0, 0, 0], 10), AddressClass::LinkLocal),
    (v6([0xfec0, 0, 0, 0], 10), AddressClass::Private),
    (v6([0xff00, 0, 0, 0], 8), AddressClass::Multicast),
];

/// The class of `address`, `None` for a public one. What holds an IPv4 address (mapped, NAT64,
/// 6to4) is judged by it.
pub fn address_class(address: IpAddr) -> Option<AddressClass> {
    let address = inner(address.to_canonical());
    let listed = CLASSES.iter().find(|(range, _)| range.contains(address));
    listed.map(|(_, class)| *class)
}

/// The IPv4 address that a gateway on the way would make of `address`.
fn inner(address: IpAddr) -> IpAddr {
    let IpAddr::V6(outer) = address else { return address };
    match outer.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            let number = u32::from(high) << 16 | u32::from(low);
            IpAddr::V4(Ipv4Addr::from_bits(number))
        }
        // IPv4-translated (RFC 2765): `::ffff:0:a.b.c.d`.
        [0, 0, 0, 0, 0xffff, 0, high, low] => {
            IpAddr::V4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        _ => address,
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The leading `bits` of an address of the family of `address`, as a mask.
fn mask(address: IpAddr, bits: u8) -> u128 {
    let width = u32::from(width(address));
    let all = if width == 128 { u128::MAX } else { u128::from(u32::MAX) };
    all & all.checked_shl(width - u32::from(bits)).unwrap_or(0)
}

impl FromStr for AddressRange {
    type Err = HostError;

    /// Reads an address, or an address and the number of its leading bits: `10.0.0.0/8`.
    fn from_str(text: &str) -> Result<Self, HostError> {
        let (first, bits) = match text.split_once('/') {
            Some((first, bits)) => (first, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = first.parse().map_err(|_not_one| HostError::Address)?;
        if first.to_canonical() != first {
            return Err(HostError::Mapped);
        }
        let Some(bits) = bits else { return Ok(Self::of(first)) };
        let is_plain = bits.bytes().all(|byte| byte.is_ascii_digit())
            && (bits == "0" || !bits.starts_with('0'));
        let bits = bits.parse().ok().filter(|bits| is_plain && *bits <= width(first));
        let bits: u8 = bits.ok_or(HostError::Prefix)?;
        if number(first) & mask(first, bits) != number(first) {
            return Err(HostError::Prefix);
        }
        Ok(Self { first, bits })
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        if self.bits == width(self.first) { Ok(()) } else { write!(f, "/{}", self.bits) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_name_leads_to_these_by_itself() {
        use AddressClass::*;
        for (address, class) in [
            ("0.0.0.0", Loopback),
            ("0.1.2.3", Loopback),
            ("10.0.0.1", Private),
            ("100.64.0.1", Private),
            ("100.100.100.200", Metadata),
            ("127.0.0.1", Loopback),
            ("127.255.255.254", Loopback),
            ("168.63.129.16", Metadata),
            ("169.254.169.254", Metadata),
            ("169.254.1.1", LinkLocal),
            ("172.16.0.1", Private),
            ("172.31.255.255", Private),
            ("192.0.0.1", Reserved),
            ("192.168.1.1", Private),
            ("198.18.0.1", Reserved),
            ("198.19.255.255", Reserved),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.1", Reserved),
            ("255.255.255.255", Reserved),
            ("::", Loopback),
            ("::1", Loopback),
            ("::7f00:1", Loopback),
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:169.254.169.254", Metadata),
            ("::ffff:0:10.0.0.1", Private),
            ("64:ff9b::a00:1", Private),
            ("64:ff9b::7f00:1", Loopback),
            ("64:ff9b:1::1", Private),
            ("2001::1", Reserved),
            ("2002:a00:1::1", Private),
            ("fc00::1", Private),
            ("fd00:ec2::254", Private),
            ("fe80::1", LinkLocal),
            ("fec0::1", Private),
            ("ff02::1", Multicast),
        ] {
            assert_eq!(address_class(address.parse().unwrap()), Some(class), "{address}");
        }
        for public in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "203.0.113.9",
            "2606:4700::1",
            "64:ff9b::808:808",
        ] {
            assert_eq!(address_class(public.parse().unwrap()), None, "{public}");
        }
    }

    #[test]
    fn the_synthetic_ranges_are_what_the_design_says() {
        assert_eq!(
            SYNTHETIC.map(|range| range.to_string()),
            ["198.18.0.0/15", "fd53:746f:636b:6164::/64"]
        );
    }

    proptest! {
        /// A mapped address is what is in it.
        #[test]
        fn clothes_do_not_matter(bits in any::<u32>()) {
            let plain = Ipv4Addr::from_bits(bits);
            let mapped = IpAddr::V6(plain.to_ipv6_mapped());
            prop_assert_eq!(address_class(mapped), address_class(plain.into()));
            for range in SYNTHETIC.iter().chain(&NEVER) {
                prop_assert_eq!(range.contains(mapped), range.contains(plain.into()));
            }
        }

        /// A range holds exactly the addresses that share its bits.
        #[test]
        fn a_range_is_its_leading_bits(bits in any::<u32>(), length in 0_u8..=32, flip in 0_u8..32) {
            let first = Ipv4Addr::from_bits(bits & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0));
            let range = AddressRange { first: first.into(), bits: length };
            let other = IpAddr::V4(Ipv4Addr::from_bits(first.to_bits() ^ (1 << (31 - flip))));
            prop_assert_eq!(range.contains(other), flip >= length);
            prop_assert_eq!(range.to_string().parse::<AddressRange>().unwrap(), range);
        }

        /// What is never opened is never public.
        #[test]
        fn what_is_never_opened_has_a_class(bits in any::<u128>()) {
            let address = IpAddr::V6(Ipv6Addr::from_bits(bits));
            if AddressRange::of(address.to_canonical()).is_never_a_destination() {
                prop_assert!(address_class(address).is_some());
            }
        }
    }
}
