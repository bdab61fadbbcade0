//! Addresses and networks.

use std::fmt;
use std::net::IpAddr;

/// A network, or with all its bits fixed a single address. Host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8`, `fe80::/10`, `127.0.0.1`, `::1`, `[::1]`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(decimal(bits)?)),
            None => (text, None),
        };
        let inner = address
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let address: IpAddr = inner.unwrap_or(address).parse().ok()?;
        let widest = width(address);
        let bits = bits.unwrap_or(widest);
        let base = masked(address, bits);
        (bits <= widest).then_some(Self { base, bits })
    }

    /// Is it one address alone?
    pub(super) fn is_single(self) -> bool {
        self.bits == width(self.base)
    }

    /// Is the address inside? An IPv4 network also holds the v4-mapped form of its addresses.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let address = match (self.base, address) {
            (IpAddr::V4(_), IpAddr::V6(v6)) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
            _ => address,
        };
        width(address) == width(self.base) && masked(address, self.bits) == self.base
    }
}

impl fmt::Display for Network {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_single() {
            self.base.fmt(out)
        } else {
            write!(out, "{}/{}", self.base, self.bits)
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(bits))
                .unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// Digits only: no sign.
fn decimal(text: &str) -> Option<u8> {
    let all = text.bytes().all(|byte| byte.is_ascii_digit());
    all.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(network: &str, address: &str) -> bool {
        Network::parse(network)
            .expect(network)
            .contains(address.parse().expect(address))
    }

    #[test]
    fn networks_hold_their_addresses() {
        assert!(inside("10.0.0.0/8", "10.255.0.1") && !inside("10.0.0.0/8", "11.0.0.0"));
        assert!(inside("0.0.0.0/0", "255.1.2.3") && inside("::/0", "fe80::1"));
        assert!(inside("fe80::/10", "febf::1") && !inside("fe80::/10", "fec0::1"));
        assert!(inside("127.0.0.1", "127.0.0.1") && !inside("127.0.0.1", "127.0.0.2"));
    }

    #[test]
    fn mapped_addresses_are_in_ipv4_networks_and_in_their_own() {
        assert!(inside("10.0.0.0/8", "::ffff:10.1.2.3"));
        assert!(inside("10.1.2.3", "::ffff:10.1.2.3"));
        assert!(inside("::ffff:0:0/96", "::ffff:10.1.2.3"));
        assert!(!inside("0.0.0.0/0", "::1") && !inside("::/0", "1.2.3.4"));
    }

    #[test]
    fn host_bits_are_dropped_and_nonsense_is_refused() {
        assert_eq!(
            Network::parse("10.1.2.3/8").expect("net").to_string(),
            "10.0.0.0/8"
        );
        assert_eq!(Network::parse("[::1]").expect("address").to_string(), "::1");
        for text in [
            "10.0.0.0/33",
            "::/129",
            "10.0.0/8",
            "1.2.3.4/",
            "1.2.3.4/+8",
            "",
            "a",
        ] {
            assert_eq!(Network::parse(text), None, "{text}");
        }
    }
}
