//! What is known of a session with an MTA.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use milter_core::macros::names;
use milter_core::{
    Agreement, ClientAddr, Connect, Helo, MacroStage, Macros, Modification, Recipient, Sender, Text,
};

use self::apart::Own;
use crate::extensions::Shared;

mod apart;

pub(crate) use self::apart::Apart;

/// What is known of a session at the time of an event: a snapshot, cheap to clone and to keep.
///
/// What the filter declined in the negotiation is not known: without MAIL there is no
/// [`sender`](Self::sender).
#[derive(Clone)]
pub struct Session {
    facts: Arc<Facts>,
    /// What a member of a chain has for itself.
    own: Option<Arc<Own>>,
}

#[derive(Clone)]
struct Facts {
    connection: Arc<Connection>,
    connection_data: Shared,
    message_data: Shared,
    agreement: Option<Arc<Agreement>>,
    /// Found out when the macros of the connection come: it is asked for at every event.
    mta: Mta,
    client: Option<Arc<Connect>>,
    helo: Option<Helo>,
    sender: Option<Sender>,
    recipients: Vec<Recipient>,
    /// How many bytes the recipients take.
    recipient_bytes: usize,
    macros: Macros,
}

/// What never changes on a connection.
struct Connection {
    peer: Peer,
    /// The operator says what the MTA is.
    mta_is_set: bool,
}

impl Session {
    /// The session of a fresh connection, of which nothing is known yet.
    ///
    /// `mta` is what the other side is known to be; without it the session finds out.
    pub fn new(peer: Peer, mta: Option<Mta>) -> Self {
        let facts = Arc::new(Facts {
            connection: Arc::new(Connection {
                peer,
                mta_is_set: mta.is_some(),
            }),
            connection_data: Shared::default(),
            message_data: Shared::default(),
            agreement: None,
            mta: mta.unwrap_or_default(),
            client: None,
            helo: None,
            sender: None,
            recipients: Vec::new(),
            recipient_bytes: 0,
            macros: Macros::default(),
        });
        Self { facts, own: None }
    }

    /// The MTA at the other end of the connection.
    pub fn peer(&self) -> &Peer {
        &self.facts.connection.peer
    }

    /// Which MTA this is: as configured, or as its macro `v` says.
    pub fn mta(&self) -> Mta {
        self.facts.mta
    }

    /// What was negotiated; none before the negotiation is over.
    pub fn agreement(&self) -> Option<&Agreement> {
        match &self.own {
            Some(own) => own.agreement().map(|agreement| &**agreement),
            None => self.facts.agreement.as_deref(),
        }
    }

    /// The client's connection: its host name and address.
    ///
    /// The filter must have asked for [`Stage::Connect`](milter_core::Stage::Connect), or
    /// [recorded](milter_core::Needs::record) it.
    pub fn client(&self) -> Option<&Connect> {
        self.facts.client.as_deref()
    }

