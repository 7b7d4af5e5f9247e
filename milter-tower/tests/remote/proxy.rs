//! A server around a remote is a proxy that nobody notices: not the MTA, and not the filter.

use std::time::Duration;

use milter_core::{Command, Header, Needs, Reply, SmtpReply, Stage};
use milter_tower::client::Delivered;
use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{Actions, MacroStage, Modification, Response, Steps};

use crate::backend::{Act, Backend, is_at, silent};

/// What a case has come of it.
#[derive(Debug, PartialEq)]
struct Seen {
    /// What the filter was told: commands, and the macros before each.
    told: Vec<Command>,
    /// What the mail server heard, and what it delivers.
    done: Vec<String>,
}

/// Frames that say the same to any filter: without aborts where nothing is open (Q3), macros of
/// no stage (C28), empty sets of them, and those that others replace before a command comes. Not all
/// MTAs say goodbye.
fn in_effect(told: Vec<Command>) -> Vec<Command> {
    let mut frames: Vec<Command> = Vec::new();
    for command in told {
        let code = |command: &Command| match command {
            Command::Macros(set) => Some(set.command_code()),
            _ => None,
        };
        match &command {
            Command::Abort | Command::Quit => continue,
            Command::Macros(set) if set.stage().is_none() || set.raw().is_empty() => continue,
            Command::Macros(_) if frames.last().and_then(code) == code(&command) => {
                frames.pop();
            }
            _ => {}
        }
        frames.push(command);
    }
    frames
}

fn profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

fn mails() -> [Mail; 2] {
    let first = Mail::new()
        .from("a@example.org")
        .to("b@example.net")
        .to("refused@example.net")
        .to("c@example.net")
        .header("X-Old", "one")
        .header("X-Old", "two")
        .header("X-Old", "three")
        .body("line\r\n".repeat(30_000));
    let second = Mail::new()
        .from("")
        .to("d@example.net")
        .auth("PLAIN", "alice");
    [first, second]
}

async fn run(mut mta: MockMta, backend: &Backend) -> Seen {
    let mut session = mta.open().await;
    assert_eq!(session.failure(), None);
    let mut done = vec![format!("{:?}", session.agreement())];
    for mail in mails() {
        let delivery = session.deliver(mail).await;
        let Delivered { .. } = &delivery.message;
        assert_eq!(delivery.failures, [""; 0]);
        done.push(delivery.to_string());
    }
    done.extend(session.quit().await);
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.connections(), 1);
    Seen {
        told: in_effect(backend.seen(1)),
        done,
    }
}

/// Runs a filter by itself and behind a proxy.
async fn compare(make: impl Fn() -> Backend) {
    compare_in(profiles(), make).await;
}

async fn compare_in(profiles: impl IntoIterator<Item = MtaProfile>, make: impl Fn() -> Backend) {
    for profile in profiles {
        let (direct, remote) = (make(), make());
        let mta = MockMta::over(profile.clone(), direct.start());
        let direct = run(mta, &direct).await;
        let mta = MockMta::with_profile(profile.clone(), remote.remote());
        let remote = run(mta, &remote).await;
        for (here, there) in direct.done.iter().zip(&remote.done) {
            assert_eq!(here, there, "{}", profile.name());
        }
        assert_eq!(direct, remote, "{}", profile.name());
    }
}

fn wants() -> [Needs; 6] {
    [
        Needs::all(),
        Needs::none().optional_action(Actions::CHANGES),
        silent().optional_action(Actions::CHANGES),
        Needs::all()
            .skip()
            .leading_space()
            .rejected_recipients()
            .macros_exact(MacroStage::Connect, ["j", "{client_addr}"])
            .macros_exact(MacroStage::Rcpt, ["{rcpt_addr}", "i"])
            .macros_exact(MacroStage::EndOfHeaders, ["i"])
            .macros_exact(MacroStage::EndOfMessage, ["i", "{msg_id}"]),
        Needs::all()
            .without(Stage::Helo)
            .without(Stage::Rcpt)
            .without(Stage::Connect),
        Needs::none()
            .record(Stage::Mail)
            .event(Stage::Rcpt)
            .record(Stage::Header)
            .event(Stage::Body)
            .optional_action(Actions::CHANGES),
    ]
}

