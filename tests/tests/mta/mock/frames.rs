//! The same frame by frame: what each server sends in the course of an SMTP session.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::BytesMut;
use milter_core::{Agreement, Command, FilterCodec, Needs, Reply, Stage, Verdict, negotiate};
use milter_tests::address::Address;
use milter_tests::mta::{self, Kind, Mta};
use milter_tests::sink::Sink;
use milter_tests::smtp::Client;
use milter_tests::wait::{self, PATIENCE};
use milter_tower::testing::{Mail, MockMta, MtaProfile, SmtpSession};
use tokio_util::codec::{Decoder, Encoder};

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Helo,
    Mail,
    Rcpt,
    Rset,
    /// DATA and a message.
    Data,
    Unknown,
}

use Step::{Data, Helo, Mail as From, Rcpt, Rset, Unknown};

const SESSIONS: &[&[Step]] = &[
    &[],
    &[Helo],
    &[Helo, Helo],
    &[Helo, From],
    &[Helo, From, Rcpt],
    &[Helo, From, Rset, From, Rcpt, Rset],
    &[Helo, From, Rcpt, Rset, From, Rcpt, Data],
    &[Helo, From, Rcpt, Data],
    &[Helo, From, Rcpt, Rcpt, Data, From, Rcpt, Data],
    &[Helo, From, Rcpt, Helo, From, Rcpt, Data],
    &[Helo, From, Rcpt, Data, Helo],
    &[Helo, Unknown, From, Unknown, Rcpt, Data],
    &[Helo, Rset],
];

/// What a filter says at a stage, which it is asked after those steps.
const VERDICTS: &[(Stage, Verdict)] = &[
    (Stage::Connect, Verdict::Accept),
    (Stage::Connect, Verdict::Reject),
    (Stage::Helo, Verdict::Accept),
    (Stage::Helo, Verdict::TempFail),
    (Stage::Mail, Verdict::Accept),
    (Stage::Mail, Verdict::Reject),
    (Stage::Mail, Verdict::Discard),
    (Stage::Rcpt, Verdict::Reject),
    (Stage::Rcpt, Verdict::Accept),
    (Stage::Rcpt, Verdict::Discard),
    (Stage::Data, Verdict::TempFail),
    (Stage::Data, Verdict::Discard),
    (Stage::Header, Verdict::Reject),
    (Stage::EndOfHeaders, Verdict::Accept),
    (Stage::Body, Verdict::Discard),
    (Stage::EndOfMessage, Verdict::TempFail),
];

#[test]
fn postfix() {
    compare(Kind::Postfix, &MtaProfile::postfix());
}

#[test]
fn sendmail() {
    compare(Kind::Sendmail, &MtaProfile::sendmail());
}

