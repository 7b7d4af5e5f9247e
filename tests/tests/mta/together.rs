//! Two filters of which the server knows, and the same two as a chain of which it knows as one: the
//! client is told the same, the same is delivered, and each filter sees the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use milter_tests::control::{self, Event};
use milter_tests::mail::Mail;
use milter_tests::mta::{self, Kind};
use milter_tests::rig::{Rig, Setup};
use milter_tests::smtp::{self, Client, Reply, Transcript};

/// Orders of a filter.
type Orders = Vec<Vec<String>>;

/// What both filters are told, and what is sent.
struct Case {
    name: String,
    orders: [Orders; 2],
    send: fn(&Rig) -> Vec<Transcript>,
    /// The second filter refuses the client, or its name.
    is_refused_client: bool,
}

#[test]
fn postfix() {
    compare(Kind::Postfix);
}

#[test]
fn sendmail() {
    compare(Kind::Sendmail);
}

fn compare(kind: Kind) {
    if !mta::require(kind) {
        return;
    }
    let setup = |chained| Setup {
        filters: 2,
        chained,
        ..Setup::default()
    };
    let (mut apart, mut together) = (
        Rig::start(kind, &setup(false)),
        Rig::start(kind, &setup(true)),
    );
    let cases = cases();
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut failed = Vec::new();
    for case in &cases {
        let compared = catch_unwind(AssertUnwindSafe(|| {
            let (mut expected, mut outcome) = (run(&mut apart, case), run(&mut together, case));
            if case.is_refused_client {
                // Postfix goes on asking the first filter about mail that it refuses for the second
                // (`milter.c milter_mail_event`); one that refuses for a chain it asks nothing more.
                (expected.seen, outcome.seen) = Default::default();
            }
            assert_eq!(outcome, expected);
        }));
        if compared.is_err() {
            let (apart, together) = (apart.report(), together.report());
            eprintln!(
                "=== FAILED: {}\n--- apart\n{apart}\n--- together\n{together}",
                case.name
            );
            failed.push(case.name.clone());
        }
    }
    println!(
        "{kind}: {} of {} cases alike",
        cases.len() - failed.len(),
        cases.len()
    );
    assert!(failed.is_empty(), "{kind}: {}", failed.join("; "));
}

/// What came of a case.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    replies: Vec<String>,
    delivered: Vec<Delivered>,
    held: usize,
    seen: [Vec<Vec<String>>; 2],
}

