//! Each end is told where it is due, once (D5).

use std::time::Duration;

use milter_core::{Command, Needs, Reply};
use milter_tower::testing::{Mail, MockMta};
use milter_tower::{Actions, Chain, OnFailure, Router, Settings, SmtpReply, Stage};

use crate::backend::{Act, Backend, is_at, settled, silent};
use crate::common::{connect, ended, eom, helo, macros, mail, rcpt, start, start_with, unknown};

#[tokio::test]
async fn c79_an_abort_is_told_once_and_only_if_it_is_owed() {
    let backend = Backend::going_on(Needs::all());
    let (mut mta, run) = start(backend.remote());
    mta.greet().await;
    // Postfix sends them after everything (Q3).
    mta.send_all([Command::Abort, Command::Abort]).await;
    mta.ask(mail()).await;
    mta.ask(rcpt("<b@example.net>")).await;
    mta.send_all([Command::Abort, Command::Abort]).await;
    settled().await;
    assert_eq!(backend.letters(1), "OCHMRA", "told at once");
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.ask(mail()).await;
    // HELO ends a message, too (Q5).
    mta.ask(helo()).await;
    mta.ask(mail()).await;
    mta.quit(run).await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.letters(1), "OCHMRAMRTULNBEMAHMAQ");
}

#[tokio::test]
async fn a_filter_that_decided_hears_no_abort() {
    for reply in [Reply::Accept, Reply::Reject, Reply::Discard] {
        let verdict = reply.clone();
        let backend = Backend::new(Needs::all(), move |_, command| {
            if is_at(command, Stage::Mail) {
                verdict.clone().into()
            } else {
                Act::Go
            }
        });
        let (mut mta, run) = start(backend.remote());
        mta.greet().await;
        for _ in 0..2 {
            assert_eq!(mta.ask(mail()).await, reply);
            mta.send(Command::Abort).await;
        }
        mta.quit(run).await;
        assert_eq!(backend.open().await, 0);
        assert_eq!(backend.letters(1), "OCHMMQ", "{reply:?}");
    }
}

#[tokio::test]
async fn the_mta_goes_away() {
    let backend = Backend::going_on(Needs::all());
    let (mut mta, run) = start(backend.remote());
    mta.greet().await;
    mta.ask(mail()).await;
    drop(mta);
    let _ = ended(run).await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.letters(1), "OCHMAQ");
}

#[tokio::test(start_paused = true)]
async fn the_mta_goes_away_while_the_backend_is_asked() {
    let soon = Duration::from_secs(1);
    let backend = Backend::new(Needs::all(), move |_, command| {
        if is_at(command, Stage::Rcpt) {
            return Act::SayLater(soon, vec![Reply::Continue]);
        }
        Act::Go
    });
    let (mut mta, run) = start(backend.remote());
    mta.greet().await;
    mta.ask(mail()).await;
    mta.send(rcpt("<b@example.net>")).await;
    settled().await;
    drop(mta);
    let _ = ended(run).await;
    // It is in the middle of something: there is nothing to be said to it.
    tokio::time::sleep(soon).await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.letters(1), "OCHMR");
}

#[tokio::test]
async fn another_session_gets_another_connection() {
    let backend = Backend::going_on(Needs::all());
    let (mut mta, run) = start(backend.remote());
    mta.greet().await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.send(Command::QuitNewConnection).await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.letters(1), "OCHMRTULNBEQ");
    assert_eq!(backend.letters(2), "OCMRTULNBEQ");
}

#[tokio::test]
async fn another_session_over_the_same_connection_where_that_is_asked_for() {
    let backend = Backend::going_on(Needs::all());
    let (mut mta, run) = start(backend.remote().quit_new_connection(true));
    mta.greet().await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.send(Command::QuitNewConnection).await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.letters(1), "OCHMRTULNBEKCMRTULNBEQ");
}

#[tokio::test]
async fn a_clone_is_a_fresh_one() {
    let backend = Backend::going_on(Needs::all());
    let remote = backend.remote();
    let (mut first, first_run) = start(remote.clone());
    first.greet().await;
    let (mut second, second_run) = start(remote.clone());
    second.greet().await;
    assert_eq!(first.message().await, "McRcTcUcLcNcBcEc");
    first.quit(first_run).await;
    assert_eq!(second.message().await, "McRcTcUcLcNcBcEc");
    second.quit(second_run).await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.connections(), 2);
    assert_eq!(backend.letters(1), backend.letters(2));
}

