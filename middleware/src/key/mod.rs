//! By what limits are kept.

mod by;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use milter_tower::Text;

pub(crate) use self::by::By;

/// The longest text of a key in bytes: a mailbox of the largest size (RFC 5321 4.5.3.1).
const MAX_TEXT: usize = 64 + 1 + 255;

/// What a limit is kept by: a client's address or network, or a text.
///
/// Two spellings of one address make one key: an IPv6 address that stands for one of version 4
/// (`::ffff:192.0.2.1`) is that. Texts are compared byte by byte; for addresses and domains make
/// them by [`mailbox_key`](milter_tower::mailbox_key) and [`domain_key`](milter_tower::domain_key).
/// What a text has beyond 320 bytes, which no address has (RFC 5321 4.5.3.1), is cut.
///
/// How it is [displayed](fmt::Display) is the same on every host, and so a name in a store that
/// several share.
///
/// ```
/// use std::net::IpAddr;
///
/// # #[cfg(feature = "rate-limit")]
/// use milter_middleware::rate_limit::Key;
/// # #[cfg(not(feature = "rate-limit"))]
/// # use milter_middleware::concurrency_limit::Key;
///
/// let ip: IpAddr = "2001:db8:1:2:3::4".parse().unwrap();
/// assert_eq!(Key::network(ip, 24, 64).to_string(), "2001:db8:1:2::/64");
/// assert_eq!(Key::from("listed").to_string(), "listed");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key(Kind);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Kind {
    V4(Ipv4Addr, u8),
    V6(Ipv6Addr, u8),
    Text(Box<[u8]>),
}

impl Key {
    /// The network of an address: its first bits, `v4` of an IPv4 address (at most 32), `v6` of an
    /// IPv6 address (at most 128).
    pub fn network(ip: IpAddr, v4: u8, v6: u8) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let bits = v4.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Kind::V4(Ipv4Addr::from_bits(ip.to_bits() & mask), bits)
            }
            IpAddr::V6(ip) => {
                let bits = v6.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Kind::V6(Ipv6Addr::from_bits(ip.to_bits() & mask), bits)
            }
        })
    }
}

impl From<IpAddr> for Key {
    fn from(ip: IpAddr) -> Self {
        Self::network(ip, 32, 128)
    }
}

impl From<&[u8]> for Key {
    fn from(text: &[u8]) -> Self {
        Self(Kind::Text(text.iter().copied().take(MAX_TEXT).collect()))
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::from(text.as_bytes())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        let mut text = text.into_bytes();
        text.truncate(MAX_TEXT);
        Self(Kind::Text(text.into_boxed_slice()))
    }
}

impl From<Text<'_>> for Key {
    fn from(text: Text<'_>) -> Self {
        Self::from(text.as_bytes())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::V4(ip, 32) => ip.fmt(f),
            Kind::V6(ip, 128) => ip.fmt(f),
            Kind::V4(ip, bits) => write!(f, "{ip}/{bits}"),
            Kind::V6(ip, bits) => write!(f, "{ip}/{bits}"),
            Kind::Text(text) => text.escape_ascii().fmt(f),
        }
    }
}
