use super::*;
use crate::{Header, Helo, Offer};

fn decode(bytes: &[u8]) -> Result<Option<Command>, CodecError> {
    FilterCodec::new().decode(&mut BytesMut::from(bytes))
}

#[test]
fn c1_the_length_counts_code_and_payload() {
    let mut out = BytesMut::new();
    FilterCodec::new()
        .encode(Reply::Continue, &mut out)
        .unwrap();
    MtaCodec::new()
        .encode(Command::Helo(Helo::new("ab")), &mut out)
        .unwrap();
    assert_eq!(&out[..], b"\0\0\0\x01c\0\0\0\x04Hab\0");
}

#[test]
fn c2_c3_frames_split_anywhere_and_joined() {
    let mut wire = BytesMut::new();
    let commands = [
        Command::Negotiate(Offer::V6),
        Command::Header(Header::new("Subject", "hi")),
        Command::Body(Bytes::from(vec![7; 300])),
        Command::EndOfMessage(Bytes::new()),
    ];
    for command in &commands {
        MtaCodec::new().encode(command, &mut wire).unwrap();
    }
    for cut in 0..=wire.len() {
        let (mut codec, mut input, mut got) = (FilterCodec::new(), BytesMut::new(), Vec::new());
        for part in [&wire[..cut], &wire[cut..]] {
            input.extend_from_slice(part);
            while let Some(command) = codec.decode(&mut input).unwrap() {
                got.push(command);
            }
        }
        assert_eq!(got, commands, "cut at {cut}");
    }
}

#[test]
fn c4_length_0_is_an_error() {
    assert!(matches!(decode(b"\0\0\0\0O"), Err(CodecError::Empty)));
}

#[test]
fn c5_the_limit_is_checked_before_anything_is_reserved() {
    for (length, max) in [
        (65_537_u32, DEFAULT_MAX_PAYLOAD),
        (u32::MAX, MAX_PAYLOAD),
        ((1 << 20) + 2, usize::MAX),
    ] {
        let mut codec = FilterCodec::new();
        codec.set_max_read(max);
        let mut input = BytesMut::from(&length.to_be_bytes()[..]);
        let error = codec.decode(&mut input).unwrap_err();
        assert!(
            matches!(error, CodecError::TooLarge { length: l, .. } if l == length),
            "{error}"
        );
        assert!(input.capacity() < LARGE);
    }
    let mut input = BytesMut::from(&b"\0\x01\0\0B"[..]);
    input.resize(LEN + 65_536, 0);
    let command = FilterCodec::new().decode(&mut input).unwrap().unwrap();
    assert!(matches!(command, Command::Body(body) if body.len() == 65_535));
}

#[test]
fn a_declared_length_reserves_no_more_than_a_read() {
    let mut codec = FilterCodec::new();
    codec.set_max_read(MAX_PAYLOAD);
    let mut input = BytesMut::from(&b"\0\x10\0\0B"[..]);
    assert!(codec.decode(&mut input).unwrap().is_none());
    assert!(input.capacity() <= 2 * LARGE, "{}", input.capacity());
    let mut empty = BytesMut::new();
    assert!(codec.decode(&mut empty).unwrap().is_none());
    assert!((SMALL..LARGE).contains(&empty.capacity()));
}

#[test]
fn c6_too_large_a_payload_is_never_written() {
    let mut out = BytesMut::from(&b"before"[..]);
    let mut codec = MtaCodec::new();
    let error = codec
        .encode(Command::Body(vec![0; 65_536].into()), &mut out)
        .unwrap_err();
    assert!(matches!(
        error,
        CodecError::PayloadTooLarge {
            size: 65_536,
            max: 65_535
        }
    ));
    assert_eq!(&out[..], b"before");
    codec.set_max_write(100_000);
    codec
        .encode(Command::Body(vec![0; 65_536].into()), &mut out)
        .unwrap();
}

#[test]
fn c7_the_end_between_frames_is_none_within_one_an_error() {
    let mut codec = FilterCodec::new();
    assert!(codec.decode_eof(&mut BytesMut::new()).unwrap().is_none());
    for (bytes, missing) in [(&b"\0"[..], 4), (b"\0\0\0\x05", 5), (b"\0\0\0\x05Hab", 2)] {
        let error = codec.decode_eof(&mut BytesMut::from(bytes)).unwrap_err();
        assert!(
            matches!(error, CodecError::Truncated { missing: m } if m == missing),
            "{error}"
        );
    }
}

#[test]
fn c8_unknown_codes_are_named() {
    let error = decode(b"\0\0\0\x01?").unwrap_err();
    assert_eq!(error.to_string(), "a frame has the unknown code '?' (0x3f)");
}

#[test]
fn other_protocols_are_recognised_at_the_beginning_only() {
    for (bytes, name) in [
        (&b"GET / HTTP/1.1\r\n"[..], "HTTP"),
        (b"EHLO there\r\n", "SMTP"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
    ] {
        let error = decode(bytes).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("the peer speaks {name},")),
            "{error}"
        );
        let late = decode_second(bytes).unwrap_err();
        assert!(matches!(late, CodecError::TooLarge { .. }), "{late}");
    }
}

fn decode_second(bytes: &[u8]) -> Result<Option<Command>, CodecError> {
    let mut codec = FilterCodec::new();
    let mut input = BytesMut::from(&b"\0\0\0\x01T"[..]);
    input.extend_from_slice(bytes);
    codec.decode(&mut input)?;
    codec.decode(&mut input)
}