    /// The client's IP address, if it has one and it is known.
    ///
    /// The filter must have asked for [`Stage::Connect`](milter_core::Stage::Connect), or
    /// [recorded](milter_core::Needs::record) it.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.client()?.client().ip()
    }

    /// The name that the client gave in HELO or EHLO.
    ///
    /// The filter must have asked for [`Stage::Helo`](milter_core::Stage::Helo), or
    /// [recorded](milter_core::Needs::record) it.
    pub fn helo(&self) -> Option<Text<'_>> {
        self.facts.helo.as_ref().map(Helo::name)
    }

    /// The client's TLS connection, if it has one and the MTA tells of it.
    pub fn tls(&self) -> Option<Tls<'_>> {
        let macros = self.macros();
        let version = macros.get(names::TLS_VERSION).filter(|v| !v.is_empty())?;
        Some(Tls {
            version,
            cipher: macros.get(names::CIPHER),
            cipher_bits: macros
                .get(names::CIPHER_BITS)
                .and_then(|bits| bits.to_str().ok()?.parse().ok()),
            cert_subject: macros.get(names::CERT_SUBJECT),
            cert_issuer: macros.get(names::CERT_ISSUER),
        })
    }

    /// How the client authenticated, if it did. Known from MAIL on.
    pub fn auth(&self) -> Option<Auth<'_>> {
        let macros = self.macros();
        let mechanism = macros.get(names::AUTH_TYPE).filter(|t| !t.is_empty())?;
        Some(Auth {
            mechanism,
            user: macros.get(names::AUTH_AUTHEN),
            author: macros.get(names::AUTH_AUTHOR),
        })
    }

    /// The message's sender.
    ///
    /// The filter must have asked for [`Stage::Mail`](milter_core::Stage::Mail), or
    /// [recorded](milter_core::Needs::record) it.
    pub fn sender(&self) -> Option<&Sender> {
        self.facts.sender.as_ref()
    }

    /// The message's recipients that this filter was shown and did not refuse, in order.
    ///
    /// During [`Event::Rcpt`](crate::Event::Rcpt) the one in question is not among them.
    /// Recipients that the MTA marks as refused never are. The MTA or a filter behind this one
    /// may have refused more of them.
    ///
    /// The filter must have asked for [`Stage::Rcpt`](milter_core::Stage::Rcpt), or
    /// [recorded](milter_core::Needs::record) it.
    pub fn recipients(&self) -> &[Recipient] {
        let own = self.own.as_ref().and_then(|own| own.recipients());
        own.unwrap_or(&self.facts.recipients)
    }

    /// What members before this one in a [`Chain`](crate::Chain) change of the message's envelope,
    /// in their order: its sender and its recipients.
    ///
    /// They are known at the end of the message, and to members that see the content only then.
    /// [`sender`](Self::sender) and [`recipients`](Self::recipients) stay what the client gave, as
    /// they do for a filter that an MTA asks after others. Outside of a chain there are none.
    pub fn envelope_edits(&self) -> impl Iterator<Item = &Modification> {
        self.own.iter().flat_map(|own| own.envelope_edits())
    }

    /// The message's queue id. Sendmail has one from MAIL on, Postfix from the first accepted
    /// recipient on.
    pub fn queue_id(&self) -> Option<Text<'_>> {
        self.macros()
            .get(names::QUEUE_ID)
            .filter(|id| !id.is_empty())
    }

    /// The macros that the MTA sent.
    pub fn macros(&self) -> &Macros {
        &self.facts.macros
    }

    /// The values that belong to the connection, shared by all its requests.
    ///
    /// Each member of a [`Chain`](crate::Chain) has its own, and finds in it what the chain has
    /// too: see [`Shared::outer`].
    pub fn connection_data(&self) -> &Shared {
        match &self.own {
            Some(own) => own.connection_data(&self.facts),
            None => &self.facts.connection_data,
        }
    }

    /// The values that belong to the message, shared by all its requests and gone with it.
    ///
    /// Each member of a [`Chain`](crate::Chain) has its own, and finds in it what the chain has
    /// too: see [`Shared::outer`].
    pub fn message_data(&self) -> &Shared {
        match &self.own {
            Some(own) => own.message_data(&self.facts),
            None => &self.facts.message_data,
        }
    }
}

/// What the server writes down.
impl Session {
    fn facts(&mut self) -> &mut Facts {
        // Copies only if a filter keeps a snapshot.
        Arc::make_mut(&mut self.facts)
    }

    pub(crate) fn set_agreement(&mut self, agreement: Arc<Agreement>) {
        self.facts().agreement = Some(agreement);
    }

    pub(crate) fn set_client(&mut self, client: Arc<Connect>) {
        self.facts().client = Some(client);
    }

    pub(crate) fn set_helo(&mut self, helo: Helo) {
        self.facts().helo = Some(helo);
    }

    pub(crate) fn set_sender(&mut self, sender: Sender) {
        self.facts().sender = Some(sender);
    }

    pub(crate) fn add_recipient(&mut self, recipient: Recipient) {
        let facts = self.facts();
        facts.recipient_bytes += Self::held_by(&recipient);
        facts.recipients.push(recipient);
    }

    /// How many bytes a recipient takes.
    pub(crate) fn held_by(recipient: &Recipient) -> usize {
        recipient.held_bytes() + size_of::<Recipient>()
    }

