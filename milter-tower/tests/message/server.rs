//! A mail server that keeps to what was negotiated.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use milter_core::edit::{Mail, Profile};
use milter_core::{Command, Reply};
use milter_tower::message::MessageFilter;
use milter_tower::{
    Actions, Header, MacroStage, Modification, Offer, Recipient, Sender, Settings, SmtpReply,
    Stage, Steps,
};

use crate::common::{Mta, Run, connect, eom, helo, macros, start_with};

/// A mail server with a filter, and an SMTP client that said HELO.
pub(crate) struct Server {
    pub(crate) mta: Mta,
    pub(crate) run: Run,
    pub(crate) steps: Steps,
    pub(crate) actions: Actions,
}

/// A mail.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) to: Vec<&'static str>,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    pub(crate) body: Vec<Bytes>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Done {
    /// The letter of the command that the last answer was to.
    pub(crate) at: char,
    pub(crate) verdict: Reply,
    pub(crate) edits: Vec<Modification>,
    /// How many pieces of the body were sent.
    pub(crate) pieces: usize,
}

impl Letter {
    pub(crate) fn new() -> Self {
        Self {
            to: vec!["<b@example.net>"],
            headers: vec![
                ("Received", "from a"),
                ("Subject", "hello"),
                ("X-Old", "1"),
                ("Received", "from b"),
                ("X-Old", "2"),
            ],
            body: vec![Bytes::from_static(b"hello\r\n")],
        }
    }

    pub(crate) fn to(mut self, to: &[&'static str]) -> Self {
        self.to = to.to_vec();
        self
    }

    pub(crate) fn body(mut self, body: impl IntoIterator<Item = Vec<u8>>) -> Self {
        self.body = body.into_iter().map(Bytes::from).collect();
        self
    }
}

impl Done {
    /// The code and text of a reply, or a word.
    pub(crate) fn answer(&self) -> String {
        match &self.verdict {
            Reply::Smtp(reply) => reply_text(reply),
            other => format!("{other:?}"),
        }
    }

    pub(crate) fn edits(&self) -> Vec<String> {
        self.edits.iter().map(|edit| format!("{edit:?}")).collect()
    }
}

fn reply_text(reply: &SmtpReply) -> String {
    reply.to_string()
}

impl Server {
    pub(crate) async fn new<B: Send + 'static>(filter: MessageFilter<B>) -> Self {
        Self::with(filter, Offer::V6, "Postfix 3.7.11", Settings::new()).await
    }

