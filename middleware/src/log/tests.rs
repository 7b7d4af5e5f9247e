use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milter_tower::testing::{Mail, MockMta, MtaProfile, SmtpSession};
use milter_tower::{
    BoxError, Chain, Event, Helo, Needs, Offer, Outcome, Peer, PeerAddr, ReplyMode, Request,
    Response, Sender, Session, SmtpReply, Stage, UnknownCommand, Verdict,
};
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Addresses, Clients, HashKey, LogLayer};

type Lines = Arc<Mutex<Vec<String>>>;

fn layer(lines: &Lines) -> LogLayer {
    let lines = Arc::clone(lines);
    LogLayer::new().to(move |line: &str| lines.lock().unwrap().push(line.to_owned()))
}

fn taken(lines: &Lines) -> Vec<String> {
    std::mem::take(&mut *lines.lock().unwrap())
}

/// The fields of a line in logfmt, none of which has a space or a quote inside.
fn fields(line: &str) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = line;
    while let Some((key, value)) = rest.split_once('=') {
        let end = match value.strip_prefix('"') {
            Some(quoted) => quoted.find('"').unwrap() + 2,
            None => value.find(' ').unwrap_or(value.len()),
        };
        let text = value[..end].trim_matches('"');
        assert!(
            fields.insert(key.to_owned(), text.to_owned()).is_none(),
            "{line}"
        );
        rest = value[end..].trim_start();
    }
    assert!(rest.is_empty(), "{line}");
    fields
}

fn get<'a>(fields: &'a BTreeMap<String, String>, key: &str) -> &'a str {
    fields.get(key).map_or("", String::as_str)
}

fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

/// What a filter does at one stage.
#[derive(Clone, Copy, Debug)]
enum Does {
    Says(fn() -> Response),
    Fails,
    Panics,
    Hangs,
}

/// A filter that wants every event, and does this at one of them.
fn filter(
    at: Stage,
    does: Does,
) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + use<>
{
    service_fn(move |request: Request| async move {
        if request.event().stage() != Some(at) {
            return Ok(Response::proceed());
        }
        match does {
            Does::Says(response) => Ok(response()),
            Does::Fails => Err(BoxError::from("broken")),
            Does::Panics => panic!("as told"),
            Does::Hangs => std::future::pending().await,
        }
    })
}

fn later() -> Response {
    SmtpReply::tempfail("Later, please").into()
}