    /// How many bytes an MTA made this hold.
    pub(crate) fn held_bytes(&self) -> usize {
        let facts = &*self.facts;
        facts
            .client
            .as_ref()
            .map_or(0, |client| client.host().len())
            + facts.helo.as_ref().map_or(0, |helo| helo.name().len())
            + facts.sender.as_ref().map_or(0, Sender::held_bytes)
            + facts.recipient_bytes
            + facts.macros.held_bytes()
    }

    /// Keeps the macros of a stage: names and values, each ended by a NUL.
    pub(crate) fn set_macros(&mut self, stage: MacroStage, pairs: &[u8]) {
        let facts = self.facts();
        facts.macros.set(stage, pairs);
        if stage == MacroStage::Connect && !facts.connection.mta_is_set {
            // Once known it stays: the other end of a connection does not change.
            if let Some(version) = facts.macros.get_at(stage, names::VERSION) {
                facts.mta = Mta::from_version(version);
            }
        }
    }

    /// Takes note that the command of a stage has come.
    pub(crate) fn enter(&mut self, stage: MacroStage) {
        self.facts().macros.enter(stage);
    }

    /// Forgets the message.
    pub(crate) fn end_message(&mut self) {
        let facts = self.facts();
        facts.sender = None;
        facts.recipients.clear();
        facts.recipient_bytes = 0;
        facts.message_data = Shared::default();
    }

    /// Forgets the SMTP session and all macros.
    pub(crate) fn end_session(&mut self) {
        self.end_message();
        let facts = self.facts();
        facts.client = None;
        facts.helo = None;
        facts.macros.end_session();
    }

    /// Forgets what belonged to the connection.
    pub(crate) fn end_connection(&mut self) {
        self.facts().connection_data = Shared::default();
    }

    pub(crate) fn connect(&self) -> Option<Arc<Connect>> {
        self.facts.client.clone()
    }

    pub(crate) fn greeting(&self) -> Option<Helo> {
        self.facts.helo.clone()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("peer", self.peer())
            .field("client", &self.client())
            .field("helo", &self.helo())
            .field("sender", &self.sender())
            .field("recipients", &self.recipients())
            .field("macros", self.macros())
            .finish_non_exhaustive()
    }
}

/// The client's TLS connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls<'a> {
    /// The protocol: `TLSv1.3`.
    pub version: Text<'a>,
    /// The cipher suite.
    pub cipher: Option<Text<'a>>,
    /// The effective length of its key in bits.
    pub cipher_bits: Option<u32>,
    /// The subject of the client's certificate.
    pub cert_subject: Option<Text<'a>>,
    /// The issuer of the client's certificate.
    pub cert_issuer: Option<Text<'a>>,
}

/// How the client authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Auth<'a> {
    /// The SASL mechanism: `PLAIN`.
    pub mechanism: Text<'a>,
    /// The user.
    pub user: Option<Text<'a>>,
    /// The trusted `AUTH=` parameter of MAIL.
    pub author: Option<Text<'a>>,
}

/// Which MTA is at the other end.
///
/// The two differ in what they can take; an unknown one gets what both can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mta {
    /// Postfix.
    Postfix,
    /// Sendmail.
    Sendmail,
    /// Neither is known.
    #[default]
    Unknown,
}

impl Mta {
    // Postfix global/mail_params.h DEF_MILT_V: "Postfix 3.7.11". Sendmail's macro v is its bare
    // version: "8.17.1.9".
    fn from_version(version: Text<'_>) -> Self {
        if version.starts_with(b"Postfix") {
            Self::Postfix
        } else if version.starts_with(b"8.") {
            Self::Sendmail
        } else {
            Self::Unknown
        }
    }
}

/// The other end of a connection, an MTA.
#[derive(Clone, Debug)]
pub struct Peer {
    id: u64,
    address: PeerAddr,
    listener: Option<Arc<str>>,
}

impl Peer {
    /// A peer with the number of its connection.
    pub const fn new(id: u64, address: PeerAddr) -> Self {
        Self {
            id,
            address,
            listener: None,
        }
    }

