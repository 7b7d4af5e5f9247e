//! The edit model says what the servers do: the same modifications through both, compared in all
//! that can be seen.
//!
//! The filters are [`scripted`](milter_tests::scripted): they send the frames as they are, so also
//! what the library would put in order or refuse. All messages of a group go over one SMTP
//! connection, and each finds its script by its header `X-Case`.

mod body;
mod envelope;
mod headers;
mod mixed;
mod recipients;
mod seen;

use bytes::{Bytes, BytesMut};
use milter_core::edit::{self, Profile, Refused};
use milter_core::{Header, Modification, ModificationKind, Recipient, Sender};
use milter_tests::mail::{self, BOB, Mail, SENDER};
use milter_tests::raw::frame;
use milter_tests::rig::Rig;
use milter_tests::scripted::CASE;
use milter_tests::smtp::{Client, Transcript};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::group::Cases;
use seen::Seen;

/// A message, and what each filter does to it.
#[derive(Clone)]
struct Case {
    name: String,
    sender: (&'static str, &'static str),
    recipients: Vec<(&'static str, &'static str)>,
    headers: Vec<String>,
    body: Vec<u8>,
    edits: Vec<Vec<Modification>>,
    /// The client is told something that is no reply before that.
    is_garbled: bool,
}

impl Case {
    /// From Alice to Bob, with one filter that does this.
    fn new(name: impl Into<String>, edits: Vec<Modification>) -> Self {
        Self {
            name: name.into(),
            sender: (SENDER, ""),
            recipients: vec![(BOB, "")],
            headers: Vec::new(),
            body: b"Hello Bob,\r\nthis is the body.\r\n".to_vec(),
            edits: vec![edits],
            is_garbled: false,
        }
    }

    /// One more filter behind those before.
    fn then(mut self, edits: Vec<Modification>) -> Self {
        self.edits.push(edits);
        self
    }

    fn mail(&self, number: usize) -> Mail {
        let (sender, args) = self.sender;
        let mut mail = Mail::new()
            .sender(sender)
            .sender_args(args)
            .header(&format!("{CASE}: {number}"))
            .body(self.body.clone());
        for (path, args) in &self.recipients {
            mail = mail.recipient_with(path, args);
        }
        for line in &self.headers {
            mail = mail.header(line);
        }
        mail
    }

    /// The mail before any filter.
    fn model(&self, profile: Profile, number: usize) -> edit::Mail {
        let args = str::split_ascii_whitespace;
        let mut model = edit::Mail::new(profile)
            .with_sender(Sender::new(self.sender.0, args(self.sender.1)))
            .with_received(Header::new("Received", " own"))
            .with_body(self.body.clone());
        for (path, of_path) in &self.recipients {
            model = model.with_recipient(Recipient::new(*path, args(of_path)));
        }
        for (name, value) in mail::headers(&self.mail(number).content()) {
            model = model.with_header(Header::new(name, format!(" {value}")));
        }
        model
    }

    /// What the model says: the mail as each filter is shown it, and at last as it is delivered.
    fn modelled(&self, profile: &Profile, number: usize) -> Result<Vec<edit::Mail>, Refused> {
        let mut stages = vec![self.model(profile.clone(), number)];
        for edits in &self.edits {
            let mut next = stages[stages.len() - 1].clone();
            next.apply(edits, false)?;
            stages.push(next);
        }
        Ok(stages)
    }
}

/// The frames of these modifications as they are, and continue.
fn frames(edits: &[Modification]) -> Vec<u8> {
    let mut all = Vec::new();
    for edit in edits {
        let mut payload = BytesMut::new();
        edit.encode_payload(&mut payload);
        if let ModificationKind::ReplaceBody { body } = edit.kind() {
            let pieces = Modification::body_chunks(body);
            all.extend(pieces.flat_map(|piece| frame(edit.code(), &piece)));
        } else {
            all.extend(frame(edit.code(), &payload));
        }
    }
    all.extend(frame(b'c', b""));
    all
}

/// A modification that no constructor makes.
fn raw(code: u8, payload: &'static [u8]) -> Modification {
    Modification::decode(code, Bytes::from_static(payload)).unwrap()
}

/// Sends all, and compares each with the model.
fn compare(cases: &mut Cases, list: &[Case]) {
    let rig = &mut cases.rig;
    rig.reset();
    let profile = rig.by_kind(Profile::postfix(), Profile::sendmail());
    let told = send(rig, list);
    let seen = Seen::collect(rig);
    for ((number, case), smtp) in list.iter().enumerate().zip(&told) {
        cases.check(&case.name, |rig| match case.modelled(&profile, number) {
            Ok(stages) => {
                assert!(smtp.accepted(), "{smtp:?}");
                assert_eq!(smtp.closed, case.is_garbled, "{smtp:?}");
                for (n, stage) in stages[..case.edits.len()].iter().enumerate() {
                    seen::assert_shown(rig, n, number, stage);
                }
                seen.assert_is(number, &stages[stages.len() - 1]);
            }
            Err(refused) => {
                let code = smtp.end.as_ref().map(|reply| reply.code);
                let is_crash = refused == Refused::FatalArgument;
                let expected = if is_crash { None } else { Some(451) };
                assert_eq!(code, expected, "{refused}: {smtp:?}");
                assert_eq!(smtp.closed, is_crash, "{refused}: {smtp:?}");
                seen.assert_nothing(number);
            }
        });
    }
    cases.rig.mta().purge();
}

fn send(rig: &Rig, list: &[Case]) -> Vec<Transcript> {
    for (number, case) in list.iter().enumerate() {
        for (n, edits) in case.edits.iter().enumerate() {
            rig.scripted(n).script(&number.to_string(), frames(edits));
        }
    }
    let mut client = connect(rig);
    let mut told = Vec::with_capacity(list.len());
    for (number, case) in list.iter().enumerate() {
        let mut smtp = client.deliver(&case.mail(number));
        if case.is_garbled {
            // The reply comes behind what is none.
            smtp.end = client.reply().ok();
        }
        // Postfix gives a filter up for the session when it refuses a message for what that did.
        if !smtp.accepted() {
            client = connect(rig);
        }
        told.push(smtp);
    }
    client.command("QUIT").expect("a reply to QUIT");
    told
}

fn connect(rig: &Rig) -> Client {
    let (mut client, _) = Client::connect(rig.mta().port()).expect("a connection");
    client.command("EHLO client.example.org").expect("a reply");
    client
}

/// The same random cases in each run.
fn runner() -> TestRunner {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(Config::default(), rng)
}
