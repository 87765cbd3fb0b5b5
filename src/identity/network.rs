use core::net::IpAddr;

use crate::types::AclId;

/// Returns the identity that an address is. An IPv4 address that arrives in IPv6 clothes is IPv4.
pub fn of_address(address: IpAddr) -> AclId {
    AclId { scheme: "ip".to_owned(), id: address.to_canonical().to_string() }
}

/// The addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// Reads `addr` or `addr/bits`; bits are at most the width of the address.
    pub fn parse(text: &str) -> Option<Network> {
        parse(text).and_then(|(address, bits)| Network::around(address, bits))
    }

    /// Returns the network of an address that has so many bits; `None` when the address has fewer.
    pub fn around(address: IpAddr, bits: u32) -> Option<Network> {
        let address = match address {
            IpAddr::V4(address) => {
                let rest = 32_u32.checked_sub(bits)?;
                let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) => {
                let rest = 128_u32.checked_sub(bits)?;
                let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
                IpAddr::V6((address.to_bits() & mask).into())
            }
        };
        Some(Network { address, bits })
    }

    /// Returns how many leading bits its addresses have in common.
    pub fn bits(self) -> u32 {
        self.bits
    }

    /// Returns whether there is an address in both: then one of them lies in the other.
    pub fn overlaps(self, other: Network) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }

    /// Returns whether an address is one of them. An IPv4 address in IPv6 clothes is IPv4.
    pub fn contains(self, address: IpAddr) -> bool {
        let Network { address: network, bits } = self;
        match (network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(32 - bits).unwrap_or(0) == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                (network.to_bits() ^ address.to_bits()).checked_shr(128 - bits).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Returns whether an address lies in `addr` or `addr/bits`. Texts that are neither match nothing.
pub(super) fn is_in(network: &str, address: &str) -> bool {
    match (Network::parse(network), address.parse::<IpAddr>()) {
        (Some(network), Ok(address)) => network.contains(address),
        _ => false,
    }
}

/// Parses `addr` or `addr/bits`; bits are at most the width of the address.
pub(super) fn parse(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
        None => (text, None),
    };
    let address = address.parse::<IpAddr>().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    (bits.unwrap_or(width) <= width).then_some((address, bits.unwrap_or(width)))
}

#[cfg(test)]
mod tests {
    use super::{IpAddr, Network, is_in, of_address, parse};

    #[test]
    fn an_address_lies_in_a_network_by_its_leading_bits() {
        for (network, address, expected) in [
            ("10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("10.1.0.0/16", "10.1.255.9", true),
            ("10.1.0.0/16", "10.2.0.0", false),
            ("10.1.0.0/15", "10.0.9.9", true),
            ("0.0.0.0/0", "255.1.2.3", true),
            ("10.1.2.3/32", "10.1.2.3", true),
            ("10.1.0.0/16", "::ffff:10.1.0.9", true),
            ("2001:db8::/32", "2001:db8:8000::5", true),
            ("2001:db8::/32", "2001:db9::", false),
            ("::/0", "2001:db9::", true),
            ("::/0", "10.0.0.1", false),
            ("0.0.0.0/0", "::1", false),
            ("::1", "::1", true),
            ("nonsense", "::1", false),
            ("::1", "nonsense", false),
        ] {
            assert_eq!(is_in(network, address), expected, "{address} in {network}");
        }
    }

    #[test]
    fn networks_overlap_where_one_lies_in_the_other() {
        for (one, other, expected) in [
            ("10.0.0.0/8", "10.7.0.0/16", true),
            ("10.7.0.0/16", "10.8.0.0/16", false),
            ("10.0.0.0/8", "::/0", false),
        ] {
            let (one, other) = (Network::parse(one).unwrap(), Network::parse(other).unwrap());
            assert_eq!((one.overlaps(other), other.overlaps(one)), (expected, expected));
        }
    }

    #[test]
    fn a_network_is_one_value_whichever_of_its_addresses_it_was_named_by() {
        for (network, address) in [
            ("10.1.2.3/16", "10.1.9.9"),
            ("10.1.2.3/0", "9.9.9.9"),
            ("10.1.2.3", "10.1.2.3"),
            ("2001:db8::7/32", "2001:db8:1::"),
            ("::/0", "::1"),
        ] {
            let network = Network::parse(network).unwrap();
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(Network::around(address, network.bits()), Some(network));
        }
        assert_eq!(Network::around("10.0.0.1".parse().unwrap(), 33), None);
    }

    #[test]
    fn a_network_has_no_more_bits_than_its_address() {
        for good in ["1.2.3.4", "1.2.3.4/0", "1.2.3.4/32", "::/128", "::1"] {
            assert!(parse(good).is_some(), "{good}");
        }
        for bad in ["1.2.3.4/33", "::/129", "1.2.3", "", "/", "1.2.3.4/", "1.2.3.4/-1", "a/8"] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_identity_of_an_address_is_its_shortest_text() {
        let id = |text: &str| of_address(text.parse().unwrap()).id;
        assert_eq!(id("::ffff:10.0.0.1"), "10.0.0.1");
        assert_eq!(id("2001:0db8:0::1"), "2001:db8::1");
    }
}