#[tokio::test]
async fn a_filter_that_goes_on() {
    for needs in wants() {
        compare(|| Backend::going_on(needs.clone())).await;
    }
}

fn header(name: &'static str, index: u32, value: &'static str) -> Reply {
    Reply::Modify(Modification::change_header(name, index, value).unwrap())
}

fn delete(name: &'static str, index: u32) -> Reply {
    Reply::Modify(Modification::delete_header(name, index).unwrap())
}

/// Every modification, in an order that no careful filter would choose.
fn edits() -> Vec<Reply> {
    let add = |name: &str, value: &str| Modification::add_header(name, value).unwrap();
    let mut edits = vec![
        delete("X-Old", 1),
        delete("X-Old", 2),
        header("Subject", 1, "Changed"),
        Reply::Modify(add("X-New", "yes")),
        Reply::Modify(Modification::insert_header(0, "X-Top", "first").unwrap()),
        Reply::Progress,
    ];
    for piece in ["a".repeat(50_000), "b".repeat(60_000), "end\r\n".into()] {
        edits.push(Reply::Modify(Modification::replace_body(piece)));
    }
    edits.extend(
        [
            Modification::change_sender("<new@example.org>").unwrap(),
            Modification::change_sender_with_args("<newer@example.org>", "RET=HDRS").unwrap(),
            Modification::add_recipient("<added@example.net>").unwrap(),
            Modification::add_recipient_with_args("<args@example.net>", "NOTIFY=NEVER").unwrap(),
            Modification::delete_recipient("<c@example.net>").unwrap(),
            Modification::quarantine("to be looked at").unwrap(),
        ]
        .map(Reply::Modify),
    );
    edits
}

#[tokio::test]
async fn a_filter_that_changes_everything() {
    for (at, needs) in wants().into_iter().enumerate() {
        if at == 3 {
            continue;
        }
        compare(|| {
            Backend::new(needs.clone(), |_, command| {
                if is_at(command, Stage::EndOfMessage) {
                    let mut replies = edits();
                    replies.push(Reply::Continue);
                    return Act::Say(replies);
                }
                Act::Go
            })
        })
        .await;
    }
}

