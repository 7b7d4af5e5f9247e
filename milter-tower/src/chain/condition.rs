//! Which messages a member sees.

use std::fmt;
use std::net::IpAddr;
use std::ops::{Bound, Not, RangeBounds};
use std::sync::Arc;

use milter_core::{Connect, Header, Needs, Recipient, Sender, Stage};

use super::network::{Network, NetworkError};
use crate::session::Session;

/// Which messages a member of a [`Chain`](super::Chain) sees.
///
/// It is looked at once for each message, as early as the facts are there; a member that is left out
/// is not asked. Facts that the MTA does not tell are as if they were not there: a client without an
/// IP address is in no network, a message without an announced size has none.
///
/// | condition | known at | for members that answer |
/// | --- | --- | --- |
/// | [`listener`](Self::listener) | the negotiation | anywhere |
/// | [`client_in`](Self::client_in), [`client`](Self::client) | connect | anywhere |
/// | [`authenticated`](Self::authenticated), [`sender`](Self::sender), [`announced_size`](Self::announced_size) | MAIL | anywhere |
/// | [`recipient`](Self::recipient) | the first header | at content events only |
/// | [`header`](Self::header) | the end of the headers | at content events only |
///
/// Connect and HELO are no message's: a member sees them unless it is known by then that it is left
/// out.
///
/// A member with one of the last two hears of the envelope when it is known that it is not left out,
/// so it must not ask for a verdict there: one that does fails in the negotiation, and
/// [`Chain::check`](super::Chain::check) tells of it when the program starts.
///
/// ```
/// use milter_tower::Condition;
///
/// let outbound = Condition::authenticated().or(Condition::client_in(["192.0.2.0/24", "2001:db8::/32"])?);
/// let small = Condition::announced_size(..1_000_000);
/// let scanned = !outbound & small;
/// # Ok::<(), milter_tower::NetworkError>(())
/// ```
#[derive(Clone)]
pub struct Condition(Arc<Node>);

enum Node {
    Listener(Box<str>),
    Client(Box<dyn Fn(&Connect) -> bool + Send + Sync>),
    Authenticated,
    Sender(Box<dyn Fn(&Sender) -> bool + Send + Sync>),
    Size(Bound<u64>, Bound<u64>),
    Recipient(Box<dyn Fn(&Recipient) -> bool + Send + Sync>),
    Header(Box<[u8]>, Box<dyn Fn(&Header) -> bool + Send + Sync>),
    Not(Condition),
    And(Condition, Condition),
    Or(Condition, Condition),
}

/// How much is known, each with all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Known {
    Listener,
    Client,
    Sender,
    Recipients,
    Headers,
}

impl Condition {
    fn new(node: Node) -> Self {
        Self(Arc::new(node))
    }

    /// The MTA came in at the listener of this name: see [`Peer::listener`](crate::Peer::listener).
    pub fn listener(name: impl Into<Box<str>>) -> Self {
        Self::new(Node::Listener(name.into()))
    }