/// What a filter does, and the fields of the line that tells of it.
type Case = (Stage, Does, &'static [(&'static str, &'static str)]);

const CASES: [Case; 14] = [
    (
        Stage::EndOfMessage,
        Does::Says(Response::proceed),
        &[("outcome", "accept"), ("edits", "0")],
    ),
    (
        Stage::EndOfMessage,
        Does::Says(Response::discard),
        &[("outcome", "discard")],
    ),
    (
        Stage::EndOfMessage,
        Does::Says(later),
        &[
            ("outcome", "tempfail"),
            ("stage", "end of message"),
            ("reply", "451 4.7.1 Later, please"),
        ],
    ),
    (
        Stage::Mail,
        Does::Says(Response::reject),
        &[
            ("outcome", "reject"),
            ("stage", "mail"),
            ("recipients", "0"),
        ],
    ),
    (
        Stage::Mail,
        Does::Says(Response::accept),
        &[("outcome", "accept"), ("stage", "mail")],
    ),
    (
        Stage::Rcpt,
        Does::Says(Response::discard),
        &[("outcome", "discard"), ("stage", "rcpt")],
    ),
    (
        Stage::Header,
        Does::Says(Response::accept),
        &[("outcome", "accept"), ("stage", "header")],
    ),
    // Every recipient refused: the client gives up.
    (
        Stage::Rcpt,
        Does::Says(later),
        &[
            ("outcome", "aborted"),
            ("stage", "rcpt"),
            ("refused", "2"),
            ("recipients", "0"),
            ("reply", "451 4.7.1 Later, please"),
        ],
    ),
    (
        Stage::Mail,
        Does::Fails,
        &[
            ("outcome", "tempfail"),
            ("failure", "error"),
            ("failed_at", "mail"),
        ],
    ),
    (
        Stage::Body,
        Does::Fails,
        &[
            ("outcome", "tempfail"),
            ("failure", "error"),
            ("failed_at", "body"),
        ],
    ),
    (
        Stage::EndOfMessage,
        Does::Hangs,
        &[("outcome", "tempfail"), ("failure", "deadline")],
    ),
    (
        Stage::Header,
        Does::Panics,
        &[
            ("outcome", "failed"),
            ("failure", "panic"),
            ("from", "alice@example.org"),
            ("recipients", "2"),
        ],
    ),
    (
        Stage::Mail,
        Does::Panics,
        &[
            ("outcome", "failed"),
            ("failure", "panic"),
            ("failed_at", "mail"),
        ],
    ),
    (
        Stage::EndOfMessage,
        Does::Says(|| Response::accept().add_header("no name", "x")),
        &[("outcome", "tempfail"), ("failure", "edit")],
    ),
];

#[tokio::test(start_paused = true)]
async fn a_message_has_one_line_however_it_ends() {
    for profile in profiles() {
        for (at, does, wanted) in CASES {
            let lines = Lines::default();
            let mails = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&mails);
            let filter = filter(at, does).map_request(move |request: Request| {
                let begins = request.event().stage() == Some(Stage::Mail);
                count.fetch_add(usize::from(begins), Ordering::Relaxed);
                request
            });
            let filter = layer(&lines).layer(filter);
            let mut session = MockMta::with_profile(profile.clone(), filter).open().await;
            let mail = Mail::new()
                .from("alice@example.org")
                .to("a@example.net")
                .to("b@example.net");
            for _ in 0..2 {
                session.deliver(&mail).await;
            }
            session.quit().await;
            let lines = taken(&lines);
            // It does so after one recipient, too, and asks about no other.
            let is_cut = profile.name() == "Stalwart" && at == Stage::Rcpt;
            let wanted = if is_cut { &[][..] } else { wanted };
            let what = format!("{} {at} {does:?}: {lines:#?}", profile.name());
            // Stalwart goes away when something is refused.
            let mails = mails.load(Ordering::Relaxed);
            assert!(
                mails == 2 || profile.name() == "Stalwart" && mails == 1,
                "{what}"
            );
            assert_eq!(lines.len(), mails, "{what}");
            for line in &lines {
                let fields = fields(line);
                assert_eq!(get(&fields, "event"), "message");
                for (key, value) in wanted {
                    assert_eq!(get(&fields, key), *value, "{key} {what}");
                }
            }
        }
    }
}

async fn begun(session: &mut SmtpSession) {
    session.connect(Mail::new().connection()).await;
    session.helo("client.example").await;
    session.mail("alice@example.org").await;
    session.rcpt("bob@example.net").await;
}

#[tokio::test(start_paused = true)]
async fn a_message_that_ends_by_itself_has_its_line() {
    for profile in profiles() {
        for lost in [false, true] {
            let lines = Lines::default();
            let filter = layer(&lines).layer(filter(Stage::Data, Does::Says(Response::proceed)));
            let mut mta = MockMta::with_profile(profile.clone(), filter);
            let mut session = mta.open().await;
            begun(&mut session).await;
            if lost {
                session.lose().await;
            } else {
                session.abort().await;
                session.quit().await;
            }
            let lines = taken(&lines);
            assert_eq!(lines.len(), 1, "{lines:?}");
            let fields = fields(&lines[0]);
            let outcome = if lost { "lost" } else { "aborted" };
            assert_eq!(get(&fields, "outcome"), outcome);
            assert_eq!(get(&fields, "stage"), "rcpt");
            assert_eq!(get(&fields, "helo"), "client.example");
        }
    }
}

/// The connection is dropped with all that was on it.
#[tokio::test(start_paused = true)]
async fn a_message_that_nobody_ends_has_its_line() {
    let lines = Lines::default();
    let filter = layer(&lines).layer(filter(Stage::Data, Does::Hangs));
    let mut session = MockMta::postfix(filter).open().await;
    begun(&mut session).await;
    let waited = tokio::time::timeout(Duration::from_secs(1), session.data()).await;
    assert!(waited.is_err());
    session.lose().await;
    let lines = taken(&lines);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(get(&fields(&lines[0]), "outcome"), "lost");
    // The MTA went away: the filter did not fail.
    assert_eq!(get(&fields(&lines[0]), "failure"), "");
}

