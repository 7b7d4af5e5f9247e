//! Passing a connection on, byte by byte, and telling what goes through.

use std::io;
use std::time::Duration;

use milter_examples::dial::dial;
use milter_tower::Address;
use milter_tower::testing::recording::{Cutter, Said, Side};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

use crate::news::{Teller, What};

/// How long connecting to the milter may take.
// Postfix milter_connect_timeout
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes that are read at a time.
const BUFFER: usize = 16 * 1024;

/// Passes a mail server's connection on to the milter until both have ended.
pub(crate) async fn connection<Io>(mta: Io, to: &Address, tell: &Teller)
where
    Io: AsyncRead + AsyncWrite,
{
    match dial(to, CONNECT_TIMEOUT).await {
        Ok(milter) => pass(mta, milter, tell).await,
        Err(error) => {
            let what = format!("the milter at {to} cannot be reached: {error}");
            tell.tell(What::Trouble(what)).await;
        }
    }
}

/// Passes everything on between the two. Each direction ends by itself; one that is broken off ends
/// the other, too.
pub(crate) async fn pass<A, B>(mta: A, milter: B, tell: &Teller)
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let (from_mta, to_mta) = split(mta);
    let (from_milter, to_milter) = split(milter);
    // Why one was broken off is told there.
    let _ = tokio::try_join!(
        one_way(from_mta, to_milter, Side::Mta, tell),
        one_way(from_milter, to_mta, Side::Milter, tell),
    );
}

/// What goes one way. An error is that of reading: that side is gone for the other direction, too.
async fn one_way<A, B>(
    mut from: ReadHalf<A>,
    mut to: WriteHalf<B>,
    side: Side,
    tell: &Teller,
) -> io::Result<()>
where
    A: AsyncRead,
    B: AsyncWrite,
{
    let mut buffer = vec![0; BUFFER];
    let mut cutter = Cutter::new();
    loop {
        let read = from.read(&mut buffer).await;
        // Told before it is passed on, so that no answer is told before its question.
        let time = tell.time();
        let bytes = match read {
            Ok(count) => buffer.get(..count).unwrap_or_default(),
            Err(error) => {
                tell_all(&mut cutter, side, time, tell, true).await;
                let what = format!("{} broke off: {error}", name(side));
                tell.tell(What::Trouble(what)).await;
                return Err(error);
            }
        };
        cutter.push(bytes);
        tell_all(&mut cutter, side, time, tell, bytes.is_empty()).await;
        if bytes.is_empty() {
            tell.tell_at(time, What::Said(side, Said::End)).await;
            // The other side may still have something to say.
            let _ = to.shutdown().await;
            return Ok(());
        }
        let written = async {
            to.write_all(bytes).await?;
            to.flush().await
        };
        if let Err(error) = written.await {
            let other = match side {
                Side::Mta => Side::Milter,
                Side::Milter => Side::Mta,
            };
            let what = format!("{} takes nothing more: {error}", name(other));
            tell.tell(What::Trouble(what)).await;
            // What it said before is still passed on, by the other direction.
            return Ok(());
        }
    }
}

async fn tell_all(cutter: &mut Cutter, side: Side, time: Duration, tell: &Teller, is_end: bool) {
    while let Some(said) = cutter.next() {
        tell.tell_at(time, What::Said(side, said)).await;
    }
    if let Some(rest) = is_end.then(|| cutter.rest()).flatten() {
        tell.tell_at(time, What::Said(side, rest)).await;
    }
}

fn name(side: Side) -> &'static str {
    match side {
        Side::Mta => "the mail server",
        Side::Milter => "the milter",
    }
}
