//! The ways that a mail takes to a milter and on to its recipients.

use milter_tests::address::Address;
use milter_tests::mail::Mail;
use milter_tests::mta::{Config, Kind, Mta};
use milter_tests::others::HOST;
use milter_tests::sink::{Delivered, Sink};
use milter_tests::smtp::{self, Transcript};
use milter_tower::MacroStage;
use milter_tower::client::{self, Client, Connection, Delivery, Fate};
use milter_tower::testing::{MockMta, MtaProfile};
use tokio::runtime::Runtime;

/// What became of a mail.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Which recipients were refused.
    pub(crate) refused: Vec<String>,
    /// The reply that refused the mail itself, if one did.
    pub(crate) reply: Option<String>,
    /// What was delivered, if it was.
    pub(crate) delivered: Option<Delivered>,
    /// Whether it is held back.
    pub(crate) held: bool,
}

impl Seen {
    /// What was delivered.
    #[track_caller]
    pub(crate) fn delivered(&self) -> &Delivered {
        let Some(delivered) = &self.delivered else {
            panic!("not delivered: {self:?}");
        };
        delivered
    }
}

pub(crate) trait Way {
    /// Sends a mail in an SMTP session of its own.
    fn send(&mut self, mail: &Mail) -> Seen;
    /// Which MTA it is, or is played.
    fn kind(&self) -> Kind;
    /// What helps to understand a failure.
    fn report(&self) -> String;
}

/// The test kit's MTA before the milter.
pub(crate) struct Mock {
    kind: Kind,
    mta: MockMta,
    runtime: Runtime,
    last: String,
}

impl Mock {
    pub(crate) fn postfix(milter: &Address) -> Self {
        Self::new(Kind::Postfix, MtaProfile::postfix(), milter)
    }

    pub(crate) fn sendmail(milter: &Address) -> Self {
        Self::new(Kind::Sendmail, MtaProfile::sendmail(), milter)
    }

    fn new(kind: Kind, profile: MtaProfile, milter: &Address) -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        Self {
            kind,
            mta: MockMta::connect(profile, milter.to_string().parse().unwrap()),
            runtime: runtime.enable_all().build().unwrap(),
            last: String::new(),
        }
    }
}

impl Way for Mock {
    fn send(&mut self, mail: &Mail) -> Seen {
        let done = self.runtime.block_on(self.mta.deliver(of_client(mail)));
        self.last = done.to_string();
        assert_eq!(done.failures, [""; 0], "{done}");
        assert!(!matches!(done.fate, Fate::Failed(_)), "{done}");
        as_seen(&done)
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn report(&self) -> String {
        self.last.clone()
    }
}

/// The same mail for the library, from this machine.
pub(crate) fn of_client(mail: &Mail) -> client::Mail {
    let mut it = client::Mail::from_eml(mail.content())
        .client_ip([127, 0, 0, 1])
        .client_name("localhost")
        .helo("client.example.org")
        .from(mail.sender_path());
    for to in mail.recipient_paths() {
        it = it.to(to);
    }
    it
}

fn as_seen(done: &Delivery) -> Seen {
    Seen {
        refused: done
            .refused_recipients()
            .map(|to| String::from_utf8_lossy(&to.address()).into_owned())
            .collect(),
        reply: done.reply().map(ToString::to_string),
        held: done.quarantine().is_some(),
        delivered: done.is_accepted().then(|| as_delivered(done)),
    }
}

fn as_delivered(done: &Delivery) -> Delivered {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let message = &done.message;
    let mut content = Vec::new();
    for field in message.headers() {
        content.extend_from_slice(&field.name());
        content.push(b':');
        for (n, line) in field.raw().split(|byte| *byte == b'\n').enumerate() {
            content.extend_from_slice(if n > 0 { b"\r\n" } else { b"" });
            content.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        }
        content.extend_from_slice(b"\r\n");
    }
    content.extend_from_slice(b"\r\n");
    content.extend_from_slice(message.body());
    Delivered {
        sender: text(&message.sender().address()),
        sender_args: Vec::new(),
        recipients: message
            .recipients()
            .iter()
            .map(|to| (text(&to.address()), Vec::new()))
            .collect(),
        content,
    }
}

/// A real mail server before the milter.
pub(crate) struct Server {
    mta: Mta,
    sink: Sink,
    /// The SMTP session, where all mails share one.
    session: Option<smtp::Client>,
    shared: bool,
}

impl Server {
    pub(crate) fn start(kind: Kind, milter: &Address) -> Self {
        Self::configured(kind, &[milter], &[])
    }

