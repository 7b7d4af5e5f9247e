//! A filter that is nothing but frames.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use futures::{SinkExt, StreamExt};
use milter_core::{Command, FilterCodec, Needs, Reply, negotiate};
use milter_tower::testing::{MockMta, MtaProfile};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::codec::{Encoder, Framed};

/// What came over the wire.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<Command>>>);

impl Trace {
    /// The letters of the frames.
    pub(crate) fn letters(&self) -> String {
        let seen = self.0.lock().unwrap();
        seen.iter().map(|frame| char::from(frame.code())).collect()
    }

    /// The names in each set of macros that came before commands of this letter.
    pub(crate) fn macros(&self, code: u8) -> Vec<Vec<String>> {
        let seen = self.0.lock().unwrap();
        let sets = seen.iter().filter_map(|frame| match frame {
            Command::Macros(set) if set.command_code() == code => Some(set),
            _ => None,
        });
        sets.map(|set| set.iter().map(|(name, _)| name.to_string()).collect())
            .collect()
    }

    /// The frames of this letter.
    pub(crate) fn of(&self, code: u8) -> Vec<Command> {
        let seen = self.0.lock().unwrap();
        let of = seen.iter().filter(|frame| frame.code() == code);
        of.cloned().collect()
    }
}

/// An MTA whose filter answers each frame that is due a reply with what the function says, and
/// goes on where that says nothing.
pub(crate) fn answering(
    profile: MtaProfile,
    needs: Needs,
    answer: impl Fn(&Command) -> Vec<Reply> + Send + 'static,
) -> (MockMta, Trace) {
    let (mta, io) = tokio::io::duplex(64 * 1024);
    let trace = Trace::default();
    tokio::spawn(serve(io, trace.clone(), needs, None, answer));
    (MockMta::over(profile, mta), trace)
}

/// The same for a filter that goes on, and asks for macros with these lists.
pub(crate) fn asking(profile: MtaProfile, lists: &'static [u8]) -> (MockMta, Trace) {
    let (mta, io) = tokio::io::duplex(64 * 1024);
    let trace = Trace::default();
    tokio::spawn(serve(io, trace.clone(), Needs::all(), Some(lists), go_on));
    (MockMta::over(profile, mta), trace)
}

async fn serve(
    io: DuplexStream,
    trace: Trace,
    needs: Needs,
    lists: Option<&[u8]>,
    answer: impl Fn(&Command) -> Vec<Reply>,
) {
    let mut framed = Framed::new(io, FilterCodec::new());
    let mut agreed = None;
    while let Some(Ok(frame)) = framed.next().await {
        trace.0.lock().unwrap().push(frame.clone());
        if let Command::Negotiate(offer) = &frame {
            let agreement = negotiate(offer, &needs).expect("agreed");
            let reply = Reply::Negotiate(agreement.to_reply());
            agreed = Some(agreement);
            let mut bytes = BytesMut::new();
            FilterCodec::new().encode(reply, &mut bytes).expect("fits");
            // Not every filter asks as the ones here do.
            bytes.extend_from_slice(lists.unwrap_or_default());
            bytes[3] = u8::try_from(bytes.len() - 4).expect("short");
            framed.get_mut().write_all(&bytes).await.expect("sent");
        }
        let Some(stage) = frame.stage() else { continue };
        let silent = stage.silencing().zip(agreed.as_ref());
        if silent.is_some_and(|(bit, agreement)| agreement.steps().contains(bit)) {
            continue;
        }
        for reply in answer(&frame) {
            if framed.send(&reply).await.is_err() {
                return;
            }
        }
    }
}

/// Goes on, whatever comes.
pub(crate) fn go_on(_: &Command) -> Vec<Reply> {
    vec![Reply::Continue]
}