fn compare(kind: Kind, profile: &MtaProfile) {
    if !mta::require(kind) {
        return;
    }
    let sink = Sink::start().expect("a sink");
    let filter = Recorder::start();
    let config = mta::Config {
        milters: vec![Address::Tcp(filter.port)],
        ..mta::Config::default()
    };
    let server = Mta::start(kind, sink.port(), &config).unwrap_or_else(|error| panic!("{error}"));
    let all = [
        Needs::all(),
        Needs::none(),
        Stage::ALL.into_iter().fold(Needs::none(), Needs::record),
        Needs::all().without(Stage::Mail).without(Stage::Header),
    ];
    let mut differ = Vec::new();
    let mut check = |what: String, says: Says, steps: &[Step]| {
        filter.say(says.clone());
        real(&server, steps);
        let want = filter.take();
        filter.say(says);
        played(profile, filter.port, steps);
        let got = filter.take();
        if got != want {
            differ.push(format!("{what}:\n  real   {want}\n  played {got}"));
        }
    };
    for needs in &all {
        for steps in SESSIONS {
            check(format!("{steps:?}"), (needs.clone(), None), steps);
        }
    }
    for (stage, verdict) in VERDICTS {
        let says = (Needs::all(), Some((*stage, verdict.clone())));
        check(
            format!("{verdict:?} at {stage}"),
            says,
            &[Helo, From, Rcpt, Data],
        );
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

/// The steps by SMTP, and a goodbye. A server that hangs up or refuses is no reason to stop.
fn real(server: &Mta, steps: &[Step]) {
    let (mut client, _) = Client::connect(server.port()).expect("a greeting");
    for step in steps {
        let line = match step {
            Helo => "EHLO client.example.org",
            From => "MAIL FROM:<alice@example.org>",
            Rcpt => "RCPT TO:<bob@example.net>",
            Rset => "RSET",
            Unknown => "XYZZY now",
            Data => "DATA",
        };
        let Ok(reply) = client.command(line) else {
            return;
        };
        if reply.code == 354 {
            let content = b"Subject: hello\r\nMessage-ID: <1@example.org>\r\n\r\ntext\r\n";
            client.content(content).expect("a reply");
        } else if reply.code >= 400 && !matches!(step, Unknown) {
            break;
        }
    }
    let _ = client.command("QUIT");
}

/// The same through the mail server in small.
fn played(profile: &MtaProfile, port: u16, steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let address = format!("inet:{port}@127.0.0.1")
        .parse()
        .expect("an address");
    runtime.block_on(async {
        let mut client = MockMta::connect(profile.clone(), address).open().await;
        let from = Mail::new().client_ip([127, 0, 0, 1]).connection();
        client.connect(from).await;
        for step in steps {
            if play(&mut client, *step).await {
                break;
            }
        }
        client.quit().await;
    });
}

/// One step. Whether it was refused.
async fn play(client: &mut SmtpSession, step: Step) -> bool {
    let answer = match step {
        Helo => client.helo("client.example.org").await,
        From => client.mail("<alice@example.org>").await,
        Rcpt => client.rcpt("<bob@example.net>").await,
        Rset => {
            client.abort().await;
            return false;
        }
        Unknown => {
            client.unknown("XYZZY now").await;
            return false;
        }
        Data => {
            let answer = client.data().await;
            if answer.reply.is_none() {
                client.header("Subject", "hello").await;
                client.header("Message-ID", "<1@example.org>").await;
                client.end_of_headers().await;
                client.body("text\r\n").await;
                client.end().await;
            }
            answer
        }
    };
    // HELO is accepted, whatever the filter says.
    answer.reply.is_some() && !matches!(step, Helo)
}

/// What a filter needs, and what it says but for `continue`.
type Says = (Needs, Option<(Stage, Verdict)>);

/// A filter that writes down what it is sent.
struct Recorder {
    port: u16,
    says: Arc<Mutex<Option<Says>>>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    frames: Vec<String>,
    /// A connection was opened and closed.
    closed: bool,
}

impl Recorder {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let this = Self {
            port: listener.local_addr().expect("a port").port(),
            says: Arc::default(),
            seen: Arc::default(),
        };
        let (says, seen) = (Arc::clone(&this.says), Arc::clone(&this.seen));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let says = says.lock().expect("says").clone();
                // Whatever ends it is an end.
                let _ = says.map(|says| record(stream, &says, &seen));
                seen.lock().expect("seen").closed = true;
            }
        });
        this
    }

    fn say(&self, says: Says) {
        *self.says.lock().expect("says") = Some(says);
        *self.seen.lock().expect("seen") = Seen::default();
    }

    /// What came over the one connection, which must have ended or end soon.
    fn take(&self) -> String {
        let seen = || {
            let seen = self.seen.lock().expect("seen");
            seen.closed.then(|| seen.frames.join(" "))
        };
        wait::until("the connection to close", PATIENCE, seen).unwrap_or_else(|e| panic!("{e}"))
    }
}

fn record(mut stream: TcpStream, says: &Says, seen: &Mutex<Seen>) -> std::io::Result<()> {
    let (needs, answer) = says;
    let mut codec = FilterCodec::new();
    let mut agreed = Agreement::default();
    let (mut input, mut chunk) = (BytesMut::new(), [0; 4096]);
    loop {
        while let Ok(Some(frame)) = codec.decode(&mut input) {
            let shown = show(&frame);
            seen.lock().expect("seen").frames.push(shown);
            let reply = match &frame {
                Command::Negotiate(offer) => {
                    agreed = negotiate(offer, needs).expect("agreed");
                    Some(Reply::Negotiate(agreed.to_reply()))
                }
                other => other.stage().and_then(|stage| {
                    let bit = stage.silencing();
                    let is_silent = bit.is_some_and(|bit| agreed.steps().contains(bit));
                    let said = answer.iter().find(|(at, _)| *at == stage);
                    let verdict = said.map_or(Verdict::Continue, |(_, verdict)| verdict.clone());
                    (!is_silent).then(|| verdict.to_reply())
                }),
            };
            if let Some(reply) = reply {
                let mut output = BytesMut::new();
                codec.encode(&reply, &mut output).expect("fits");
                stream.write_all(&output)?;
            }
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            n => input.extend_from_slice(&chunk[..n]),
        }
    }
}

/// A frame's letter, and the names of macros.
fn show(frame: &Command) -> String {
    let code = char::from(frame.code());
    let Command::Macros(set) = frame else {
        return code.to_string();
    };
    let names: Vec<String> = set.iter().map(|(name, _)| name.to_string()).collect();
    format!(
        "{code}{}({})",
        char::from(set.command_code()),
        names.join(",")
    )
}
