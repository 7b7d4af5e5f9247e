//! Where an SMTP client came from.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};
use memchr::memchr;

use crate::Text;
use crate::strings::without_nul;

/// The connection of an SMTP client, as the MTA tells it (`C`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    host: Bytes,
    client: ClientAddr,
}

impl Connect {
    /// A connection from a host.
    ///
    /// A NUL in the name or the address, which no MTA can send, cuts it there.
    pub fn new(host: impl Into<Bytes>, client: ClientAddr) -> Self {
        Self {
            host: without_nul(host),
            client,
        }
    }

    /// The client's host name, or what stands for it: `[192.0.2.1]`, `localhost`, `unknown`.
    pub fn host(&self) -> Text<'_> {
        Text::new(&self.host)
    }

    /// The client's address.
    pub fn client(&self) -> &ClientAddr {
        &self.client
    }

    /// The same in memory of its own, which holds no part of a connection's buffer.
    #[must_use]
    pub fn to_owned_copy(&self) -> Self {
        let client = match &self.client {
            ClientAddr::Unix(path) => ClientAddr::Unix(Bytes::copy_from_slice(path)),
            ClientAddr::Unreadable {
                family,
                port,
                address,
            } => ClientAddr::Unreadable {
                family: *family,
                port: *port,
                address: Bytes::copy_from_slice(address),
            },
            other => other.clone(),
        };
        Self {
            host: Bytes::copy_from_slice(&self.host),
            client,
        }
    }

    // libmilter/engine.c st_connectinfo; what that would drop the session for (an address that
    // cannot be read) is kept as text here (C36).
    pub(crate) fn parse(payload: &Bytes) -> Result<Self, &'static str> {
        let end = memchr(0, payload).ok_or("the host name has no NUL at its end")?;
        let host = payload.slice(..end);
        let Some((&family, rest)) = payload[end + 1..].split_first() else {
            return Ok(Self {
                host,
                client: ClientAddr::Unknown,
            });
        };
        if family == b'U' {
            // Whatever follows means nothing.
            return Ok(Self {
                host,
                client: ClientAddr::Unknown,
            });
        }
        let (port, address) = match rest.split_first_chunk() {
            Some((port, address)) => (u16::from_be_bytes(*port), address),
            None => (0, &rest[rest.len()..]),
        };
        let address = &address[..memchr(0, address).unwrap_or(address.len())];
        Ok(Self {
            host,
            client: ClientAddr::read(family, port, &payload.slice_ref(address)),
        })
    }

    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&self.host);
        out.put_u8(0);
        let (family, port, address) = match &self.client {
            ClientAddr::Unknown => {
                out.put_u8(b'U');
                return;
            }
            ClientAddr::Inet(at) => {
                let family = if at.is_ipv4() { b'4' } else { b'6' };
                (family, at.port(), Bytes::from(at.ip().to_string()))
            }
            ClientAddr::Unix(path) => (b'L', 0, path.clone()),
            ClientAddr::Unreadable {
                family,
                port,
                address,
            } => (*family, *port, address.clone()),
        };
        out.put_u8(family);
        out.put_u16(port);
        out.put_slice(&without_nul(address));
        out.put_u8(0);
    }
}

/// The address of an SMTP client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientAddr {
    /// An internet address. Port 0 means that the MTA does not know it.
    Inet(SocketAddr),
    /// The path of a unix socket.
    Unix(Bytes),
    /// Neither: mail handed in on standard input (Sendmail), or a client without an address.
    Unknown,
    /// An address that cannot be read, as it came.
    Unreadable {
        /// The MTA's letter for the family.
        family: u8,
        /// The port, 0 for none.
        port: u16,
        /// The text of the address.
        address: Bytes,
    },
}

impl ClientAddr {
    fn read(family: u8, port: u16, address: &Bytes) -> Self {
        let ip = match family {
            b'L' if !address.is_empty() => return Self::Unix(address.clone()),
            b'4' | b'6' => std::str::from_utf8(address).ok().and_then(read_ip),
            _ => None,
        };
        match ip {
            Some(ip) => Self::Inet(SocketAddr::new(ip, port)),
            None => Self::Unreadable {
                family,
                port,
                address: address.clone(),
            },
        }
    }

