//! Whatever is written is read again, and whatever is read does no harm.

mod values;

use std::fmt::Debug;

use bytes::BytesMut;
use milter_core::{
    CodecError, Command, DEFAULT_MAX_PAYLOAD, FilterCodec, MAX_PAYLOAD, MtaCodec, Reply,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio_util::codec::{Decoder, Encoder};

/// What a codec may reserve beyond twice the most bytes that it had to keep.
const SLACK: usize = 64 * 1024;
/// Length and code of a frame.
const HEAD: usize = 5;

fn written<T>(mut codec: impl Encoder<T, Error = CodecError>, items: Vec<T>) -> BytesMut {
    let mut wire = BytesMut::new();
    for item in items {
        codec.encode(item, &mut wire).expect("small enough");
    }
    wire
}

/// The bytes, cut at these places.
fn cut<'a>(wire: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|at| at.index(wire.len() + 1)).collect();
    places.sort_unstable();
    places.push(wire.len());
    let mut from = 0;
    places
        .into_iter()
        .map(|to| &wire[std::mem::replace(&mut from, to)..to])
        .collect()
}

/// Whether the connection is of no use after this.
fn is_fatal(error: &CodecError) -> bool {
    !matches!(
        error,
        CodecError::UnknownCode { .. } | CodecError::Malformed(_)
    )
}

/// What comes out when these parts come in one after the other, and then the end.
fn read<D>(mut codec: D, max: usize, parts: &[&[u8]]) -> Vec<Result<D::Item, CodecError>>
where
    D: Decoder<Error = CodecError>,
{
    let mut input = BytesMut::new();
    let mut out = Vec::new();
    let mut largest = 0;
    for part in parts {
        input.extend_from_slice(part);
        loop {
            largest = largest.max(input.len());
            let read = codec.decode(&mut input).transpose();
            let most = 2 * largest + SLACK;
            assert!(input.capacity() <= most, "{} > {most}", input.capacity());
            match read {
                None => break,
                Some(Err(error)) if is_fatal(&error) => {
                    out.push(Err(error));
                    return out;
                }
                Some(read) => out.push(read),
            }
        }
        assert!(input.len() < HEAD + max, "{} bytes are kept", input.len());
    }
    out.extend(codec.decode_eof(&mut input).transpose());
    out
}

fn filter_side(max: usize) -> FilterCodec {
    let mut codec = FilterCodec::new();
    codec.set_max_read(max);
    codec
}

fn mta_side(max: usize) -> MtaCodec {
    let mut codec = MtaCodec::new();
    codec.set_max_read(max);
    codec
}

fn all_good<T: Debug>(read: Vec<Result<T, CodecError>>) -> Vec<T> {
    read.into_iter().map(|item| item.expect("whole")).collect()
}

/// Errors have no equality, but what they show says it all.
fn shown<T: Debug>(read: &[Result<T, CodecError>]) -> Vec<String> {
    read.iter().map(|item| format!("{item:?}")).collect()
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    vec(any::<Index>(), 0..6)
}

proptest! {
    #[test]
    fn c2_commands_survive_the_wire(commands in vec(values::command(), 1..6), cuts in cuts()) {
        let wire = written(MtaCodec::new(), commands.clone());
        let read = read(FilterCodec::new(), DEFAULT_MAX_PAYLOAD, &cut(&wire, &cuts));
        prop_assert_eq!(all_good(read), commands);
    }

    #[test]
    fn c2_replies_survive_the_wire(replies in vec(values::reply(), 1..6), cuts in cuts()) {
        let wire = written(FilterCodec::new(), replies.clone());
        let read = read(MtaCodec::new(), DEFAULT_MAX_PAYLOAD, &cut(&wire, &cuts));
        prop_assert_eq!(all_good(read), replies);
    }

    #[test]
    fn c2_any_bytes_mean_the_same_however_they_are_split(
        wire in values::wire(),
        cuts in cuts(),
        max in prop_oneof![0..60_usize, Just(MAX_PAYLOAD)],
    ) {
        let (whole, parts) = (cut(&wire, &[]), cut(&wire, &cuts));
        prop_assert_eq!(
            shown(&read(filter_side(max), max, &whole)),
            shown(&read(filter_side(max), max, &parts))
        );
        prop_assert_eq!(
            shown(&read(mta_side(max), max, &whole)),
            shown(&read(mta_side(max), max, &parts))
        );
    }

    #[test]
    fn what_is_read_can_be_passed_on(wire in values::wire()) {
        let good = |wire: &[u8]| -> (Vec<Command>, Vec<Reply>) {
            let commands = read(filter_side(MAX_PAYLOAD), MAX_PAYLOAD, &[wire]);
            let replies = read(mta_side(MAX_PAYLOAD), MAX_PAYLOAD, &[wire]);
            (
                commands.into_iter().flatten().collect(),
                replies.into_iter().flatten().collect(),
            )
        };
        let (commands, replies) = good(&wire);
        prop_assert_eq!(&good(&written(MtaCodec::new(), commands.clone())).0, &commands);
        prop_assert_eq!(&good(&written(FilterCodec::new(), replies.clone())).1, &replies);
    }

    #[test]
    fn c5_anything_at_all_is_read_within_bounds(
        bytes in vec(any::<u8>(), 0..200),
        cuts in cuts(),
    ) {
        read(FilterCodec::new(), DEFAULT_MAX_PAYLOAD, &cut(&bytes, &cuts));
        read(MtaCodec::new(), DEFAULT_MAX_PAYLOAD, &cut(&bytes, &cuts));
    }
}

/// The largest frame, in pieces as a socket gives them.
#[test]
fn c5_memory_grows_with_what_has_come() {
    let mut wire = BytesMut::new();
    let mut codec = mta_side(MAX_PAYLOAD);
    codec.set_max_write(MAX_PAYLOAD);
    let body = Command::Body(vec![b'x'; MAX_PAYLOAD].into());
    codec.encode(&body, &mut wire).expect("just small enough");
    let parts: Vec<&[u8]> = wire.chunks(10_000).collect();
    let read = read(filter_side(MAX_PAYLOAD), MAX_PAYLOAD, &parts);
    assert!(all_good(read) == [body]);
}