/// In a chain another member refuses, and the backend hears that it was for nothing.
#[tokio::test]
async fn another_member_refuses() {
    let backend = Backend::going_on(Needs::all());
    let refuses = Router::new().on_data(async || SmtpReply::reject("No"));
    let chain = Chain::new()
        .with("remote", backend.remote())
        .with("refuses", refuses);
    let done = MockMta::postfix(chain).deliver(Mail::new()).await;
    assert_eq!(done.ended_at, Some(Stage::Data), "{done}");
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.letters(1), "OCHMRTAQ");
}

/// What was queued of silent steps reaches the backend also when nothing else does.
#[tokio::test]
async fn silent_steps_are_written_at_the_end() {
    let backend = Backend::going_on(silent());
    let (mut mta, run) = start(backend.remote());
    mta.negotiate().await;
    mta.send_all([connect(), helo(), mail()]).await;
    mta.send_all([Command::Abort, Command::Quit]).await;
    mta.closed().await;
    ended(run).await.expect("a good end");
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.letters(1), "OCHMAQ");
}

/// The backend hears macros of what it declined, too, and each stage's own.
#[tokio::test]
async fn q2_macros_of_each_stage_as_they_were_asked_for() {
    let needs = Needs::none()
        .event(Stage::Rcpt)
        .optional_action(Actions::CHANGES)
        .macros_exact(milter_tower::MacroStage::Mail, ["{auth_authen}"]);
    let backend = Backend::going_on(needs);
    let (mut mta, run) = start(backend.remote());
    mta.negotiate().await;
    let stage = milter_tower::MacroStage::Connect;
    mta.send_all([
        macros(stage, [("j", "mx"), ("{daemon_name}", "smtp")]),
        macros(
            milter_tower::MacroStage::Helo,
            [("{tls_version}", "TLSv1.3")],
        ),
    ])
    .await;
    for user in ["alice", "bob"] {
        // More than was asked for, as another filter around may have asked for it.
        let pairs = [("i", "4X"), ("{auth_authen}", user)];
        mta.send(macros(milter_tower::MacroStage::Mail, pairs))
            .await;
        for to in ["<b@example.net>", "<c@example.net>"] {
            mta.send(macros(
                milter_tower::MacroStage::Rcpt,
                [("{rcpt_addr}", to)],
            ))
            .await;
            assert_eq!(mta.ask(rcpt(to)).await, Reply::Continue);
        }
        assert_eq!(mta.ask(eom()).await, Reply::Continue);
    }
    mta.quit(run).await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.macros(1, b'C'), ["j=mx {daemon_name}=smtp"]);
    assert_eq!(backend.macros(1, b'H'), ["{tls_version}=TLSv1.3"]);
    assert_eq!(
        backend.macros(1, b'M'),
        ["{auth_authen}=alice", "{auth_authen}=bob"]
    );
    assert_eq!(backend.macros(1, b'R').len(), 4);
    let letters: String = backend
        .seen(1)
        .iter()
        .map(|one| char::from(one.code()))
        .collect();
    assert_eq!(letters, "ODDDDRDREDDRDREQ");
}

/// Skip and shutdown mean what they mean to an MTA.
#[tokio::test]
async fn q9_q10_a_skip_of_headers_and_a_shutdown() {
    let backend = Backend::new(Needs::all(), |_, command| match command.code() {
        b'L' => Reply::Skip.into(),
        b'B' => Reply::Shutdown.into(),
        _ => Act::Go,
    });
    let (mut mta, run) = start(backend.remote());
    mta.greet().await;
    mta.ask(mail()).await;
    mta.ask(rcpt("<b@example.net>")).await;
    for _ in 0..3 {
        assert_eq!(mta.ask(crate::common::header()).await, Reply::Continue);
    }
    assert_eq!(mta.ask(Command::EndOfHeaders).await, Reply::Continue);
    let Reply::Smtp(reply) = mta.ask(crate::common::body("text")).await else {
        panic!("no reply");
    };
    assert_eq!(reply.code(), 421);
    mta.send(Command::Abort).await;
    // It holds for the rest of the session.
    let Reply::Smtp(reply) = mta.ask(mail()).await else {
        panic!("no reply");
    };
    assert_eq!(reply.code(), 421);
    mta.quit(run).await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.letters(1), "OCHMRLNBQ");
}

/// What happens between messages is replaced before the next one.
#[tokio::test(start_paused = true)]
async fn an_unknown_command_that_is_not_answered() {
    let backend = Backend::new(Needs::all(), |number, command| {
        if number == 1 && is_at(command, Stage::Unknown) {
            Act::Hang
        } else {
            Act::Go
        }
    });
    let settings = Settings::new().on_failure(OnFailure::Reject);
    let (mut mta, run) = start_with(backend.remote(), settings);
    mta.greet().await;
    assert_eq!(mta.ask(unknown()).await, Reply::Reject);
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(backend.letters(2), "OCHMRTULNBEQ");
}