    /// The IP address, if there is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Inet(at) => Some(at.ip()),
            _ => None,
        }
    }

    /// The port, if the MTA knows it.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Inet(at) => Some(at.port()).filter(|port| *port != 0),
            _ => None,
        }
    }
}

/// Reads an address as both MTAs write it: Sendmail puts `IPv6:` before version 6 (Q8).
// libmilter/sm_gethost.c mi_inet_pton
fn read_ip(text: &str) -> Option<IpAddr> {
    let tagged = text
        .get(..5)
        .is_some_and(|tag| tag.eq_ignore_ascii_case("IPv6:"));
    let bare = if tagged { &text[5..] } else { text };
    bare.parse::<Ipv4Addr>()
        .map(IpAddr::V4)
        .or_else(|_| bare.parse::<Ipv6Addr>().map(IpAddr::V6))
        .ok()
}

impl From<SocketAddr> for ClientAddr {
    fn from(at: SocketAddr) -> Self {
        Self::Inet(at)
    }
}

impl From<IpAddr> for ClientAddr {
    fn from(ip: IpAddr) -> Self {
        Self::Inet(SocketAddr::new(ip, 0))
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(at) => at.ip().fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.escape_ascii()),
            Self::Unknown => f.write_str("unknown"),
            Self::Unreadable { address, .. } => write!(f, "unreadable:{}", address.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(payload: &'static [u8]) -> ClientAddr {
        Connect::parse(&Bytes::from_static(payload)).unwrap().client
    }

    fn inet(text: &str) -> ClientAddr {
        ClientAddr::Inet(text.parse().unwrap())
    }

    #[test]
    fn c35_every_form_that_mtas_send() {
        assert_eq!(client(b"localhost\0U"), ClientAddr::Unknown);
        assert_eq!(client(b"localhost\0U\0\0x\0"), ClientAddr::Unknown);
        assert_eq!(client(b"h\x004\x01\x02127.0.0.1\0"), inet("127.0.0.1:258"));
        assert_eq!(client(b"h\x006\0\x19::1\0"), inet("[::1]:25"));
        assert_eq!(
            client(b"h\x006\0\x19IPv6:0:0:0:0:0:0:0:1\0"),
            inet("[::1]:25")
        );
        assert_eq!(
            client(b"h\x006\0\x19ipv6:2001:DB8::1\0"),
            inet("[2001:db8::1]:25")
        );
        assert_eq!(
            client(b"h\0L\0\0/run/x\0"),
            ClientAddr::Unix(Bytes::from_static(b"/run/x"))
        );
    }

    #[test]
    fn c36_unreadable_addresses_are_kept_as_text() {
        for (payload, family) in [
            (&b"h\x004\0\0nonsense\0"[..], b'4'),
            (b"h\x006\0\0\0", b'6'),
            (b"h\x004\0", b'4'),
            (b"h\0?\0\0a\0", b'?'),
            (b"h\0L\0\0\0", b'L'),
        ] {
            let at = Connect::parse(&Bytes::from_static(payload)).unwrap().client;
            assert!(
                matches!(at, ClientAddr::Unreadable { family: f, .. } if f == family),
                "{at:?}"
            );
            assert_eq!(at.ip(), None);
        }
        assert_eq!(client(b"h\0"), ClientAddr::Unknown);
        assert!(Connect::parse(&Bytes::from_static(b"no end")).is_err());
    }

    #[test]
    fn c37_port_0_is_unknown() {
        assert_eq!(client(b"h\x004\x00\x00127.0.0.1\0").port(), None);
        assert_eq!(client(b"h\x004\x01\x00127.0.0.1\0").port(), Some(256));
    }

    #[test]
    fn survives_encode_and_parse() {
        for client in [
            inet("192.0.2.1:25"),
            inet("[2001:db8::1]:0"),
            ClientAddr::Unknown,
            ClientAddr::Unix(Bytes::from_static(b"/x")),
            ClientAddr::Unreadable {
                family: b'4',
                port: 7,
                address: Bytes::from_static(b"?"),
            },
        ] {
            let connect = Connect::new("host", client);
            let mut out = BytesMut::new();
            connect.encode(&mut out);
            assert_eq!(Connect::parse(&out.freeze()).unwrap(), connect);
        }
    }
}