    pub(crate) async fn sendmail<B: Send + 'static>(filter: MessageFilter<B>) -> Self {
        Self::with(filter, Offer::V6, "8.17.1", Settings::new()).await
    }

    pub(crate) async fn with<B: Send + 'static>(
        filter: MessageFilter<B>,
        offer: Offer,
        version: &'static str,
        settings: Settings,
    ) -> Self {
        let (mut mta, run) = start_with(filter, settings);
        let agreed = mta.offer(offer).await;
        let mut server = Self {
            mta,
            run,
            steps: agreed.steps,
            actions: agreed.actions,
        };
        let v = [("v", version)];
        server.mta.send(macros(MacroStage::Connect, v)).await;
        assert_eq!(server.tell(connect()).await, Reply::Continue);
        assert_eq!(server.tell(helo()).await, Reply::Continue);
        server
    }

    pub(crate) fn is_silent(&self, stage: Stage) -> bool {
        stage
            .silencing()
            .is_some_and(|bit| self.steps.contains(bit))
    }

    pub(crate) fn is_declined(&self, stage: Stage) -> bool {
        stage
            .declining()
            .is_some_and(|bit| self.steps.contains(bit))
    }

    /// Sends a command, unless it was declined, and waits for the answer if there is one.
    pub(crate) async fn tell(&mut self, command: Command) -> Reply {
        let stage = stage_of(&command);
        if self.is_declined(stage) {
            return Reply::Continue;
        }
        self.mta.send(command).await;
        if self.is_silent(stage) {
            return Reply::Continue;
        }
        loop {
            let reply = self.mta.reply().await;
            if reply != Reply::Progress {
                return reply;
            }
        }
    }

    pub(crate) async fn deliver(&mut self, letter: &Letter) -> Done {
        let mut done = Done {
            at: 'M',
            verdict: self.begin(letter).await,
            edits: Vec::new(),
            pieces: 0,
        };
        if done.verdict != Reply::Continue {
            return done;
        }
        done.at = 'T';
        done.verdict = self.tell(Command::Data).await;
        if done.verdict != Reply::Continue {
            return done;
        }
        self.content(letter, done).await
    }

    /// MAIL and RCPT.
    pub(crate) async fn begin(&mut self, letter: &Letter) -> Reply {
        let sender = Sender::new("<a@example.org>", ["SIZE=7"]);
        let reply = self.tell(Command::Mail(sender)).await;
        if reply != Reply::Continue {
            return reply;
        }
        for to in &letter.to {
            self.tell(Command::Rcpt(Recipient::new(*to, [""; 0]))).await;
        }
        Reply::Continue
    }

    /// What follows DATA.
    pub(crate) async fn content(&mut self, letter: &Letter, mut done: Done) -> Done {
        for (name, value) in &letter.headers {
            let space = self.steps.contains(Steps::LEADING_SPACE);
            let value = format!("{}{value}", if space { " " } else { "" });
            done.at = 'L';
            done.verdict = self.tell(Command::Header(Header::new(*name, value))).await;
            if done.verdict != Reply::Continue {
                return done;
            }
        }
        done.at = 'N';
        done.verdict = self.tell(Command::EndOfHeaders).await;
        if done.verdict != Reply::Continue {
            return done;
        }
        done.at = 'B';
        for piece in &letter.body {
            if !self.is_declined(Stage::Body) {
                done.pieces += 1;
            }
            match self.tell(Command::Body(piece.clone())).await {
                Reply::Continue => {}
                Reply::Skip => break,
                verdict => {
                    done.verdict = verdict;
                    return done;
                }
            }
        }
        done.at = 'E';
        self.mta.send(eom()).await;
        loop {
            match self.mta.reply().await {
                Reply::Modify(edit) => done.edits.push(edit),
                Reply::Progress => {}
                verdict => {
                    done.verdict = verdict;
                    return done;
                }
            }
        }
    }

    /// The end of a message that an MTA tells of, or not.
    pub(crate) async fn abort(&mut self) {
        self.mta.send(Command::Abort).await;
    }

    pub(crate) async fn quit(self) {
        self.mta.quit(self.run).await;
    }

    /// The letter as it would be delivered, and its headers.
    pub(crate) fn delivered(&self, letter: &Letter, done: &Done, profile: Profile) -> Mail {
        let mut mail = Mail::new(profile).with_sender(Sender::new("<a@example.org>", [""; 0]));
        for to in &letter.to {
            mail = mail.with_recipient(Recipient::new(*to, [""; 0]));
        }
        for (name, value) in &letter.headers {
            mail = mail.with_header(Header::new(*name, format!(" {value}")));
        }
        mail = mail.with_body(letter.body.concat());
        let space = self.steps.contains(Steps::LEADING_SPACE);
        mail.apply(&done.edits, space).expect("the MTA takes them");
        mail
    }
}

/// Headers as lines.
pub(crate) fn lines(mail: &Mail) -> Vec<String> {
    let line = |header: &Header| format!("{}:{}", header.name(), header.value());
    mail.headers().map(line).collect()
}

fn stage_of(command: &Command) -> Stage {
    match command {
        Command::Connect(_) => Stage::Connect,
        Command::Helo(_) => Stage::Helo,
        Command::Mail(_) => Stage::Mail,
        Command::Rcpt(_) => Stage::Rcpt,
        Command::Data => Stage::Data,
        Command::Header(_) => Stage::Header,
        Command::EndOfHeaders => Stage::EndOfHeaders,
        Command::Body(_) => Stage::Body,
        other => panic!("{other:?} has no stage"),
    }
}

/// What handlers saw.
#[derive(Clone, Default)]
pub(crate) struct Seen(Arc<Mutex<Vec<String>>>);

impl Seen {
    pub(crate) fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}
