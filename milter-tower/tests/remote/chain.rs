//! A filter elsewhere as a member of a chain.

use milter_core::{Command, Needs, OfferReply, Reply};
use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{
    Actions, Chain, Failure, MacroStage, Member, MemberFailure, Message, Modification, Stage,
    Steps, message,
};

use crate::backend::{Act, Backend, is_at, silent};

/// A backend that adds, changes and deletes.
fn editor(needs: Needs) -> Backend {
    Backend::new(needs.optional_action(Actions::CHANGES), |_, command| {
        if !is_at(command, Stage::EndOfMessage) {
            return Act::Go;
        }
        Act::Say(vec![
            Reply::Modify(Modification::delete_header("X-Old", 1).unwrap()),
            Reply::Modify(Modification::change_header("Subject", 1, "From afar").unwrap()),
            Reply::Modify(Modification::add_header("X-Seen", "remote").unwrap()),
            Reply::Modify(Modification::replace_body("new ")),
            Reply::Modify(Modification::replace_body("body\r\n")),
            Reply::Accept,
        ])
    })
}

fn mail() -> Mail {
    Mail::new()
        .header("X-Old", "1")
        .header("X-Old", "2")
        .body("old\r\n")
}

#[tokio::test]
async fn those_behind_see_what_it_changed_and_it_what_those_before_did() {
    for profile in [MtaProfile::postfix(), MtaProfile::sendmail()] {
        for needs in [Needs::all(), silent(), Needs::all().leading_space()] {
            let backend = editor(needs.data_size(milter_tower::DataSize::Kib64));
            let first = message(async |mut mail: Message| {
                mail.headers_mut().append("X-Old", "3");
                mail.accept()
            })
            .actions(Actions::ADD_HEADERS);
            let last = message(async |mut mail: Message| {
                let seen = |name: &str| {
                    let all = mail.headers().get_all(name);
                    let all = all.map(|field| String::from_utf8_lossy(&field.value()).into_owned());
                    all.collect::<Vec<_>>().join(",")
                };
                let seen = format!("{}|{}", seen("X-Old"), seen("Subject"));
                mail.headers_mut().append("X-Last", &seen);
                mail.accept()
            })
            .actions(Actions::ADD_HEADERS);
            let chain = Chain::new()
                .with("first", first)
                .with("remote", backend.remote())
                .with("last", last);
            let done = MockMta::with_profile(profile.clone(), chain)
                .deliver(mail())
                .await;
            assert!(done.is_accepted(), "{done}");
            let headers = done.message.headers();
            assert_eq!(headers.get_str("X-Seen"), Some("remote"), "{done}");
            assert_eq!(headers.get_str("Subject"), Some("From afar"), "{done}");
            assert_eq!(headers.get_all("X-Old").count(), 2, "{done}");
            let last = headers.get_str("X-Last").unwrap();
            assert!(last.ends_with("|From afar"), "{done}");
            assert!(last.contains('2') && last.contains('3'), "{done}");
            assert_eq!(done.message.body(), "new body\r\n", "{done}");
            assert_eq!(backend.open().await, 0);
            let told = backend.seen(1);
            let old = told.iter().filter(
                |command| matches!(command, Command::Header(header) if header.name() == "X-Old"),
            );
            assert_eq!(old.count(), 3, "what the first one added is shown");
        }
    }
}

/// A member that is left out when it fails costs no mail.
#[tokio::test]
async fn the_members_policy_holds() {
    for (policy, accepted) in [
        (MemberFailure::LeaveOut, true),
        (MemberFailure::Reject, false),
    ] {
        for stage in [None, Some(Stage::Rcpt), Some(Stage::Body)] {
            let backend = Backend::new(Needs::all(), move |_, command| {
                if command.stage().is_some() && command.stage() == stage {
                    Act::Die
                } else {
                    Act::Go
                }
            });
            let backend = backend.refusing(move |_| stage.is_none());
            let member = Member::new("remote", backend.remote()).on_failure(policy.clone());
            let chain = Chain::new()
                .with_member(member)
                .with("here", message(async |mail: Message| mail.accept()));
            let done = MockMta::postfix(chain).deliver(mail()).await;
            assert_eq!(done.is_accepted(), accepted, "{stage:?}: {done}");
            if !accepted {
                assert_eq!(done.reply().unwrap().code(), 550, "{stage:?}: {done}");
            }
        }
    }
}

/// Each gets the macros that it asked for, and no others.
#[tokio::test]
async fn c94_macros_are_those_that_each_asked_for() {
    let asks = |name: &'static str| Needs::all().macros_exact(MacroStage::Mail, [name]);
    let (one, other) = (
        Backend::going_on(asks("{mail_host}")),
        Backend::going_on(asks("{mail_addr}")),
    );
    let chain = Chain::new()
        .with("one", one.remote())
        .with("other", other.remote());
    let done = MockMta::postfix(chain)
        .deliver(Mail::new().from("a@example.org"))
        .await;
    assert!(done.is_accepted(), "{done}");
    assert_eq!(one.open().await + other.open().await, 0);
    assert_eq!(one.macros(1, b'M'), ["{mail_host}=example.org"]);
    assert_eq!(other.macros(1, b'M'), ["{mail_addr}=a@example.org"]);
}

/// Most filters that change mail do not agree to less: a check says so, and not of those that are
/// just not there.
#[tokio::test(start_paused = true)]
async fn one_that_must_change_mail_does_not_fit_into_a_parallel_section() {
    let changes = |command: &Command| match command {
        Command::Negotiate(offer) => offer.actions.contains(Actions::ADD_HEADERS),
        _ => true,
    };
    // rspamd asks for it all the same.
    let insists = Backend::going_on(Needs::all()).answering(OfferReply {
        version: 6,
        actions: Actions::ADD_HEADERS,
        steps: Steps::empty(),
        macros: milter_core::MacroLists::default(),
    });
    // libmilter/engine.c st_optionneg: it gives up without a word.
    let leaves = Backend::new(Needs::all(), move |_, command| {
        if changes(command) { Act::Go } else { Act::Die }
    });
    let is_down = Backend::going_on(Needs::all()).refusing(|_| true);
    let judges = Backend::going_on(Needs::all().optional_action(Actions::CHANGES));
    let section = |backend: &Backend| {
        let second = Backend::going_on(Needs::none());
        Chain::new().with_parallel([("one", backend.remote()), ("two", second.remote())])
    };
    for backend in [&insists, &leaves] {
        let error = section(backend).check().await.unwrap_err();
        assert_eq!(error.member(), "one");
        let failure = error.failure();
        assert!(matches!(failure, Failure::OnlyJudges(_)), "{failure:?}");
        let alone = Chain::new().with("one", backend.remote());
        alone.check().await.expect("one after the other it works");
        assert_eq!(backend.open().await, 0);
    }
    let error = section(&is_down).check().await.unwrap_err();
    assert!(matches!(error.failure(), Failure::Error(_)), "{error:?}");
    section(&judges).check().await.expect("it works without");
}