#[tokio::test]
async fn sessions_without_a_message_have_a_line_if_it_is_wanted() {
    for wanted in [false, true] {
        let lines = Lines::default();
        let layer = layer(&lines).connections(wanted);
        let filter = layer.layer(filter(Stage::Helo, Does::Says(Response::reject)));
        let mut session = MockMta::postfix(filter).open().await;
        session.connect(Mail::new().connection()).await;
        session.helo("client.example").await;
        session.quit().await;
        let lines = taken(&lines);
        assert_eq!(lines.len(), usize::from(wanted), "{lines:?}");
        if let [line] = &lines[..] {
            let fields = fields(line);
            assert_eq!(get(&fields, "event"), "connection");
            assert_eq!(
                (get(&fields, "outcome"), get(&fields, "stage")),
                ("reject", "helo")
            );
        }
    }
    // One with a message has that one's.
    let lines = Lines::default();
    let layer = layer(&lines).connections(true);
    let filter = layer.layer(filter(Stage::Helo, Does::Says(Response::proceed)));
    let mut session = MockMta::sendmail(filter).open().await;
    session.deliver(Mail::new()).await;
    // Also if its client says hello once more.
    session.helo("client.example").await;
    session.quit().await;
    assert_eq!(taken(&lines).len(), 1);
}

#[tokio::test]
async fn nothing_is_asked_for_but_to_record() {
    let inner = service_fn(async |request: Request| {
        Ok::<_, Infallible>(match request.event() {
            Event::Negotiate(_) => Response::needs(Needs::none().event(Stage::Mail)),
            _ => Response::proceed(),
        })
    });
    let lines = Lines::default();
    let mut session = MockMta::postfix(layer(&lines).layer(inner)).open().await;
    let agreed = session.agreement().clone();
    for stage in Stage::ALL {
        let wanted = matches!(
            stage,
            Stage::Connect | Stage::Helo | Stage::Mail | Stage::Rcpt | Stage::EndOfMessage
        );
        assert_eq!(agreed.delivers(stage), wanted, "{stage}");
        let silent = matches!(stage, Stage::Connect | Stage::Helo | Stage::Rcpt);
        if wanted {
            let mode = agreed.reply_mode(stage);
            assert_eq!(mode == ReplyMode::Silent, silent, "{stage}");
        }
    }
    assert!(agreed.actions().is_empty());
    session
        .deliver(Mail::new().mail_from("a@example.org", ["SIZE=4711"]))
        .await;
    session.quit().await;
    let fields = fields(&taken(&lines)[0]);
    assert_eq!(get(&fields, "size"), "4711");
    assert_eq!(get(&fields, "body"), "", "nobody asked for it");
    assert!(!get(&fields, "queue_id").is_empty() && !get(&fields, "client").is_empty());
}

#[tokio::test]
async fn edits_are_counted_by_kind() {
    let lines = Lines::default();
    let edits = || {
        let response = Response::accept()
            .add_header("X-A", "1")
            .add_header("X-B", "2");
        response.add_recipient("c@d.example").quarantine("a virus")
    };
    let log = layer(&lines);
    let filter = filter(Stage::EndOfMessage, Does::Says(edits));
    MockMta::postfix(log.layer(filter.clone()))
        .deliver(Mail::new())
        .await;
    MockMta::postfix(log.json().layer(filter))
        .deliver(Mail::new())
        .await;
    let lines = taken(&lines);
    let logfmt = fields(&lines[0]);
    assert_eq!(get(&logfmt, "edits"), "4");
    assert_eq!(
        get(&logfmt, "kinds"),
        "add_header:2,add_recipient:1,quarantine:1"
    );
    assert_eq!(get(&logfmt, "quarantine"), "a virus");
    let json: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(json["kinds"]["add_header"], 2);
    assert_eq!(json["edits"], 4);
    assert!(json["time"].is_number() && json["ts"].is_string());
}

const HOSTILE: &str = "a\"b\\c\r\nevent=message outcome=accept\u{202e}\u{1b}[2J\u{85}x";