    /// The client has an address in one of these networks: `192.0.2.0/24`, `2001:db8::/32`, or a
    /// single address.
    ///
    /// # Errors
    ///
    /// If one of them is no network.
    pub fn client_in<'n>(
        networks: impl IntoIterator<Item = &'n str>,
    ) -> Result<Self, NetworkError> {
        let networks = networks.into_iter().map(str::parse);
        let networks = networks.collect::<Result<Vec<Network>, _>>()?;
        Ok(Self::client(move |client| {
            let ip: Option<IpAddr> = client.client().ip();
            ip.is_some_and(|ip| networks.iter().any(|network| network.contains(ip)))
        }))
    }

    /// The function says yes to the client.
    pub fn client(is: impl Fn(&Connect) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Node::Client(Box::new(is)))
    }

    /// The client authenticated.
    pub fn authenticated() -> Self {
        Self::new(Node::Authenticated)
    }

    /// The function says yes to the message's sender.
    pub fn sender(is: impl Fn(&Sender) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Node::Sender(Box::new(is)))
    }

    /// The client announced a size, in bytes, in this range (`SIZE=`, RFC 1870).
    pub fn announced_size(bytes: impl RangeBounds<u64>) -> Self {
        Self::new(Node::Size(
            bytes.start_bound().cloned(),
            bytes.end_bound().cloned(),
        ))
    }

    /// The function says yes to one of the recipients that nobody refused.
    pub fn recipient(is: impl Fn(&Recipient) -> bool + Send + Sync + 'static) -> Self {
        Self::new(Node::Recipient(Box::new(is)))
    }

    /// The function says yes to one of the headers of this name, as the client sent it, without
    /// the space behind the colon.
    pub fn header(
        name: impl AsRef<[u8]>,
        is: impl Fn(&Header) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self::new(Node::Header(name.as_ref().into(), Box::new(is)))
    }

    /// Both hold. The same as `&`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(Node::And(self, other))
    }

    /// One of them holds. The same as `|`.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::new(Node::Or(self, other))
    }

    /// Whether it is known only when the content comes.
    pub(super) fn is_late(&self) -> bool {
        self.known_at() > Known::Sender
    }

    pub(super) fn known_at(&self) -> Known {
        match &*self.0 {
            Node::Listener(_) => Known::Listener,
            Node::Client(_) => Known::Client,
            Node::Authenticated | Node::Sender(_) | Node::Size(..) => Known::Sender,
            Node::Recipient(_) => Known::Recipients,
            Node::Header(..) => Known::Headers,
            Node::Not(inner) => inner.known_at(),
            Node::And(a, b) | Node::Or(a, b) => a.known_at().max(b.known_at()),
        }
    }

    /// What has to be known for it.
    pub(super) fn needs(&self) -> Needs {
        let none = Needs::none();
        match &*self.0 {
            Node::Listener(_) => none,
            Node::Client(_) => none.record(Stage::Connect),
            // The macros of MAIL come with it.
            Node::Authenticated | Node::Sender(_) | Node::Size(..) => none.record(Stage::Mail),
            Node::Recipient(_) => none.record(Stage::Mail).record(Stage::Rcpt),
            Node::Header(..) => none.record(Stage::Header).record(Stage::EndOfHeaders),
            Node::Not(inner) => inner.needs(),
            Node::And(a, b) | Node::Or(a, b) => a.needs().join(&b.needs()),
        }
    }

    /// Whether it holds, if that can be told from what is known.
    pub(super) fn holds(
        &self,
        known: Known,
        session: &Session,
        headers: &[Header],
    ) -> Option<bool> {
        let holds = |condition: &Self| condition.holds(known, session, headers);
        // An answer may be certain though a part of it is not known.
        match &*self.0 {
            Node::Not(inner) => return holds(inner).map(Not::not),
            Node::And(a, b) => {
                return match (holds(a), holds(b)) {
                    (Some(false), _) | (_, Some(false)) => Some(false),
                    (Some(true), Some(true)) => Some(true),
                    _ => None,
                };
            }
            Node::Or(a, b) => {
                return match (holds(a), holds(b)) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                };
            }
            _ if known < self.known_at() => return None,
            _ => {}
        }
        Some(match &*self.0 {
            Node::Listener(name) => session.peer().listener() == Some(name),
            Node::Client(is) => session.client().is_some_and(is),
            Node::Authenticated => session.auth().is_some(),
            Node::Sender(is) => session.sender().is_some_and(is),
            Node::Size(from, to) => {
                let size = session.sender().and_then(|sender| sender.args().size());
                size.is_some_and(|size| (*from, *to).contains(&size))
            }
            Node::Recipient(is) => session.recipients().iter().any(is),
            Node::Header(name, is) => headers
                .iter()
                .any(|header| header.name().eq_ignore_ascii_case(name) && is(header)),
            Node::Not(_) | Node::And(..) | Node::Or(..) => return None,
        })
    }
}

impl Not for Condition {
    type Output = Self;

    fn not(self) -> Self {
        Self::new(Node::Not(self))
    }
}

impl std::ops::BitAnd for Condition {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        self.and(other)
    }
}

impl std::ops::BitOr for Condition {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.or(other)
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Node::Listener(name) => write!(f, "listener {name:?}"),
            Node::Client(_) => f.write_str("client"),
            Node::Authenticated => f.write_str("authenticated"),
            Node::Sender(_) => f.write_str("sender"),
            Node::Size(from, to) => write!(f, "size {from:?} to {to:?}"),
            Node::Recipient(_) => f.write_str("recipient"),
            Node::Header(name, _) => write!(f, "header {:?}", String::from_utf8_lossy(name)),
            Node::Not(inner) => write!(f, "not ({inner:?})"),
            Node::And(a, b) => write!(f, "({a:?} and {b:?})"),
            Node::Or(a, b) => write!(f, "({a:?} or {b:?})"),
        }
    }
}
