//! What is asked of the MTA.

use milter_core::{Needs, Offer, negotiate};
use milter_tower::message::{
    DecideAt, Incoming, Message, MessageFilter, message, message_streaming,
};
use milter_tower::{
    Actions, Agreement, Event, MacroStage, Peer, PeerAddr, Recipient, ReplyMode, Request, Session,
    SmtpReply, Stage, Steps,
};
use tower::ServiceExt;

use Stage::{Body, Connect, Data, EndOfHeaders, Header, Helo, Mail, Rcpt, Unknown};

async fn agreed<B: Send + 'static>(filter: MessageFilter<B>) -> Agreement {
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let request = Request::new(Event::Negotiate(Offer::V6), session);
    let response = filter.oneshot(request).await.unwrap();
    let needs: &Needs = response.needs_asked().unwrap();
    negotiate(&Offer::V6, needs).unwrap()
}

fn filter() -> MessageFilter {
    message(async |mail: Message| mail)
}

/// The stages that come without a reply, those that have one, and those that do not come.
fn check(agreement: &Agreement, silent: &[Stage], answered: &[Stage]) {
    for stage in [
        Connect,
        Helo,
        Mail,
        Rcpt,
        Data,
        Unknown,
        Header,
        EndOfHeaders,
        Body,
    ] {
        let is_sent = !agreement.steps().contains(stage.declining().unwrap());
        let is_answered = agreement.reply_mode(stage) == ReplyMode::Verdict;
        assert_eq!(is_answered && is_sent, answered.contains(&stage), "{stage}");
        assert_eq!(!is_answered && is_sent, silent.contains(&stage), "{stage}");
    }
}

#[tokio::test]
async fn a_message_is_written_down_without_replies() {
    let agreement = agreed(filter()).await;
    check(&agreement, &[Connect, Helo, Mail, Rcpt, Header, Body], &[]);
    assert_eq!(
        agreement.actions() - Actions::REQUEST_MACROS,
        Actions::CHANGES
    );
    // Sendmail would not tell what it is.
    let mut names = agreement.macros().get(MacroStage::Connect).unwrap();
    assert!(names.any(|name| name == "v"));
    assert!(agreement.leading_space() && !agreement.skip());
    assert!(!agreement.steps().contains(Steps::REJECTED_RECIPIENTS));
}

#[tokio::test]
async fn replies_are_kept_where_they_are_needed() {
    let envelope = [Connect, Helo, Mail];
    let check_of = async |filter, silent: &[Stage], answered: &[Stage]| {
        let silent = [&envelope, silent].concat();
        check(&agreed(filter).await, &silent, answered);
    };
    check_of(filter().without_body(), &[Rcpt, Header], &[]).await;
    check_of(filter().early_verdicts(), &[Rcpt, Header], &[Body]).await;
    check_of(
        filter().decide_at(DecideAt::EndOfHeaders),
        &[Rcpt, Header],
        &[EndOfHeaders],
    )
    .await;
    check_of(filter().decide_at(DecideAt::Data), &[Rcpt], &[Data]).await;
    let checking = filter().check_rcpt(async |_: Recipient, _: Session| None::<SmtpReply>);
    check_of(checking, &[Header, Body], &[Rcpt]).await;
    // One that never refuses needs no reply.
    let counting = filter().check_rcpt(async |_: Recipient, _: Session| {});
    check_of(counting, &[Rcpt, Header, Body], &[]).await;
    assert!(agreed(filter().early_verdicts()).await.skip());

    let streaming = message_streaming(async |mail: Message<Incoming>| mail);
    let agreement = agreed(streaming.clone()).await;
    let all = [Connect, Helo, Mail, Rcpt, Header, EndOfHeaders, Body];
    check(&agreement, &all, &[]);
    let agreement = agreed(streaming.early_verdicts()).await;
    check(&agreement, &all[..5], &all[5..]);
    assert!(agreement.skip());
}

#[tokio::test]
async fn actions_and_macros_are_as_they_are_set() {
    let narrow = agreed(filter().actions(Actions::QUARANTINE)).await;
    let asked = Actions::REQUEST_MACROS;
    assert_eq!(narrow.actions() - asked, Actions::QUARANTINE);
    assert_eq!(agreed(filter().read_only()).await.actions(), asked);
    let asks = agreed(filter().macros(MacroStage::Mail, ["{mail_host}"])).await;
    let mut names = asks.macros().get(MacroStage::Mail).unwrap();
    assert!(names.any(|name| name == "{mail_host}"));
}