    /// The same, accepted by the listener of that name.
    #[must_use]
    pub fn at_listener(mut self, name: impl Into<Arc<str>>) -> Self {
        self.listener = Some(name.into());
        self
    }

    /// The number of the connection, unique within the process: what log lines show.
    pub const fn connection_id(&self) -> u64 {
        self.id
    }

    /// The address.
    pub const fn address(&self) -> &PeerAddr {
        &self.address
    }

    /// The name of the listener that accepted the connection, if it has one: as
    /// [`BoundListener::named`](crate::BoundListener::named), or its address.
    pub fn listener(&self) -> Option<&str> {
        self.listener.as_deref()
    }
}

/// The address of an MTA that connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerAddr {
    /// By TCP.
    Inet(SocketAddr),
    /// Over a unix socket; clients rarely have a path of their own.
    Unix(Option<PathBuf>),
    /// Some other transport.
    #[default]
    Other,
}

impl From<SocketAddr> for PeerAddr {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Self::Unix(None) => f.write_str("unix socket"),
            Self::Other => f.write_str("other"),
        }
    }
}

/// Whether a recipient's macros say that the MTA refused it.
// protocol 4.5: {rcpt_mailer} = error
pub(crate) fn is_refused_recipient(macros: &Macros) -> bool {
    macros
        .get_at(MacroStage::Rcpt, names::RCPT_MAILER)
        .is_some_and(|mailer| mailer == "error")
}

/// The client's address, for log lines.
pub(crate) fn client_for_log(client: &Connect) -> impl fmt::Display + '_ {
    match client.client() {
        ClientAddr::Unknown => Logged::Host(client.host()),
        address => Logged::Address(address),
    }
}

enum Logged<'a> {
    Host(Text<'a>),
    Address(&'a ClientAddr),
}

impl fmt::Display for Logged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => write!(f, "{}", host.escape_ascii()),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(Peer::new(1, PeerAddr::Other), None)
    }

    #[test]
    fn the_mta_tells_what_it_is() {
        for (version, mta) in [
            ("Postfix 3.7.11", Mta::Postfix),
            ("8.17.1.9", Mta::Sendmail),
            ("KumoMTA", Mta::Unknown),
        ] {
            let mut session = session();
            assert_eq!(session.mta(), Mta::Unknown);
            let set = [b"v\0", version.as_bytes(), b"\0"].concat();
            session.set_macros(MacroStage::Connect, &set);
            assert_eq!(session.mta(), mta);
        }
        assert_eq!(
            Session::new(Peer::new(1, PeerAddr::Other), Some(Mta::Sendmail)).mta(),
            Mta::Sendmail
        );
    }

    #[test]
    fn a_kept_snapshot_does_not_change() {
        let mut live = session();
        live.set_sender(Sender::new("<a@b>", [""; 0]));
        let kept = live.clone();
        live.message_data().insert(1_u8);
        live.end_message();
        assert!(live.sender().is_none() && live.message_data().get::<u8>().is_none());
        assert_eq!(kept.sender().unwrap().mailbox(), "a@b");
        assert_eq!(kept.message_data().get::<u8>(), Some(1));
    }

    #[test]
    fn facts_from_macros() {
        let mut session = session();
        assert!(
            session.tls().is_none() && session.auth().is_none() && session.queue_id().is_none()
        );
        session.set_macros(
            MacroStage::Helo,
            b"{tls_version}\0TLSv1.3\0{cipher_bits}\x00256\0",
        );
        session.set_macros(
            MacroStage::Mail,
            b"i\x004XyZ\0{auth_type}\0PLAIN\0{auth_authen}\0alice\0",
        );
        assert_eq!(session.tls().unwrap().cipher_bits, Some(256));
        assert_eq!(session.auth().unwrap().user.unwrap(), "alice");
        assert_eq!(session.queue_id().unwrap(), "4XyZ");
        assert!(!is_refused_recipient(session.macros()));
        session.set_macros(MacroStage::Rcpt, b"{rcpt_mailer}\0error\0");
        assert!(is_refused_recipient(session.macros()));
    }
}
