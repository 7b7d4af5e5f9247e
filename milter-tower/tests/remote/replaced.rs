//! Backends in the place of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use milter_core::{Command, Needs, Reply};
use milter_tower::testing::{Mail, MockMta};
use milter_tower::{Actions, MacroStage, Stage};

use crate::backend::{Act, Backend, is_at};
use crate::common::{Mta, connect, helo, macros, mail, start};

/// A backend whose first connection ends after the first message.
fn lost(needs: Needs) -> Backend {
    Backend::new(needs, |number, command| {
        if number == 1 && is_at(command, Stage::EndOfMessage) {
            // The answer, and then nothing: as one that is restarted.
            return Act::SayAndDie(vec![Reply::Accept]);
        }
        Act::Go
    })
}

async fn greet_with_macros(mta: &mut Mta) {
    mta.negotiate().await;
    mta.send(macros(MacroStage::Connect, [("j", "mx")])).await;
    mta.ask(connect()).await;
    mta.send(macros(MacroStage::Helo, [("{cipher}", "AES")]))
        .await;
    mta.ask(helo()).await;
}

#[tokio::test]
async fn a_lost_one_is_replaced_and_told_who_the_client_is() {
    let backend = lost(Needs::all());
    let (mut mta, run) = start(backend.remote());
    greet_with_macros(&mut mta).await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEa");
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.letters(1), "OCHMRTULNBE");
    assert_eq!(backend.letters(2), "OCHMRTULNBEMRTULNBEQ");
    assert_eq!(backend.seen(1)[0], backend.seen(2)[0], "the same offer");
    assert_eq!(backend.macros(2, b'C'), ["j=mx"]);
    assert_eq!(backend.macros(2, b'H'), ["{cipher}=AES"]);
}

#[tokio::test]
async fn one_is_replaced_at_helo_too() {
    let backend = lost(Needs::all());
    let (mut mta, run) = start(backend.remote());
    mta.greet().await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEa");
    assert_eq!(mta.ask(helo()).await, Reply::Continue);
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(backend.letters(2), "OCHMRTULNBEQ");
}

#[tokio::test]
async fn one_that_asks_for_less_does_as_well() {
    let backend = lost(Needs::all()).asking(|number| match number {
        1 => Needs::all().optional_action(Actions::CHANGES),
        _ => Needs::none()
            .event(Stage::Rcpt)
            .action(Actions::ADD_HEADERS),
    });
    let (mut mta, run) = start(backend.remote());
    mta.greet().await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEa");
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
    assert_eq!(backend.letters(2), "OREQ");
}

#[tokio::test]
async fn one_that_asks_for_more_is_refused_and_all_mail_after_it() {
    let more = [
        Needs::none().event(Stage::Body),
        Needs::none()
            .event(Stage::Rcpt)
            .action(Actions::CHANGE_BODY),
        Needs::none().event(Stage::Rcpt).leading_space(),
        // What it asks for is not told.
        Needs::none()
            .event(Stage::Rcpt)
            .macros_exact(MacroStage::Mail, ["{auth_type}", "{auth_authen}"]),
    ];
    for more in more {
        let backend = lost(Needs::all()).asking(move |number| match number {
            1 => Needs::none()
                .event(Stage::Rcpt)
                .event(Stage::Mail)
                .macros_exact(MacroStage::Mail, ["{auth_type}", "i"]),
            _ => more.clone(),
        });
        let mut mta = MockMta::postfix(backend.remote());
        let mut session = mta.open().await;
        assert!(session.deliver(Mail::new()).await.is_accepted());
        let done = session.deliver(Mail::new()).await;
        assert_eq!(done.reply().unwrap().code(), 451, "{done}");
        assert_eq!(done.failures.len(), 1, "{done}");
        let done = session.deliver(Mail::new()).await;
        assert_eq!(done.reply().unwrap().code(), 451, "{done}");
        assert!(done.failures.is_empty(), "it was told: {done}");
        session.quit().await;
        assert_eq!(backend.letters(2), "OQ");
        assert_eq!((backend.connections(), backend.open().await), (2, 0));
    }
}

#[tokio::test]
async fn what_the_new_one_says_of_the_client_holds() {
    for (reply, stage) in [
        (Reply::Reject, Stage::Connect),
        (Reply::TempFail, Stage::Helo),
        (Reply::Accept, Stage::Connect),
    ] {
        let said = reply.clone();
        let backend = Backend::new(Needs::all(), move |number, command| {
            match (number, command.stage()) {
                (1, Some(Stage::EndOfMessage)) => Act::SayAndDie(vec![Reply::Continue]),
                (2, Some(at)) if at == stage => said.clone().into(),
                _ => Act::Go,
            }
        });
        let (mut mta, run) = start(backend.remote());
        mta.greet().await;
        assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
        for _ in 0..2 {
            assert_eq!(mta.ask(mail()).await, reply);
            mta.send(Command::Abort).await;
        }
        mta.quit(run).await;
        assert_eq!(backend.open().await, 0);
        let told = if stage == Stage::Connect {
            "OCQ"
        } else {
            "OCHQ"
        };
        assert_eq!(backend.letters(2), told);
    }
}

#[tokio::test]
async fn none_to_replace_it_fails_that_message_only() {
    let backend = lost(Needs::all()).refusing(|tried| tried == 2);
    let mut mta = MockMta::postfix(backend.remote());
    let mut session = mta.open().await;
    assert!(session.deliver(Mail::new()).await.is_accepted());
    let done = session.deliver(Mail::new()).await;
    assert_eq!(done.reply().unwrap().code(), 451, "{done}");
    assert_eq!(done.ended_at, Some(Stage::Mail), "{done}");
    assert_eq!(done.failures.len(), 1, "{done}");
    assert!(session.deliver(Mail::new()).await.is_accepted());
    session.quit().await;
    assert_eq!(backend.open().await, 0);
    assert_eq!(backend.tried(), 3);
}

#[tokio::test]
async fn the_new_one_fails_while_it_is_told_who_the_client_is() {
    let backend = Backend::new(Needs::all(), |number, command| {
        match (number, command.code()) {
            (1, b'E') => Act::SayAndDie(vec![Reply::Continue]),
            (2, b'H') => Act::Die,
            _ => Act::Go,
        }
    });
    let mut mta = MockMta::postfix(backend.remote());
    let mut session = mta.open().await;
    assert!(session.deliver(Mail::new()).await.is_accepted());
    let done = session.deliver(Mail::new()).await;
    assert_eq!(done.reply().unwrap().code(), 451, "{done}");
    assert_eq!(done.failures.len(), 1, "{done}");
    assert!(session.deliver(Mail::new()).await.is_accepted());
    session.quit().await;
    assert_eq!(backend.connections(), 3);
}

/// That it is gone may be seen only once it does not answer.
#[tokio::test]
async fn one_that_dies_of_the_first_question_is_replaced_once() {
    let always = Arc::new(AtomicBool::new(false));
    for dies_always in [false, true] {
        always.store(dies_always, Ordering::SeqCst);
        let always = Arc::clone(&always);
        let backend = Backend::new(Needs::all(), move |number, command| {
            if is_at(command, Stage::Mail) && (number == 1 || always.load(Ordering::SeqCst)) {
                Act::Die
            } else {
                Act::Go
            }
        });
        let mut mta = MockMta::postfix(backend.remote());
        let done = mta.deliver(Mail::new()).await;
        assert_eq!(done.is_accepted(), !dies_always, "{done}");
        assert_eq!(done.failures.len(), usize::from(dies_always), "{done}");
        assert_eq!(backend.connections(), 2);
    }
}
