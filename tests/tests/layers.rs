//! Layers around filters, over a whole connection.

use std::convert::Infallible;

use futures::{SinkExt, StreamExt};
use milter_core::{Command, MtaCodec, Offer, Reply};
use milter_middleware::set_header::SetHeaderLayer;
use milter_tower::{ModificationKind, Needs, Request, Response, serve_connection};
use tokio_util::codec::Framed;
use tower::{Layer, service_fn};

/// The value that a layer's header has on the wire around a filter with these needs.
async fn value_for(needs: Needs) -> Vec<u8> {
    let filter = service_fn(move |_: Request| {
        let response = Response::needs(needs.clone());
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let filter = SetHeaderLayer::appending("X-A", "b").unwrap().layer(filter);
    let (mta, io) = tokio::io::duplex(4096);
    let server = tokio::spawn(serve_connection(io, filter).into_future());
    let mut mta = Framed::new(mta, MtaCodec::new());
    mta.send(Command::Negotiate(Offer::V6)).await.unwrap();
    assert!(matches!(mta.next().await, Some(Ok(Reply::Negotiate(_)))));
    mta.send(Command::EndOfMessage(bytes::Bytes::new()))
        .await
        .unwrap();
    let Some(Ok(Reply::Modify(edit))) = mta.next().await else {
        panic!("no header")
    };
    let ModificationKind::AddHeader { value, .. } = edit.kind() else {
        panic!("{edit:?}")
    };
    let value = value.to_vec();
    assert!(matches!(mta.next().await, Some(Ok(Reply::Continue))));
    mta.send(Command::Quit).await.unwrap();
    server.await.unwrap().unwrap();
    value
}

/// A filter within that asks for leading space has the layer write it.
#[tokio::test]
async fn a_header_has_its_space_whatever_was_negotiated() {
    assert_eq!(value_for(Needs::none()).await, b"b");
    assert_eq!(value_for(Needs::none().leading_space()).await, b" b");
}
