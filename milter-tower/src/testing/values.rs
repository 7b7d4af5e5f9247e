//! What an MTA knows, by the names of macros.

use bytes::Bytes;
use milter_core::macros::names as n;
use milter_core::{ClientAddr, Connect, MacroStage, Recipient, Sender, SmtpReply, Text};

use super::mail::copied;
use super::profile::Kind;

/// The MTA's name.
pub(super) const HOST: &str = "mail.example.net";

/// The macros' values.
#[derive(Clone, Debug)]
pub(super) struct Values {
    kind: Kind,
    client: Option<Connect>,
    helo: Option<Bytes>,
    sender: Option<Sender>,
    recipient: Option<Recipient>,
    /// By which the MTA itself refuses the recipient.
    refusal: Option<SmtpReply>,
    queue_id: Option<String>,
    message_id: Option<Bytes>,
    given: Vec<Given>,
}

/// A macro that a test sets.
#[derive(Clone, Debug)]
struct Given {
    stage: MacroStage,
    name: Bytes,
    value: Bytes,
    /// It is a mail's.
    of_mail: bool,
}

impl Values {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            client: None,
            helo: None,
            sender: None,
            recipient: None,
            refusal: None,
            queue_id: None,
            message_id: None,
            given: Vec::new(),
        }
    }

    pub(super) fn give(&mut self, stage: MacroStage, name: Bytes, value: Bytes, of_mail: bool) {
        self.given
            .retain(|given| given.stage != stage || bare(&given.name) != bare(&name));
        self.given.push(Given {
            stage,
            name,
            value,
            of_mail,
        });
    }

    /// Forgets what the mail before set, but for what its client is.
    pub(super) fn begin_mail(&mut self) {
        self.given
            .retain(|given| !given.of_mail || rank(given.stage) < rank(MacroStage::Mail));
    }

    pub(super) fn client(&mut self, client: &Connect) {
        self.client = Some(client.clone());
    }

    fn is_loopback(&self) -> bool {
        let ip = self.client.as_ref().and_then(|client| client.client().ip());
        ip.is_some_and(|ip| ip.is_loopback())
    }

    pub(super) fn client_shown(&self) -> String {
        let Some(client) = &self.client else {
            return "unknown".to_owned();
        };
        format!("{} [{}]", client.host(), client.client())
    }

    pub(super) fn helo(&mut self, name: Bytes) {
        self.helo = Some(name);
    }

    pub(super) fn helo_name(&self) -> Option<Text<'_>> {
        self.helo.as_deref().map(Text::new)
    }

    pub(super) fn sender(&mut self, sender: &Sender) {
        self.sender = Some(sender.clone());
    }

    pub(super) fn recipient(&mut self, recipient: &Recipient, refusal: Option<SmtpReply>) {
        self.recipient = Some(recipient.clone());
        self.refusal = refusal;
    }

    pub(super) fn header(&mut self, name: Text<'_>, value: &[u8]) {
        if name.eq_ignore_ascii_case("message-id") {
            self.message_id = Some(Bytes::copy_from_slice(value.trim_ascii()));
        }
    }

    pub(super) fn queue_id(&self) -> Option<&str> {
        self.queue_id.as_deref()
    }

    /// The message gets an id, unless it has one.
    pub(super) fn enqueue(&mut self, number: u64) {
        let kind = self.kind;
        self.queue_id.get_or_insert_with(|| match kind {
            Kind::Sendmail => format!("61A0000{number:07}"),
            _ => format!("4D{number:08X}"),
        });
    }

    /// Forgets the message.
    pub(super) fn end_message(&mut self) {
        self.sender = None;
        self.recipient = None;
        self.refusal = None;
        self.queue_id = None;
        self.message_id = None;
    }

    /// The names that a test gave values at a stage.
    pub(super) fn given_at(&self, stage: MacroStage) -> impl Iterator<Item = Text<'_>> {
        let given = self.given.iter().filter(move |given| given.stage == stage);
        given.map(|given| Text::new(&given.name))
    }

    /// The value of a macro at a stage.
    pub(super) fn get(&self, stage: MacroStage, name: Text<'_>) -> Option<Bytes> {
        let wanted = bare(name.as_bytes());
        // What was known stays so: what TLS the client uses can be asked for at RCPT, too.
        let given = self
            .given
            .iter()
            .filter(|given| rank(given.stage) <= rank(stage) && bare(&given.name) == wanted)
            .max_by_key(|given| rank(given.stage));
        if let Some(given) = given {
            return Some(given.value.clone());
        }
        n::ALL
            .iter()
            .find(|name| bare(name.as_bytes()) == wanted)
            .and_then(|name| self.known(name))
    }

    fn known(&self, name: &str) -> Option<Bytes> {
        if let (Some(refusal), true) = (&self.refusal, name.starts_with("{rcpt_")) {
            return of_refusal(refusal, name);
        }
        let own = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let is_sendmail = self.kind == Kind::Sendmail;
        match name {
            n::VERSION if is_sendmail => own("8.17.1"),
            n::VERSION => own("Postfix 3.10.0"),
            n::DAEMON_NAME if is_sendmail => own("MTA"),
            n::HOST_NAME | n::IF_NAME | n::DAEMON_NAME => own(HOST),
            // sendmail/daemon.c: none for the loopback interface
            n::IF_ADDR if self.is_loopback() => None,
            n::DAEMON_ADDR | n::IF_ADDR => own("192.0.2.25"),
            n::DAEMON_PORT => own("25"),
            n::CLIENT => self.client.as_ref().map(|_| self.client_shown().into()),
            n::CLIENT_NAME | n::CLIENT_PTR => Some(copied(self.client.as_ref()?.host())),
            n::CLIENT_ADDR => {
                let client = self.client.as_ref()?.client();
                client.ip().map(|ip| ip.to_string().into())
            }
            n::CLIENT_PORT => {
                let port = self.client.as_ref()?.client().port();
                Some(port.unwrap_or(0).to_string().into())
            }
            n::CLIENT_RESOLVE => own("OK"),
            n::CLIENT_CONNECTIONS => own("1"),
            n::QUEUE_ID => self.queue_id.clone().map(Into::into),
            n::MAIL_ADDR => self.sender.as_ref().map(|sender| copied(sender.mailbox())),
            n::MAIL_HOST => self.sender.as_ref()?.domain().map(copied),
            n::RCPT_ADDR => self.recipient.as_ref().map(|to| copied(to.mailbox())),
            n::RCPT_HOST => self.recipient.as_ref()?.domain().map(copied),
            n::MAIL_MAILER | n::RCPT_MAILER if is_sendmail => own("esmtp"),
            n::MAIL_MAILER | n::RCPT_MAILER => own("smtp"),
            n::MSG_ID => self.message_id.clone(),
            n::SENDER => self.sender.as_ref().map(|sender| copied(sender.address())),
            n::PROTOCOL => own("ESMTP"),
            n::HELO_NAME => self.helo.clone(),
            _ => None,
        }
    }
}

