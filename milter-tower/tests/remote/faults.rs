//! What goes wrong with a backend, at each stage (D6): the verdict is known, the next message works,
//! nothing is left over.

use std::time::Duration;

use milter_core::{Needs, Reply};
use milter_tower::testing::{Mail, MockMta};
use milter_tower::{BoxError, OnFailure, OnRemoteFailure, Request, Response, Settings, Stage};
use tower::Service;

use crate::backend::{Act, Backend, is_at, settled, silent};

/// How a backend fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    /// It closes the connection.
    Dies,
    /// It says nothing.
    Hangs,
    /// It writes what is no frame.
    Garbles,
    /// It writes a part of a frame, and no more.
    Stops,
    /// It says what means nothing there.
    Babbles,
    /// It answers twice.
    Repeats,
}

const HOW: [How; 6] = [
    How::Dies,
    How::Hangs,
    How::Garbles,
    How::Stops,
    How::Babbles,
    How::Repeats,
];

impl How {
    fn act(self) -> Act {
        match self {
            Self::Dies => Act::Die,
            Self::Hangs => Act::Hang,
            Self::Garbles => Act::Write(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
            Self::Stops => Act::Write(b"\0\0"),
            Self::Babbles => Reply::Negotiate(milter_core::OfferReply {
                version: 6,
                actions: milter_core::Actions::empty(),
                steps: milter_core::Steps::empty(),
                macros: milter_core::MacroLists::default(),
            })
            .into(),
            Self::Repeats => Act::Say(vec![Reply::Continue, Reply::Continue]),
        }
    }
}

const STAGES: [Stage; 9] = [
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

/// Two recipients, so that something comes after the first.
fn mail() -> Mail {
    Mail::new()
        .from("a@example.org")
        .to("b@example.net")
        .to("c@example.net")
        .body("text\r\n")
}

/// A backend whose first connection fails at a stage.
fn failing(needs: Needs, how: How, stage: Stage) -> Backend {
    let failed = std::sync::atomic::AtomicBool::new(false);
    Backend::new(needs, move |number, command| {
        let fails = number == 1 && is_at(command, stage);
        if fails && !failed.swap(true, std::sync::atomic::Ordering::SeqCst) {
            how.act()
        } else {
            Act::Go
        }
    })
}

/// Whether the failure is found before anything of a message depends on it.
fn is_mended(how: How, stage: Stage) -> bool {
    match how {
        // Nothing was told of the message before.
        How::Dies => stage <= Stage::Mail,
        // Found when the next thing begins.
        How::Repeats => stage <= Stage::Helo,
        _ => false,
    }
}

async fn check<S>(backend: &Backend, filter: S, how: How, stage: Stage, logged: usize)
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    let case = format!("{how:?} at {stage}");
    let mut mta = MockMta::postfix(filter);
    let mut session = mta.open().await;
    let first = session.deliver(mail()).await;
    let failures = &first.failures;
    if is_mended(how, stage) {
        assert!(first.is_accepted(), "{case}: {first}");
        assert!(failures.is_empty(), "{case}: {first}");
    } else {
        let code = first.reply().map(milter_tower::SmtpReply::code);
        assert!(first.is_refused(), "{case}: {first}");
        assert_eq!(code, Some(451), "{case}: {first}");
        assert_eq!(failures.len(), logged, "{case}: {failures:?}");
        let names_it = failures.iter().all(|failure| failure.contains("backend"));
        assert!(names_it, "{case}: {failures:?}");
    }
    let next = session.deliver(mail()).await;
    if stage <= Stage::Helo && first.is_refused() {
        // The MTA has given up on the session.
        assert!(next.is_refused(), "{case}: {next}");
    } else {
        assert!(next.is_accepted(), "{case}: {next}");
        assert!(next.failures.is_empty(), "{case}: {next}");
    }
    session.quit().await;
    let another = mta.deliver(mail()).await;
    assert!(another.is_accepted(), "{case}: {another}");

    // One that hangs does not read that its connection was closed.
    let hung = usize::from(how == How::Hangs);
    assert_eq!(backend.open().await, hung, "{case}");
    let told = backend.letters(1);
    assert_eq!(told.matches('O').count(), 1, "{case}: {told}");
    assert!(!told.contains('Q'), "{case}: {told}");
    let last = backend.letters(backend.connections());
    assert_eq!(
        last,
        "OCHMRRTLLLLLNBEQ".replace("LLLLL", &headers()),
        "{case}"
    );
    if backend.connections() == 3 {
        // Who the client is was shown again.
        let second = backend.letters(2);
        assert!(second.starts_with("OCHMRRT"), "{case}: {second}");
        assert!(second.ends_with("EQ"), "{case}: {second}");
        assert!(!second.contains('A'), "{case}: {second}");
    }
}

fn headers() -> String {
    "L".repeat(mail().headers().iter().count())
}

#[tokio::test(start_paused = true)]
async fn c77_c83_a_backend_fails_at_each_stage() {
    for how in HOW {
        for stage in STAGES {
            let backend = failing(Needs::all(), how, stage);
            check(&backend, backend.remote(), how, stage, 1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_fails_within_a_chain() {
    for how in HOW {
        for stage in STAGES {
            let backend = failing(Needs::all(), how, stage);
            let chain = milter_tower::Chain::new().with("remote", backend.remote());
            // The chain logs it.
            check(&backend, chain, how, stage, 0).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_backend_without_replies_fails_at_each_stage() {
    for how in HOW {
        for stage in STAGES {
            // Who says nothing where nothing is due does not fail.
            if how == How::Hangs && stage != Stage::EndOfMessage {
                continue;
            }
            let backend = failing(silent(), how, stage);
            let mut mta = MockMta::postfix(backend.remote());
            let mut session = mta.open().await;
            let first = session.deliver(mail()).await;
            let case = format!("{how:?} at {stage}: {first}");
            assert!(first.failures.len() <= 1, "{case}");
            if first.is_accepted() {
                assert!(is_mended(how, stage), "{case}");
            } else {
                assert_eq!(first.reply().unwrap().code(), 451, "{case}");
                assert_eq!(first.failures.len(), 1, "{case}");
            }
            let next = session.deliver(mail()).await;
            assert!(next.is_accepted(), "{case}\nand then {next}");
            session.quit().await;
            let hung = usize::from(how == How::Hangs);
            assert_eq!(backend.open().await, hung, "{case}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_policy_says_what_the_client_hears() {
    for how in [How::Dies, How::Hangs, How::Garbles] {
        for stage in STAGES {
            for (policy, code) in [
                (OnRemoteFailure::from(OnFailure::Reject), Some(550)),
                (OnFailure::TempFail.into(), Some(451)),
                (OnRemoteFailure::LeaveOut, None),
            ] {
                let case = format!("{how:?} at {stage}: {policy:?}");
                let backend = failing(Needs::all(), how, stage);
                let mut mta = MockMta::postfix(backend.remote().on_failure(policy));
                let done = mta.deliver(mail()).await;
                let code = code.filter(|_| !is_mended(how, stage));
                let heard = done.reply().map(milter_tower::SmtpReply::code);
                assert_eq!(heard, code, "{case}: {done}");
                assert_eq!(done.is_accepted(), code.is_none(), "{case}: {done}");
                assert!(done.failures.is_empty(), "told by itself: {case}: {done}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_servers_policy_holds_for_the_whole_message() {
    // A refused recipient leaves the message open.
    let backend = failing(Needs::all(), How::Garbles, Stage::Rcpt);
    let settings = Settings::new().on_failure(OnFailure::Reject);
    let mut mta = MockMta::postfix(backend.remote()).settings(settings);
    let done = mta.deliver(mail()).await;
    let codes = done
        .answers
        .iter()
        .filter_map(|answer| answer.reply.as_ref());
    let codes: Vec<u16> = codes.map(milter_tower::SmtpReply::code).collect();
    assert_eq!(codes, [550, 550], "{done}");
    assert_eq!(done.failures.len(), 1, "{done}");
}

#[tokio::test(start_paused = true)]
async fn its_own_time_outs_are_kept() {
    let backend = failing(Needs::all(), How::Hangs, Stage::Rcpt);
    let times = milter_tower::client::Timeouts::postfix().command(Duration::from_secs(2));
    let mut mta = MockMta::postfix(backend.remote().timeouts(times));
    let began = tokio::time::Instant::now();
    let done = mta.deliver(mail()).await;
    assert!(done.is_refused(), "{done}");
    assert_eq!(began.elapsed().as_secs(), 2, "{done}");
    assert!(done.failures[0].contains("in time"), "{done}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_names_the_backend() {
    let backend = failing(Needs::all(), How::Hangs, Stage::Rcpt);
    let mut mta = MockMta::postfix(backend.remote());
    let began = tokio::time::Instant::now();
    let done = mta.deliver(mail()).await;
    assert_eq!(began.elapsed().as_secs(), 25, "{done}");
    assert!(done.failures[0].contains("backend"), "{done}");
    assert!(done.failures[0].contains("deadline"), "{done}");
}

/// A layer drops the call, and the server knows nothing of it.
#[tokio::test(start_paused = true)]
async fn a_call_that_a_layer_drops_fails_that_message_alone() {
    let late = Duration::from_secs(3);
    for stage in STAGES {
        let backend = Backend::new(Needs::all(), move |number, command| {
            if number == 1 && is_at(command, stage) {
                return Act::SayLater(late, vec![Reply::Accept]);
            }
            Act::Go
        });
        let filter = tower::ServiceBuilder::new()
            .timeout(Duration::from_secs(2))
            .service(backend.remote());
        let mut mta = MockMta::postfix(filter);
        let mut session = mta.open().await;
        let first = session.deliver(mail()).await;
        assert_eq!(first.reply().unwrap().code(), 451, "{stage}: {first}");
        if stage > Stage::Helo {
            let next = session.deliver(mail()).await;
            assert!(
                next.is_accepted() && next.failures.is_empty(),
                "{stage}: {next}"
            );
            assert_eq!(backend.connections(), 2, "{stage}");
        }
        session.quit().await;
        tokio::time::sleep(late).await;
        assert_eq!(backend.open().await, 0, "{stage}");
        assert!(!backend.letters(1).contains(['A', 'Q']), "{stage}");
    }
}

/// A reply to a step without one, which comes while others wait to be written, is not taken for the
/// answer to the next step: the verdict would be that of another one.
#[tokio::test(start_paused = true)]
async fn c26_a_reply_that_is_not_due_is_no_answer_to_what_comes_next() {
    let needs = Needs::none()
        .record(Stage::Header)
        .event(Stage::EndOfMessage);
    let soon = Duration::from_secs(1);
    let backend = Backend::new(needs, move |_, command| match command.stage() {
        Some(Stage::Header) => Act::SayLater(soon, vec![Reply::Continue]),
        Some(Stage::EndOfMessage) => Act::SayLater(soon, vec![Reply::Reject]),
        _ => Act::Go,
    });
    let (mut mta, run) = crate::common::start(backend.remote());
    mta.negotiate().await;
    // More than is piled up, so that it hears of these; and one that waits to be written.
    for size in [9_000, 10] {
        let header = milter_core::Header::new("X-Large", "x".repeat(size));
        mta.send(milter_core::Command::Header(header)).await;
        settled().await;
    }
    tokio::time::sleep(2 * soon).await;
    assert_eq!(mta.ask(crate::common::eom()).await, Reply::TempFail);
    mta.quit(run).await;
}
