//! A mail server with any number of filters, in small (protocol 7.1).

use milter_core::edit::{Mail, Profile};
use milter_core::{Command, MacroStage, OfferReply, Reply};
use milter_tower::{
    BoxError, Header, Modification, Recipient, Request, Response, Sender, Stage, Steps,
};
use tower::Service;

use crate::common::{Mta, Run, body, connect, eom, helo, macros, rcpt, start};

/// What a client sends.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) recipients: Vec<&'static str>,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    /// In one piece, as both MTAs would send it.
    pub(crate) body: String,
    /// The client gives the message up before its content.
    pub(crate) gives_up: bool,
}

/// What became of a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Session {
    /// The client's commands, and how they were answered.
    pub(crate) answers: Vec<(Stage, String)>,
    pub(crate) delivered: Vec<Delivered>,
}

/// A message as it is delivered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    sender: String,
    recipients: Vec<String>,
    headers: Vec<String>,
    body: String,
    quarantine: Option<String>,
}

/// A filter as the server knows it.
struct Peer {
    mta: Mta,
    run: Run,
    agreed: OfferReply,
    /// It wants nothing more of the session.
    gone: bool,
    /// It wants nothing more of the message.
    done: bool,
}

/// A mail server.
pub(crate) struct Server {
    profile: Profile,
    peers: Vec<Peer>,
    session: Session,
}

/// What stops the filters behind.
fn stops(reply: &Reply) -> bool {
    matches!(
        reply,
        Reply::Reject | Reply::TempFail | Reply::Smtp(_) | Reply::Discard
    )
}

impl Server {
    pub(crate) fn new(profile: Profile) -> Self {
        Self {
            profile,
            peers: Vec::new(),
            session: Session::default(),
        }
    }

    pub(crate) async fn with<S>(mut self, filter: S) -> Self
    where
        S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
    {
        let (mut mta, run) = start(filter);
        let agreed = mta.negotiate().await;
        self.peers.push(Peer {
            mta,
            run,
            agreed,
            gone: false,
            done: false,
        });
        self
    }

    /// A whole session with these messages.
    pub(crate) async fn session(mut self, letters: &[Letter]) -> Session {
        let version = if self.profile.is_postfix() {
            "Postfix 3.7.11"
        } else {
            "8.17.1.9"
        };
        for peer in &mut self.peers {
            let list = peer.agreed.macros.get(MacroStage::Connect);
            // Sendmail sends it on request only.
            let tells = list.map_or(self.profile.is_postfix(), |mut names| {
                names.any(|name| name == "v")
            });
            if tells {
                peer.mta
                    .send(macros(MacroStage::Connect, [("v", version)]))
                    .await;
            }
        }
        let mut refused = false;
        for command in [connect(), helo()] {
            refused |= !refused && stops(&self.ask_all(command).await);
        }
        for letter in letters {
            if !refused {
                self.message(letter).await;
            }
        }
        for peer in self.peers {
            peer.mta.quit(peer.run).await;
        }
        self.session
    }

    /// An event of the envelope, filter by filter.
    async fn ask_all(&mut self, command: Command) -> Reply {
        let stage = command.stage().expect("a command with a reply");
        let mut answer = Reply::Continue;
        for peer in &mut self.peers {
            if peer.gone || peer.done || !peer.takes(stage) {
                continue;
            }
            answer = peer.ask(command.clone(), stage).await;
            if answer == Reply::Accept {
                peer.gone |= !stage.is_of_message();
                peer.done |= stage.is_of_message();
            }
            if stops(&answer) {
                break;
            }
        }
        let said = if stops(&answer) {
            format!("{answer:?}")
        } else {
            "ok".to_owned()
        };
        self.session.answers.push((stage, said));
        answer
    }

    async fn message(&mut self, letter: &Letter) {
        let over = self.envelope_and_content(letter).await;
        let _ = over;
        for peer in &mut self.peers {
            // Postfix sends it to everybody, always (Q3).
            peer.mta.send(Command::Abort).await;
            peer.done = false;
        }
    }