    /// One with several milters in this order, and these lines in its configuration.
    pub(crate) fn configured(kind: Kind, milters: &[&Address], lines: &[&str]) -> Self {
        let sink = Sink::start().unwrap();
        let config = Config {
            milters: milters.iter().copied().cloned().collect(),
            extra: lines.iter().map(ToString::to_string).collect(),
            ..Config::default()
        };
        let mta = Mta::start(kind, sink.port(), &config).unwrap_or_else(|error| panic!("{error}"));
        Self {
            mta,
            sink,
            session: None,
            shared: false,
        }
    }

    /// Sends all mails in one SMTP session.
    pub(crate) fn in_one_session(mut self) -> Self {
        self.shared = true;
        self
    }

    pub(crate) fn port(&self) -> u16 {
        self.mta.port()
    }

    /// Waits until all is delivered.
    pub(crate) fn delivered(&self) -> Vec<Delivered> {
        self.mta.idle().unwrap_or_else(|error| panic!("{error}"));
        self.sink.take_all()
    }

    fn say(&mut self, mail: &Mail) -> Transcript {
        if !self.shared {
            return smtp::send(self.mta.port(), mail);
        }
        let mut client = self.session.take().unwrap_or_else(|| {
            let (mut client, _) = smtp::Client::connect(self.mta.port()).unwrap();
            client.command("EHLO client.example.org").unwrap();
            client
        });
        let said = client.deliver(mail);
        if !said.closed {
            client.command("RSET").unwrap();
            self.session = Some(client);
        }
        said
    }
}

impl Way for Server {
    fn send(&mut self, mail: &Mail) -> Seen {
        let smtp = self.say(mail);
        let mut delivered = self.delivered();
        let held = !self.mta.held().is_empty();
        if held {
            self.mta.purge();
        }
        let refused = mail
            .recipient_paths()
            .zip(&smtp.rcpt)
            .filter(|(_, reply)| reply.code >= 400)
            .map(|(path, _)| path.to_owned())
            .collect();
        let reply = smtp.last().filter(|reply| reply.code >= 400);
        assert!(delivered.len() < 2, "{delivered:?}");
        Seen {
            refused,
            reply: reply.map(ToString::to_string),
            delivered: delivered.pop(),
            held,
        }
    }

    fn kind(&self) -> Kind {
        self.mta.kind()
    }

    fn report(&self) -> String {
        self.mta.log()
    }
}

/// A mail server in Rust on the library's own client before the milter. All mails are of one SMTP
/// session.
pub(crate) struct Called {
    runtime: Runtime,
    milter: Option<Connection>,
    last: String,
}

impl Called {
    pub(crate) fn new(milter: &Address) -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let client = Client::new(milter.to_string().parse().unwrap())
            .macros(MacroStage::Connect, ["j", "{client_addr}"])
            .macros(MacroStage::EndOfMessage, ["i", "{client_port}"]);
        let mut milter = runtime.block_on(client.connect()).unwrap();
        for (name, value) in [
            ("j", HOST),
            ("i", "4ZAbC1"),
            ("{client_port}", "50025"),
            ("{client_addr}", "127.0.0.1"),
        ] {
            milter.set_macro(name, value);
        }
        Self {
            runtime,
            milter: Some(milter),
            last: String::new(),
        }
    }
}

impl Way for Called {
    fn send(&mut self, mail: &Mail) -> Seen {
        let milter = self.milter.as_mut().unwrap();
        let done = self.runtime.block_on(milter.deliver(of_client(mail)));
        self.last = done.to_string();
        assert!(done.failure.is_none(), "{done}");
        as_seen(&done)
    }

    fn kind(&self) -> Kind {
        Kind::Postfix
    }

    fn report(&self) -> String {
        self.last.clone()
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        if let Some(milter) = self.milter.take() {
            let _ = self.runtime.block_on(milter.quit());
        }
    }
}
