//! What of people is shown.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use milter_tower::{ClientAddr, Connect, mailbox_key};
use sha2::Sha256;

/// What lines show of mail addresses: of the sender, the recipients and the user who authenticated.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Addresses {
    /// The whole address.
    #[default]
    Full,
    /// The domain: `*@example.org`.
    Domain,
    /// A hash by which one finds an address that one knows, and nobody finds one that he does not:
    /// the first 16 digits of HMAC-SHA-256, with this key, of
    /// [`mailbox_key`](milter_tower::mailbox_key).
    Hash(HashKey),
    /// Nothing.
    Hidden,
}

/// What lines show of clients.
///
/// Their host name and what they say in HELO are shown with [`Full`](Self::Full) only.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Clients {
    /// The whole address, and names.
    #[default]
    Full,
    /// The network that the address is in: `192.0.2.0/24`.
    Network {
        /// How many bits of an IPv4 address are kept, at most 32.
        v4: u8,
        /// How many bits of an IPv6 address are kept, at most 128.
        v6: u8,
    },
    /// A hash of the address, as that of [`Addresses::Hash`].
    Hash(HashKey),
    /// Nothing.
    Hidden,
}

/// The key of hashes: random bytes that are kept secret, at least 16 of them. With another key the
/// same address has another hash.
///
/// ```
/// use milter_middleware::log::{Addresses, HashKey};
///
/// fn addresses() -> std::io::Result<Addresses> {
///     let secret = std::fs::read("/etc/filter/log.key")?;
///     Ok(Addresses::Hash(HashKey::new(secret)))
/// }
/// # let _ = addresses;
/// ```
#[derive(Clone)]
pub struct HashKey(Arc<[u8]>);

impl HashKey {
    /// A key of any length. With an empty one, or one that others know, they find whom they look for.
    pub fn new(key: impl AsRef<[u8]>) -> Self {
        Self(key.as_ref().into())
    }

    fn hash(&self, text: &[u8]) -> String {
        use fmt::Write;

        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            // It takes keys of any length.
            return String::new();
        };
        let hash = mac.chain_update(text).finalize().into_bytes();
        let mut shown = String::with_capacity(16);
        for byte in hash.iter().take(8) {
            let _ = write!(shown, "{byte:02x}");
        }
        shown
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

impl Addresses {
    /// An address, or a user, without `<>`.
    pub(super) fn show<'a>(&self, mailbox: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        Some(match self {
            Self::Full => mailbox.into(),
            Self::Domain => {
                let at = mailbox.iter().rposition(|byte| *byte == b'@');
                let domain = at.map_or(&b""[..], |at| &mailbox[at..]);
                [b"*", domain].concat().into()
            }
            Self::Hash(key) => key
                .hash(mailbox_key(mailbox).as_bytes())
                .into_bytes()
                .into(),
            Self::Hidden => return None,
        })
    }
}

impl Clients {
    pub(super) const fn shows_names(&self) -> bool {
        matches!(self, Self::Full)
    }

    pub(super) fn show(&self, client: &Connect) -> Option<String> {
        let address = match (client.client(), client.client().ip()) {
            (_, Some(ip)) => ip,
            (ClientAddr::Unix(path), None) if self.shows_names() => {
                return Some(format!("unix:{}", path.escape_ascii()));
            }
            _ => return None,
        };
        match self {
            Self::Full => Some(address.to_string()),
            Self::Network { v4, v6 } => Some(network(address, *v4, *v6)),
            Self::Hash(key) => Some(key.hash(address.to_canonical().to_string().as_bytes())),
            Self::Hidden => None,
        }
    }
}

fn network(address: IpAddr, v4: u8, v6: u8) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let kept = v4.min(32);
            let mask = u32::MAX.checked_shl(32 - u32::from(kept)).unwrap_or(0);
            format!("{}/{kept}", Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let kept = v6.min(128);
            let mask = u128::MAX.checked_shl(128 - u32::from(kept)).unwrap_or(0);
            format!("{}/{kept}", Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}
