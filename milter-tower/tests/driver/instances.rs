//! An instance a connection, made by `Clone` or by a `MakeService` (D4).

use std::convert::Infallible;
use std::io;

use milter_core::{Command, MtaCodec, Reply};
use milter_tower::{
    Accepted, Listener, Offer, Peer, PeerAddr, Request, Response, serve, serve_make,
};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_util::codec::Framed;
use tower::service_fn;

use crate::common::{Mta, bytes_of, proceeding, seconds, start};

/// Connections from within the process.
struct Pipes(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for Pipes {
    type Io = DuplexStream;

    async fn accept(&mut self) -> io::Result<Accepted<DuplexStream>> {
        match self.0.recv().await {
            Some(io) => Ok(Accepted::new(io, PeerAddr::Unix(None))),
            None => std::future::pending().await,
        }
    }
}

fn pipes() -> (impl Fn() -> Mta, Pipes) {
    let (send, receive) = mpsc::unbounded_channel();
    let dial = move || {
        let (mta, io) = tokio::io::duplex(4096);
        send.send(io).unwrap();
        Mta {
            framed: Framed::new(mta, MtaCodec::new()),
        }
    };
    (dial, Pipes(receive))
}

#[tokio::test(start_paused = true)]
async fn d4_a_clone_a_connection_and_never_the_prototype() {
    let (service, log) = proceeding();
    let (dial, listener) = pipes();
    let server = tokio::spawn(serve(listener, service).into_future());
    let (mut one, mut two, probe) = (dial(), dial(), dial());
    tokio::time::sleep(seconds(1)).await;
    drop(probe);
    assert_eq!(log.clones(), 0, "nobody has sent an offer");
    one.greet().await;
    assert_eq!(log.clones(), 1);
    two.negotiate().await;
    assert_eq!(one.message().await, "McRcTcUcLcNcBcEc");
    one.send(Command::Quit).await;
    one.closed().await;
    two.send(Command::Quit).await;
    two.closed().await;
    assert_eq!(log.clones(), 2);
    assert!(log.of(0).is_empty());
    assert_eq!(log.of(2), ["negotiate", "close"]);
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn d4_c2_the_clone_is_made_when_the_offer_is_whole() {
    let (service, log) = proceeding();
    let (mut mta, run) = start(service);
    let offer = bytes_of(Command::Negotiate(Offer::V6));
    for byte in &offer[..offer.len() - 1] {
        mta.send_raw(&[*byte]).await;
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(log.clones(), 0);
    }
    mta.send_raw(&offer[offer.len() - 1..]).await;
    assert!(matches!(mta.reply().await, Reply::Negotiate(_)));
    assert_eq!(log.clones(), 1);
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn d4_a_maker_sees_the_peer_and_may_take_its_time() {
    let (service, log) = proceeding();
    let (sender, mut peers) = mpsc::unbounded_channel();
    let make = service_fn(move |peer: Peer| {
        let (service, sender) = (service.clone(), sender.clone());
        async move {
            tokio::time::sleep(seconds(2)).await;
            sender.send(peer).unwrap();
            Ok::<_, Infallible>(service)
        }
    });
    let (dial, listener) = pipes();
    let server = tokio::spawn(serve_make(listener, make).into_future());
    let (mut one, mut two) = (dial(), dial());
    one.greet().await;
    two.greet().await;
    let (first, second) = (peers.recv().await.unwrap(), peers.recv().await.unwrap());
    assert_eq!(first.address(), &PeerAddr::Unix(None));
    assert_ne!(first.connection_id(), second.connection_id());
    assert_eq!(log.count("helo"), 2);
    server.abort();
}

#[tokio::test(start_paused = true)]
async fn d4_d6_a_maker_that_fails() {
    for hangs in [false, true] {
        let make = service_fn(move |_: Peer| async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            let none: Option<tower::util::BoxService<Request, Response, Infallible>> = None;
            none.ok_or("no service today")
        });
        let (dial, listener) = pipes();
        let server = tokio::spawn(serve_make(listener, make).into_future());
        let mut mta = dial();
        mta.negotiate().await;
        assert_eq!(mta.ask(crate::common::connect()).await, Reply::TempFail);
        assert_eq!(mta.message().await, "Mt");
        mta.send(Command::Quit).await;
        mta.closed().await;
        server.abort();
    }
}
