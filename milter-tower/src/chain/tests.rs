//! What cannot be seen from outside.

use std::convert::Infallible;
use std::future::ready;

use milter_core::{Actions, Header, Needs, Offer, Recipient, Sender, Stage};
use tower::service_fn;

use super::{Chain, lock};
use crate::progress::Progress;
use crate::request::{Event, Request};
use crate::response::Response;
use crate::session::{Peer, PeerAddr, Session};

fn with(chain: Chain, name: &'static str, needs: &Needs) -> Chain {
    let needs = needs.clone();
    chain.with(
        name,
        service_fn(move |request: Request| {
            ready(Ok::<_, Infallible>(match request.event() {
                Event::Negotiate(_) => Response::needs(needs.clone()),
                _ => Response::proceed(),
            }))
        }),
    )
}

/// A chain of filters with these needs.
fn chain<const N: usize>(needs: [&Needs; N]) -> Chain {
    needs
        .into_iter()
        .fold(Chain::new(), |chain, needs| with(chain, "member", needs))
}

/// How many bytes of a message's content are held before its end.
async fn held(mut chain: Chain) -> u64 {
    let session = Session::new(Peer::new(1, PeerAddr::Other), None);
    let mut most = 0;
    let events = [
        Event::Negotiate(Offer::V6),
        Event::Mail(Sender::new("<a@b>", [""; 0])),
        Event::Rcpt(Recipient::new("<c@d>", [""; 0])),
        Event::Header(Header::new("Subject", "s")),
        Event::EndOfHeaders,
        Event::Body("0123456789".into()),
        Event::EndOfMessage(Progress::default()),
    ];
    for event in events {
        let request = Request::new(event, session.clone());
        let _ = tower::Service::call(&mut chain, request).await.unwrap();
        let running = lock(chain.running.as_ref().unwrap());
        most = most.max(running.content.hold().map_or(0, |hold| 1 + hold.body_len()));
    }
    most
}

#[tokio::test]
async fn nothing_is_held_where_nobody_may_change_what_others_see() {
    let judges = Needs::none()
        .events(Stage::ALL)
        .action(Actions::CHANGE_SENDER);
    assert_eq!(held(chain([&judges, &judges])).await, 0);
    // Nobody is behind the one that may.
    let edits = judges.clone().action(Actions::CHANGES);
    assert_eq!(held(chain([&judges, &edits])).await, 0);
    // Additions need not be merged, and who looks at no content need not wait.
    let adds = Needs::none().action(Actions::ADD_HEADERS);
    assert_eq!(held(chain([&adds, &adds])).await, 0);
    assert_eq!(held(chain([&edits, &judges])).await, 11);
}