/// What the macros of a recipient say if the MTA refuses it.
// sendmail/srvrsmtp.c and Postfix smtpd.c rcpt_cmd
fn of_refusal(refusal: &SmtpReply, name: &str) -> Option<Bytes> {
    match name {
        n::RCPT_MAILER => Some(Bytes::from_static(b"error")),
        n::RCPT_HOST => refusal.enhanced_code().map(|code| code.to_string().into()),
        n::RCPT_ADDR => refusal.lines().next().map(copied),
        _ => None,
    }
}

/// The client as the MTA's own kind tells its address.
// Q8: sendmail/daemon.c anynet_ntop writes `IPv6:` and all eight groups
pub(super) fn told(kind: Kind, connect: Connect) -> Connect {
    let (Kind::Sendmail, ClientAddr::Inet(at)) = (kind, connect.client()) else {
        return connect;
    };
    let std::net::IpAddr::V6(ip) = at.ip() else {
        return connect;
    };
    let groups = ip.segments().map(|group| format!("{group:x}")).join(":");
    let client = ClientAddr::Unreadable {
        family: b'6',
        port: at.port(),
        address: format!("IPv6:{groups}").into(),
    };
    Connect::new(copied(connect.host()), client)
}

/// The place of a stage in time.
fn rank(stage: MacroStage) -> usize {
    let mut stages = MacroStage::ALL.into_iter();
    stages.position(|s| s == stage).unwrap_or_default()
}

/// A name without braces.
fn bare(name: &[u8]) -> &[u8] {
    let inner = name.strip_prefix(b"{");
    inner.map_or(name, |name| name.strip_suffix(b"}").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q8_addresses_as_each_mta_writes_them() {
        let at: std::net::SocketAddr = "[2001:db8::7]:25".parse().unwrap();
        let connect = || Connect::new("client.example", at.into());
        assert_eq!(told(Kind::Postfix, connect()), connect());
        let told = told(Kind::Sendmail, connect());
        let ClientAddr::Unreadable {
            family,
            port,
            address,
        } = told.client()
        else {
            panic!("{told:?}")
        };
        assert_eq!((*family, *port), (b'6', 25));
        assert_eq!(address, "IPv6:2001:db8:0:0:0:0:0:7");
    }
}