#[derive(Debug, PartialEq, Eq)]
struct Delivered {
    sender: String,
    recipients: Vec<(String, Vec<String>)>,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

fn run(rig: &mut Rig, case: &Case) -> Outcome {
    rig.reset();
    rig.mta().purge();
    for (n, orders) in case.orders.iter().enumerate() {
        let orders: Vec<Vec<&str>> = orders
            .iter()
            .map(|line| line.iter().map(String::as_str).collect())
            .collect();
        let orders: Vec<&[&str]> = orders.iter().map(Vec::as_slice).collect();
        rig.filter(n).orders(&orders);
    }
    let transcripts = (case.send)(rig);
    let smtp = transcripts.last().cloned().expect("something was sent");
    let mut delivered = rig.outcome(smtp).delivered;
    // Of several it is not said which one is delivered first.
    delivered.sort_by(|one, other| one.sender.cmp(&other.sender));
    rig.settle().unwrap_or_else(|error| panic!("{error}"));
    Outcome {
        replies: transcripts.iter().flat_map(replies).collect(),
        delivered: delivered.iter().map(Delivered::of).collect(),
        held: rig.mta().held().len(),
        seen: [0, 1].map(|n| seen(&rig.filter(n).trace().events())),
    }
}

impl Delivered {
    fn of(one: &milter_tests::sink::Delivered) -> Self {
        let headers = one.headers().into_iter();
        Self {
            sender: one.sender.clone(),
            recipients: one.recipients.clone(),
            // It has the time and a queue id.
            headers: headers
                .map(|(name, value)| match &*name {
                    "Received" => (name, String::new()),
                    _ => (name, value),
                })
                .collect(),
            body: one.body().to_vec(),
        }
    }
}

fn replies(smtp: &Transcript) -> Vec<String> {
    let Transcript {
        greeting,
        helo,
        mail,
        rcpt,
        data,
        end,
        closed,
        ..
    } = smtp;
    let said = |reply: &Reply| match reply.code {
        // With a queue id.
        ..=399 => reply.code.to_string(),
        _ => reply.to_string(),
    };
    let before = [greeting, helo, mail].into_iter().flatten();
    let all = before.chain(rcpt).chain([data, end].into_iter().flatten());
    all.map(said).chain([format!("closed: {closed}")]).collect()
}

/// What a filter saw of messages. What of a session differs by design: Postfix does not even
/// connect to a filter behind one that refuses the client.
fn seen(events: &[Event]) -> Vec<Vec<String>> {
    const OF_MESSAGES: [&str; 8] = [
        "mail", "rcpt", "data", "header", "eoh", "body", "eom", "unknown",
    ];
    let of_messages = events
        .iter()
        .filter(|event| OF_MESSAGES.contains(&&*event.name()));
    of_messages
        .map(|event| [vec![event.name()], event.args()].concat())
        .collect()
}

/// One message to two recipients, with headers to count.
fn mail() -> Mail {
    Mail::to_bob()
        .recipient("<carol@example.net>")
        .header("X-Count: 1")
        .header("X-Other: o")
        .header("X-Count: 2")
        .header("x-count: 3")
}

fn once(rig: &Rig) -> Vec<Transcript> {
    vec![smtp::send(rig.mta().port(), &mail())]
}

/// Two messages over one connection.
fn twice(rig: &Rig) -> Vec<Transcript> {
    let (mut client, _) = Client::connect(rig.mta().port()).expect("a greeting");
    client.command("EHLO client.example.org").expect("a reply");
    let sent = [mail(), mail().sender("<other@example.org>")].map(|mail| client.deliver(&mail));
    let _ = client.command("QUIT");
    sent.to_vec()
}

/// A message that is given up, and one that is not.
fn after_reset(rig: &Rig) -> Vec<Transcript> {
    let (mut client, _) = Client::connect(rig.mta().port()).expect("a greeting");
    for line in [
        "EHLO client.example.org",
        "MAIL FROM:<gone@example.org>",
        "RCPT TO:<bob@example.net>",
        "RSET",
    ] {
        client.command(line).expect("a reply");
    }
    let sent = client.deliver(&mail());
    let _ = client.command("QUIT");
    vec![sent]
}

fn words(lines: &[&'static str]) -> Orders {
    let word = |word| String::from_utf8(control::decode(word)).expect("text");
    lines
        .iter()
        .map(|line| line.split(' ').map(word).collect())
        .collect()
}

/// Each verdict at each stage, by the first and by the second.
const VERDICTS: [(&str, &str); 36] = [
    ("connect", "reject"),
    ("connect", "tempfail"),
    ("connect", "accept"),
    ("connect", "reply 550 5.7.9 no"),
    ("helo", "reject"),
    ("helo", "tempfail"),
    ("helo", "accept"),
    ("helo", "reply 450 4.7.9 no"),
    ("mail", "reject"),
    ("mail", "tempfail"),
    ("mail", "accept"),
    ("mail", "discard"),
    ("mail", "reply 550 5.7.9 no"),
    ("rcpt", "reject"),
    ("rcpt", "accept"),
    ("rcpt", "discard"),
    ("rcpt:carol@example.net", "reply 450 4.7.9 no"),
    ("data", "reject"),
    ("data", "accept"),
    ("data", "discard"),
    ("data", "reply 450 4.7.9 no"),
    ("header", "reject"),
    ("header", "accept"),
    ("header", "discard"),
    ("header:x-other", "reply 550 5.7.9 no"),
    ("eoh", "tempfail"),
    ("eoh", "accept"),
    ("eoh", "discard"),
    ("body", "reject"),
    ("body", "accept"),
    ("body", "discard"),
    ("eom", "reject"),
    ("eom", "tempfail"),
    ("eom", "accept"),
    ("eom", "discard"),
    ("eom", "reply 550 5.7.9 no"),
];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: &str, a: &[&'static str], b: &[&'static str], send| {
        let orders = [words(a), words(b)];
        let mut rules = b.iter().filter_map(|rule| rule.split_once(' '));
        let is_refused_client = rules
            .any(|(stage, verdict)| ["connect", "helo"].contains(&stage) && verdict != "accept");
        cases.push(Case {
            name: name.to_owned(),
            orders,
            send,
            is_refused_client,
        });
    };
    for (stage, verdict) in VERDICTS {
        let rule: &'static str = format!("{stage} {verdict}").leak();
        add(
            &format!("A: {rule}"),
            &[rule],
            &["eom addheader X-B b"],
            once,
        );
        add(
            &format!("B: {rule}"),
            &["eom addheader X-A a"],
            &[rule],
            once,
        );
    }
    edits(&mut add);
    other_edits(&mut add);
    sessions(&mut add);
    cases
}

type Add<'a> = dyn FnMut(&str, &[&'static str], &[&'static str], fn(&Rig) -> Vec<Transcript>) + 'a;

fn edits(add: &mut Add<'_>) {
    add("both only look", &[], &[], once);
    add(
        "both add",
        &["eom addheader X-Count a"],
        &["eom addheader X-Count b"],
        once,
    );
    add(
        "both insert",
        &["eom insheader 0 X-A a"],
        &["eom insheader 0 X-B b"],
        once,
    );
    add(
        "both insert below",
        &["eom insheader 3 X-A a"],
        &["eom insheader 3 X-B b"],
        once,
    );
    add(
        "both delete the first",
        &["eom delheader X-Count 1"],
        &["eom delheader X-Count 1"],
        once,
    );
    add(
        "both delete the second",
        &["eom delheader X-Count 2", "eom addheader X-Other o2"],
        &["eom delheader x-count 2"],
        once,
    );
    add(
        "what the first adds the second changes",
        &["eom addheader X-New a"],
        &["eom chgheader X-New 1 b"],
        once,
    );
    add(
        "what the first inserts the second deletes",
        &["eom insheader 1 X-Count a"],
        &["eom delheader X-Count 1", "eom insheader 1 X-B b"],
        once,
    );
    add(
        "what the first changes the second changes",
        &["eom chgheader X-Count 2 a"],
        &["eom chgheader X-Count 2 b", "eom delheader X-Count 3"],
        once,
    );
    add(
        "a change adds",
        &["eom chgheader X-No 1 a"],
        &["eom chgheader X-No 1 b"],
        once,
    );
}

fn other_edits(add: &mut Add<'_>) {
    add(
        "both replace the body",
        &["eom replbody a%0D%0A"],
        &["eom replbody b%0D%0A"],
        once,
    );
    add(
        "the first replaces the body",
        &["eom replbody a%0D%0A"],
        &[],
        once,
    );
    add(
        "the second replaces the body",
        &[],
        &["eom replbody b"],
        once,
    );
    add(
        "an empty body",
        &["eom replbody %"],
        &["eom addheader X-B b"],
        once,
    );
    add(
        "recipients",
        &[
            "eom addrcpt <dave@example.net>",
            "eom delrcpt <bob@example.net>",
        ],
        &[
            "eom delrcpt <dave@example.net>",
            "eom addrcpt <erin@example.net>",
        ],
        once,
    );
    add(
        "senders",
        &["eom chgfrom <a@example.org>"],
        &["eom chgfrom <b@example.org>"],
        once,
    );
    add(
        "the first quarantines",
        &["eom quarantine a"],
        &["eom addheader X-B b"],
        once,
    );
    add(
        "the second quarantines",
        &["eom addheader X-A a"],
        &["eom quarantine b"],
        once,
    );
    add(
        "a quarantine, then a refusal",
        &["eom quarantine a"],
        &["eom tempfail"],
        once,
    );
    add(
        "changes, then a refusal",
        &["eom addheader X-A a"],
        &["eom reject"],
        once,
    );
    add(
        "all at once",
        &[
            "eom chgheader X-Count 1 a",
            "eom delheader X-Count 3",
            "eom insheader 0 X-A a",
            "eom replbody a%0D%0A",
            "eom chgfrom <a@example.org>",
        ],
        &[
            "eom delheader X-Count 1",
            "eom insheader 0 X-B b",
            "eom addheader X-Other b",
            "eom addrcpt <dave@example.net>",
        ],
        once,
    );
}

fn sessions(add: &mut Add<'_>) {
    let rules: [&[&'static str]; 2] = [
        &["mail:other@example.org accept", "eom delheader X-Count 1"],
        &["rcpt:carol@example.net reject", "eom delheader X-Count 1"],
    ];
    add("two messages", rules[0], rules[1], twice);
    add("two messages the other way", rules[1], rules[0], twice);
    add(
        "a discarded one first",
        &["data:alice@example.org discard"],
        &[],
        twice,
    );
    add(
        "a refused one first",
        &[],
        &["mail:alice@example.org reject"],
        twice,
    );
    add("one that is given up", rules[0], rules[1], after_reset);
    let silent = "option steps nr_mail nr_rcpt nr_header nr_eoh nr_body";
    add(
        "without replies",
        &[silent, "eom addheader X-A a"],
        &[silent, "eom reject"],
        once,
    );
    let spaced = "option steps leadspc";
    add(
        "leading space",
        &[spaced, "eom addheader X-A %20a"],
        &["eom addheader X-B b"],
        once,
    );
    add(
        "leading space behind",
        &["eom addheader X-A a"],
        &[spaced, "eom chgheader X-A 1 %20b"],
        once,
    );
    add(
        "skip",
        &["option steps skip", "body skip"],
        &["eom addheader X-B b"],
        once,
    );
    add(
        "with less",
        &[
            "option actions addheader",
            "option steps nobody nomail",
            "eom addheader X-A a",
        ],
        &["option steps noheader noeoh", "eom addheader X-B b"],
        once,
    );
}
