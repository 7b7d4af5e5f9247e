//! Networks of IP addresses.

use std::net::IpAddr;
use std::str::FromStr;

/// An IP network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network: write 192.0.2.0/24, 2001:db8::/32, or a single address")]
pub struct NetworkError(String);

impl Network {
    /// An IPv4 address in the form of IPv6 is taken for what it is.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let (network, ip) = (number(self.address), number(ip.to_canonical()));
        let shift = 128_u32.saturating_sub(u32::from(self.bits) + network.1);
        network.1 == ip.1 && network.0.checked_shr(shift) == ip.0.checked_shr(shift)
    }
}

/// The address's bits, and how many stand before them.
fn number(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()), 96),
        IpAddr::V6(ip) => (ip.to_bits(), 0),
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let wrong = || NetworkError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse().map_err(|_| wrong()))?;
        if bits > most {
            return Err(wrong());
        }
        Ok(Self { address, bits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_networks() {
        let is_in = |ip: &str, network: &str| {
            network
                .parse::<Network>()
                .unwrap()
                .contains(ip.parse().unwrap())
        };
        assert!(is_in("192.0.2.7", "192.0.2.0/24") && !is_in("192.0.3.7", "192.0.2.0/24"));
        assert!(is_in("192.0.2.7", "192.0.2.7") && !is_in("192.0.2.8", "192.0.2.7"));
        assert!(is_in("8.8.8.8", "0.0.0.0/0") && !is_in("::1", "0.0.0.0/0"));
        assert!(is_in("2001:db8:1::9", "2001:db8::/32") && !is_in("2001:db9::", "2001:db8::/32"));
        assert!(is_in("::1", "::/0") && is_in("::1", "::1/128"));
        assert!(
            is_in("::ffff:192.0.2.7", "192.0.2.0/24"),
            "as an MTA may write it"
        );
        for wrong in [
            "",
            "192.0.2.0/33",
            "192.0.2/24",
            "::/129",
            "a/8",
            "1.2.3.4/",
        ] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}