    async fn envelope_and_content(&mut self, letter: &Letter) -> Option<()> {
        let sender = Sender::new("<a@example.org>", [""; 0]);
        let mail = Command::Mail(sender.clone());
        if stops(&self.ask_all(mail).await) {
            return None;
        }
        let mut held = Mail::new(self.profile.clone())
            .with_sender(sender)
            .with_received(Header::new("Received", " by us"));
        for address in &letter.recipients {
            match self.ask_all(rcpt(address)).await {
                Reply::Discard => return None,
                refusal if stops(&refusal) => {}
                _ => held = held.with_recipient(Recipient::new(*address, [""; 0])),
            }
        }
        if held.recipients().is_empty() || letter.gives_up {
            return None;
        }
        if stops(&self.ask_all(Command::Data).await) {
            return None;
        }
        for (name, value) in &letter.headers {
            held.push_header(Header::new(*name, *value));
        }
        held = held.with_body(letter.body.clone());
        let answer = self.content(&mut held).await;
        let said = if stops(&answer) {
            format!("{answer:?}")
        } else {
            "ok".to_owned()
        };
        self.session.answers.push((Stage::EndOfMessage, said));
        if !stops(&answer) {
            self.session.delivered.push(Delivered::of(&held));
        }
        Some(())
    }

    /// The content, filter by filter: each sees what those before it left.
    async fn content(&mut self, mail: &mut Mail) -> Reply {
        for peer in self
            .peers
            .iter_mut()
            .filter(|peer| !peer.gone && !peer.done)
        {
            let (edits, verdict) = peer.show(mail).await;
            if stops(&verdict) {
                return verdict;
            }
            let spaced = peer.agreed.steps.contains(Steps::LEADING_SPACE);
            mail.apply(&edits, spaced)
                .expect("edits that the MTA takes");
            let holds = edits.iter().any(|edit| edit.code() == b'q');
            if holds && self.profile.is_postfix() {
                break;
            }
        }
        Reply::Accept
    }
}

impl Peer {
    fn takes(&self, stage: Stage) -> bool {
        stage
            .declining()
            .is_none_or(|bit| !self.agreed.steps.contains(bit))
    }

    async fn ask(&mut self, command: Command, stage: Stage) -> Reply {
        self.mta.send(command).await;
        let silent = stage
            .silencing()
            .is_some_and(|bit| self.agreed.steps.contains(bit));
        if silent {
            Reply::Continue
        } else {
            self.mta.reply().await
        }
    }

    /// Shows it a message. What it wants changed, and its verdict.
    async fn show(&mut self, mail: &Mail) -> (Vec<Modification>, Reply) {
        let spaced = self.agreed.steps.contains(Steps::LEADING_SPACE);
        let headers = mail.shown_headers(spaced).map(Command::Header);
        let content = headers.chain([Command::EndOfHeaders, body(mail.shown_body())]);
        let mut skips = false;
        for command in content {
            let stage = command.stage().expect("content");
            let empty = matches!(&command, Command::Body(piece) if piece.is_empty());
            if !self.takes(stage) || empty || skips && stage == Stage::Body {
                continue;
            }
            let reply = self.ask(command, stage).await;
            skips |= reply == Reply::Skip;
            if stops(&reply) || reply == Reply::Accept {
                return (Vec::new(), reply);
            }
        }
        self.mta.send(eom()).await;
        let mut edits = Vec::new();
        loop {
            match self.mta.reply().await {
                Reply::Modify(edit) => edits.push(edit),
                Reply::Progress => {}
                verdict => return (edits, verdict),
            }
        }
    }
}

impl Delivered {
    fn of(mail: &Mail) -> Self {
        let headers = mail.headers();
        Self {
            sender: mail.sender().address().to_string(),
            recipients: mail
                .recipients()
                .iter()
                .map(|to| to.address().to_string())
                .collect(),
            headers: headers
                .map(|one| format!("{}:{}", one.name(), one.value()))
                .collect(),
            body: String::from_utf8_lossy(mail.body()).into_owned(),
            quarantine: mail.quarantine().map(|reason| reason.to_string()),
        }
    }
}