#[tokio::test]
async fn a_filter_that_says_everything() {
    let verdicts = [
        Reply::Accept,
        Reply::Reject,
        Reply::TempFail,
        Reply::Discard,
        Reply::Smtp(SmtpReply::reject("Not this one")),
        Reply::Smtp(
            SmtpReply::builder(421)
                .line("Go away")
                .line("and come back")
                .build()
                .unwrap(),
        ),
        Reply::Skip,
        Reply::InvalidSmtp(b"5xx nonsense"[..].into()),
    ];
    let stages = [
        Stage::Connect,
        Stage::Helo,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Header,
        Stage::EndOfHeaders,
        Stage::Body,
        Stage::EndOfMessage,
    ];
    for verdict in verdicts {
        for stage in stages {
            let odd = match &verdict {
                // What no MTA can take there is not passed on (C61).
                Reply::Discard => stage <= Stage::Helo,
                Reply::Skip => stage != Stage::Body,
                _ => false,
            };
            if odd {
                continue;
            }
            let verdict = verdict.clone();
            // What was not offered is not passed on, though the filter keeps to it.
            let knows_it = |profile: &MtaProfile| {
                verdict != Reply::Skip || profile.name() != MtaProfile::version_2().name()
            };
            let profiles: Vec<MtaProfile> = profiles().into_iter().filter(knows_it).collect();
            compare_in(profiles, move || {
                let verdict = verdict.clone();
                Backend::new(Needs::all().skip(), move |_, command| {
                    let is_meant = match command {
                        Command::Rcpt(to) => to.mailbox() == "refused@example.net",
                        Command::Header(header) => header.name() == "X-Old",
                        _ => true,
                    };
                    if is_at(command, stage) && is_meant {
                        verdict.clone().into()
                    } else {
                        Act::Go
                    }
                })
            })
            .await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn progress_reaches_the_mta() {
    // Sooner than the server would tell it by itself.
    let soon = Duration::from_millis(300);
    let backend = Backend::new(Needs::all(), move |_, command| {
        if is_at(command, Stage::EndOfMessage) {
            return Act::SayLater(soon, vec![Reply::Progress, Reply::Progress, Reply::Accept]);
        }
        Act::Go
    });
    let (mut mta, run) = crate::common::start(backend.remote());
    mta.greet().await;
    assert_eq!(mta.message_but_its_end().await, "McRcTcUcLcNcBc");
    let (meanwhile, verdict) = mta.end().await;
    assert_eq!(meanwhile, [Reply::Progress, Reply::Progress]);
    assert_eq!(verdict, Reply::Accept);
    mta.quit(run).await;
}

#[tokio::test]
async fn c26_steps_without_replies_are_told_in_order() {
    let backend = Backend::going_on(silent());
    let (mut mta, run) = crate::common::start(backend.remote());
    mta.negotiate().await;
    let mut commands = vec![crate::common::connect(), crate::common::helo()];
    for _ in 0..3 {
        commands.push(crate::common::mail());
        commands.push(crate::common::rcpt("<b@example.net>"));
        commands.push(Command::Data);
        for at in 0..500 {
            commands.push(Command::Header(Header::new("X-Many", format!(" {at}"))));
        }
        commands.push(Command::EndOfHeaders);
        for _ in 0..20 {
            commands.push(crate::common::body(vec![b'x'; 65_535]));
        }
        commands.push(crate::common::eom());
    }
    for command in &commands {
        mta.send(command.clone()).await;
        if is_at(command, Stage::EndOfMessage) {
            assert_eq!(mta.reply().await, Reply::Continue);
        }
    }
    mta.quit(run).await;
    assert_eq!(backend.open().await, 0);
    let told = backend.seen(1);
    assert_eq!(told[1..told.len() - 1], commands);
}

/// A layer around that wants header values as they are, which the backend does not.
#[tokio::test]
async fn leading_space_is_for_who_asked_for_it() {
    for needs in [Needs::all(), Needs::all().leading_space()] {
        let asks_for_it = needs.abilities().contains(Steps::LEADING_SPACE);
        let backend = Backend::new(needs, move |_, command| {
            if is_at(command, Stage::EndOfMessage) {
                let space = if asks_for_it { " " } else { "" };
                let value = format!("{space}yes");
                let add = Modification::add_header("X-New", value).unwrap();
                return Act::Say(vec![Reply::Modify(add), Reply::Accept]);
            }
            Act::Go
        });
        let widened = tower::ServiceBuilder::new()
            .map_response(|response: Response| match response.needs_asked() {
                Some(_) => response.widen(&Needs::none().leading_space()),
                None => response,
            })
            .service(backend.remote());
        let (mut mta, run) = crate::common::start(widened);
        mta.greet().await;
        mta.ask(crate::common::mail()).await;
        mta.ask(crate::common::rcpt("<b@example.net>")).await;
        for value in ["  two", " one", "none"] {
            mta.ask(Command::Header(Header::new("Subject", value)))
                .await;
        }
        mta.ask(Command::EndOfHeaders).await;
        let (edits, _) = mta.end().await;
        let add = Modification::add_header("X-New", " yes").unwrap();
        assert_eq!(edits, [Reply::Modify(add)]);
        mta.quit(run).await;
        assert_eq!(backend.open().await, 0);
        let told = backend.seen(1);
        let values = told.iter().filter_map(|command| match command {
            Command::Header(header) => Some(header.value().to_string()),
            _ => None,
        });
        let shown = if asks_for_it {
            ["  two", " one", "none"]
        } else {
            [" two", "one", "none"]
        };
        assert_eq!(values.collect::<Vec<_>>(), shown);
    }
}
