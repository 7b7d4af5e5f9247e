//! How much memory a large message takes, counted by an allocator of this test's own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use milter_core::{Command, MtaCodec, Offer, Reply};
use milter_tower::message::{Incoming, Message, MessageFilter, message, message_streaming};
use milter_tower::{BoxError, Sender, serve_connection};
use tokio::io::AsyncReadExt;
use tokio_util::codec::Framed;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const MIB: usize = 1024 * 1024;

/// Delivers a message of that many pieces of 64 KiB twice, and returns how much more memory was
/// taken at most, and how much still is.
async fn deliver<B: Send + 'static>(filter: MessageFilter<B>, pieces: usize) -> (usize, usize) {
    let (mta, io) = tokio::io::duplex(64 * 1024);
    let served = tokio::spawn(serve_connection(io, filter).into_future());
    let mut mta = Framed::new(mta, MtaCodec::new());
    let piece = Bytes::from(vec![b'x'; 65_535]);
    let mut before = 0;
    mta.send(Command::Negotiate(Offer::V6)).await.unwrap();
    assert!(matches!(mta.next().await, Some(Ok(Reply::Negotiate(_)))));
    // The first one warms up: buffers of the connection and of this mail server.
    for pieces in [1, pieces] {
        before = dhat::HeapStats::get().curr_bytes;
        let sender = Sender::new("<a@example.org>", [""; 0]);
        mta.send(Command::Mail(sender)).await.unwrap();
        for _ in 0..pieces {
            mta.send(Command::Body(piece.clone())).await.unwrap();
        }
        mta.send(Command::EndOfMessage(Bytes::new())).await.unwrap();
        loop {
            match mta.next().await {
                Some(Ok(Reply::Progress)) => {}
                other => {
                    assert!(matches!(other, Some(Ok(Reply::Accept))), "{other:?}");
                    break;
                }
            }
        }
    }
    let most = dhat::HeapStats::get().max_bytes;
    mta.send(Command::Abort).await.unwrap();
    // The server has seen it when it has seen what follows.
    mta.send(Command::Quit).await.unwrap();
    assert!(mta.next().await.is_none());
    drop(mta);
    served.await.unwrap().unwrap();
    let left = dhat::HeapStats::get().curr_bytes;
    (most.saturating_sub(before), left.saturating_sub(before))
}

/// 20 MiB, whether they are kept or streamed.
#[tokio::test]
async fn a_large_message_takes_little_memory() {
    let profiler = dhat::Profiler::builder().testing().build();
    let read = Arc::new(AtomicUsize::new(0));
    let reads = Arc::clone(&read);
    let whole = message(move |mail: Message| {
        let reads = Arc::clone(&reads);
        async move {
            let mut reader = mail.body().reader();
            let mut buffer = vec![0; 8192];
            loop {
                match reader.read(&mut buffer).await? {
                    0 => break,
                    n => _ = reads.fetch_add(n, Ordering::Relaxed),
                }
            }
            Ok::<_, BoxError>(mail.accept())
        }
    });
    let (most, left) = deliver(whole, 320).await;
    assert_eq!(read.swap(0, Ordering::Relaxed), 321 * 65_535);
    assert!(most < MIB + 256 * 1024, "{most} bytes");
    assert!(left < 64 * 1024, "{left} bytes");
    drop(profiler);

    let profiler = dhat::Profiler::builder().testing().build();
    let reads = Arc::clone(&read);
    let streaming = message_streaming(move |mut mail: Message<Incoming>| {
        let reads = Arc::clone(&reads);
        async move {
            while let Some(piece) = mail.body_mut().piece().await? {
                reads.fetch_add(piece.len(), Ordering::Relaxed);
            }
            Ok::<_, BoxError>(mail.accept())
        }
    });
    let (most, left) = deliver(streaming, 320).await;
    assert_eq!(read.swap(0, Ordering::Relaxed), 321 * 65_535);
    assert!(most < MIB + 256 * 1024, "{most} bytes");
    assert!(left < 64 * 1024, "{left} bytes");
    drop(profiler);
}