/// What a client says is shown, and nothing of it acts.
#[tokio::test]
async fn nobody_outside_writes_lines_or_fields() {
    let lines = Lines::default();
    let log = layer(&lines).list_recipients(5);
    let filter = filter(Stage::Data, Does::Says(Response::proceed));
    for log in [log.clone(), log.json()] {
        let mut session = MockMta::postfix(log.layer(filter.clone())).open().await;
        session.connect(Mail::new().connection()).await;
        session.helo(HOSTILE).await;
        session.mail(format!("<{HOSTILE}@e>")).await;
        session.rcpt(&b"<\xff\"@\xe9,>"[..]).await;
        session.rcpt("<b@example.net>").await;
        session.abort().await;
        session.quit().await;
    }
    let lines = taken(&lines);
    assert_eq!(lines.len(), 2);
    for line in &lines {
        assert!(
            line.chars().all(|c| c == ' ' || c.is_ascii_graphic()),
            "{line}"
        );
    }
    let escaped = r#""a\"b\\c\r\nevent=message outcome=accept\u202e\u001b[2J\u0085x"#;
    assert!(
        lines[0].contains(&format!(" helo={escaped}\" ")),
        "{}",
        lines[0]
    );
    assert!(
        lines[0].contains(&format!(" from={escaped}@e\" ")),
        "{}",
        lines[0]
    );
    assert!(
        lines[0].contains(r#" to="\\xff\"@\\xe9,,b@example.net" "#),
        "{}",
        lines[0]
    );
    let json: serde_json::Value = serde_json::from_str(&lines[1]).unwrap();
    assert_eq!(json["helo"], HOSTILE);
    assert_eq!(json["from"], format!("{HOSTILE}@e"));
    assert_eq!(json["to"][0], r#"\xff"@\xe9,"#);
    assert_eq!(json["outcome"], "aborted");
}

#[tokio::test]
async fn what_is_long_is_cut() {
    let lines = Lines::default();
    let filter = filter(Stage::Mail, Does::Says(Response::reject));
    let log = layer(&lines).layer(filter);
    MockMta::postfix(log)
        .deliver(Mail::new().from("é".repeat(5000)))
        .await;
    let line = &taken(&lines)[0];
    assert!(line.len() < 1500, "{}", line.len());
    assert!(line.contains("...\""), "{line}");
}

#[tokio::test]
async fn people_are_shown_as_far_as_is_wanted() {
    let key = || HashKey::new("key");
    // printf alice@example.org | openssl dgst -sha256 -hmac key
    let hashed = "e7b8a8f62e8cc3b5";
    let cases = [
        (
            Addresses::Full,
            Clients::Full,
            "Alice@example.org",
            "198.51.100.7",
            true,
        ),
        (
            Addresses::Domain,
            Clients::Network { v4: 24, v6: 48 },
            "*@example.org",
            "198.51.100.0/24",
            false,
        ),
        (
            Addresses::Hash(key()),
            Clients::Hash(key()),
            hashed,
            "?",
            false,
        ),
        (Addresses::Hidden, Clients::Hidden, "", "", false),
    ];
    for (addresses, clients, from, client, has_names) in cases {
        let lines = Lines::default();
        let log = layer(&lines)
            .addresses(addresses)
            .clients(clients)
            .list_recipients(2);
        let filter = filter(Stage::Data, Does::Says(Response::proceed));
        let ip: std::net::IpAddr = "198.51.100.7".parse().unwrap();
        let mail = Mail::new()
            .from("Alice@example.org")
            .to("Alice@example.org");
        let mail = mail.client_ip(ip);
        MockMta::postfix(log.layer(filter)).deliver(mail).await;
        let fields = fields(&taken(&lines)[0]);
        assert_eq!(get(&fields, "from"), from);
        assert_eq!(get(&fields, "to"), from);
        if client == "?" {
            assert_eq!(get(&fields, "client").len(), 16);
        } else {
            assert_eq!(get(&fields, "client"), client);
        }
        assert_eq!(fields.contains_key("helo"), has_names);
        assert_eq!(fields.contains_key("client_name"), has_names);
    }
}

#[tokio::test]
async fn the_member_that_decided_is_named() {
    let refuses = |at| filter(at, Does::Says(later));
    let passes = || filter(Stage::Data, Does::Says(Response::proceed));
    for (chain, member, failed_at) in [
        (Chain::new().with("a", passes()).with("b", passes()), "", ""),
        (
            Chain::new()
                .with("a", passes())
                .with("b", refuses(Stage::EndOfMessage)),
            "b",
            "",
        ),
        (
            Chain::new()
                .with("a", refuses(Stage::Rcpt))
                .with("b", passes()),
            "a",
            "",
        ),
        (
            Chain::new()
                .with("a", passes())
                .with("b", filter(Stage::Body, Does::Fails)),
            "b",
            // It was shown what was held for it.
            "end of message",
        ),
        // A chain decides by a member, also if it is one of another chain.
        (
            Chain::new().with("in", Chain::new().with("a", refuses(Stage::Mail))),
            "a",
            "",
        ),
    ] {
        let lines = Lines::default();
        MockMta::postfix(layer(&lines).layer(chain))
            .deliver(Mail::new())
            .await;
        let fields = fields(&taken(&lines)[0]);
        assert_eq!(get(&fields, "member"), member);
        assert_eq!(get(&fields, "member_failed_at"), failed_at);
    }
}

/// What was said of something else is not said of the message, nor of the next session.
#[tokio::test]
async fn a_line_tells_of_nothing_else() {
    let lines = Lines::default();
    let log = layer(&lines).connections(true);
    let inner = service_fn(async |request: Request| {
        Ok::<_, Infallible>(match request.event() {
            Event::Unknown(_) => later(),
            Event::Helo(helo) if helo.name() == "refused.example" => Response::reject(),
            _ => Response::proceed(),
        })
    });
    let mut service = log.layer(inner);
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let helo = |name: &'static str| Event::Helo(Helo::new(name));
    for event in [
        Event::Negotiate(Offer::V6),
        helo("refused.example"),
        Event::SessionEnd,
        helo("other.example"),
        Event::SessionEnd,
        helo("third.example"),
        Event::Mail(Sender::new("<a@b.example>", [""; 0])),
        Event::Unknown(UnknownCommand::new("FOO")),
        Event::MessageEnd(Outcome::Aborted),
        Event::Close,
    ] {
        let request = Request::new(event, session.clone());
        let _ = service.ready().await.unwrap().call(request).await;
    }
    let lines = taken(&lines);
    let ends: Vec<_> = lines.iter().map(|line| fields(line)).collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    let outcomes = ends
        .iter()
        .map(|fields| (get(fields, "outcome"), get(fields, "stage")));
    let wanted = [("reject", "helo"), ("none", ""), ("aborted", "mail")];
    assert_eq!(outcomes.collect::<Vec<_>>(), wanted, "{lines:?}");
    assert!(!lines[2].contains("reply"), "{lines:?}");
}

/// Some layers lose ends: each message has its line nevertheless.
#[tokio::test]
async fn a_message_has_a_line_though_nobody_told_its_end() {
    let lines = Lines::default();
    let inner = service_fn(async |_: Request| Ok::<_, Infallible>(Response::proceed()));
    let mut service = layer(&lines).layer(inner);
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let mail = || Event::Mail(Sender::new("<a@b.example>", [""; 0]));
    for event in [mail(), mail(), Event::MessageEnd(Outcome::Aborted)] {
        let request = Request::new(event, session.clone());
        let _ = service.ready().await.unwrap().call(request).await;
    }
    let lines = taken(&lines);
    let outcomes: Vec<_> = lines
        .iter()
        .map(|line| get(&fields(line), "outcome").to_owned())
        .collect();
    assert_eq!(outcomes, ["failed", "aborted"]);
}

/// A verdict of before is not that of a mail that passes.
#[tokio::test]
async fn a_refused_recipient_does_not_name_who_accepted() {
    let inner = service_fn(async |request: Request| {
        Ok::<_, Infallible>(match request.event() {
            Event::Rcpt(to) if to.is("a@example.net") => Verdict::Reject.into(),
            _ => Response::proceed(),
        })
    });
    let lines = Lines::default();
    let filter = layer(&lines).layer(Chain::new().with("a", inner));
    let mail = Mail::new().to("a@example.net").to("b@example.net");
    MockMta::postfix(filter).deliver(mail).await;
    let fields = fields(&taken(&lines)[0]);
    assert_eq!(
        (get(&fields, "outcome"), get(&fields, "member")),
        ("accept", "")
    );
    assert_eq!(
        (get(&fields, "refused"), get(&fields, "recipients")),
        ("1", "1")
    );
}
