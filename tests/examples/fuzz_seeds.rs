//! Writes the inputs that fuzzing begins with to `tests/fuzz/corpus`, files named `seed-…`.
//!
//! ```sh
//! cargo run -p milter-tests --example fuzz_seeds
//! ```

use std::fs;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use milter_core::{
    Actions, ClientAddr, Command, Connect, FilterCodec, Header, Helo, MacroSet, MacroStage,
    Modification, ModificationError, MtaCodec, Needs, Offer, Recipient, Reply, Sender, SmtpReply,
    Stage, UnknownCommand, negotiate,
};
use tokio_util::codec::Encoder;

fn main() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (target, seeds) in [
        ("filter_codec", filter_codec()),
        ("mta_codec", mta_codec()),
        ("connection", connection()),
        ("negotiation", negotiation()),
        ("smtp_reply", smtp_reply()),
        ("chain", chain()),
        ("client", client()),
        ("network", network()),
        ("planner", planner()),
    ] {
        let folder = corpus.join(target);
        fs::create_dir_all(&folder).expect("a folder");
        for (number, seed) in seeds.iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:02}")), seed).expect("written");
        }
    }
}

/// A session as frames, read as it is, in small pieces, and with small limits; and as the frames
/// of which lengths are made.
fn wires(frames: &[BytesMut]) -> Vec<Vec<u8>> {
    let wire = frames.concat();
    let without_lengths: Vec<u8> = frames
        .iter()
        .flat_map(|frame| {
            let payload = &frame[5..];
            let length = u8::try_from(payload.len()).expect("small");
            [&[frame[4], length], payload].concat()
        })
        .collect();
    vec![
        [b"d\n\n", &wire[..]].concat(),
        [b"m\n\x01\n", &wire[..]].concat(),
        [b"l\n\x07\x20\n", &wire[..]].concat(),
        [b"df\n\x03\n", &without_lengths[..]].concat(),
        [b"lff\n\n", &without_lengths[..]].concat(),
    ]
}

fn filter_codec() -> Vec<Vec<u8>> {
    let client = |text: &str| -> ClientAddr {
        let at: std::net::SocketAddr = text.parse().expect("an address");
        at.into()
    };
    let args = [
        "SIZE=7",
        "BODY=8BITMIME",
        "AUTH=a+2Bb@example.org",
        "RET=HDRS",
        "ENVID=x+3D",
    ];
    let commands = [
        Command::Negotiate(Offer::V6),
        Command::Macros(MacroSet::new(
            MacroStage::Connect,
            [("j", "mx"), ("{v}", "Postfix")],
        )),
        Command::Connect(Connect::new("a.example", client("192.0.2.1:25"))),
        Command::Connect(Connect::new("b.example", client("[2001:db8::1]:25"))),
        Command::Connect(Connect::new(
            "c",
            ClientAddr::Unix(Bytes::from_static(b"/run/x")),
        )),
        Command::Connect(Connect::new("d", ClientAddr::Unknown)),
        Command::Helo(Helo::new("a.example")),
        Command::Mail(Sender::new("<a@example.org>", args)),
        Command::Rcpt(Recipient::new(
            "<b@example.net>",
            ["NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;b+40example.net"],
        )),
        Command::Data,
        Command::Unknown(UnknownCommand::new("XYZZY")),
        Command::Header(Header::new("Subject", "hello\n\tthere")),
        Command::EndOfHeaders,
        Command::Body(Bytes::from_static(b"text\r\n\0")),
        Command::EndOfMessage(Bytes::from_static(b"rest")),
        Command::Abort,
        Command::QuitNewConnection,
        Command::Quit,
    ];
    let mut frames = Vec::new();
    for command in commands {
        let mut frame = BytesMut::new();
        MtaCodec::new().encode(command, &mut frame).expect("fits");
        frames.push(frame);
    }
    wires(&frames)
}

fn edits() -> Result<Vec<Modification>, ModificationError> {
    Ok(vec![
        Modification::add_header("X-A", "b")?,
        Modification::insert_header(1, "X-A", "b\n\tc")?,
        Modification::delete_header("x-a", 1)?,
        Modification::change_header("X-a", 2, "c")?,
        Modification::delete_header("X-A", 3)?,
        Modification::replace_body("one"),
        Modification::change_sender_with_args("<>", "RET=HDRS")?,
        Modification::replace_body("two"),
        Modification::add_recipient("c@example.net")?,
        Modification::add_recipient_with_args("d@example.net", "NOTIFY=NEVER")?,
        Modification::delete_recipient("b@example.net")?,
        Modification::quarantine("why")?,
    ])
}

fn mta_codec() -> Vec<Vec<u8>> {
    let needs = Needs::all()
        .action(Actions::ADD_HEADERS)
        .macros(MacroStage::Mail, ["{auth_author}", "i"])
        .macros_exact(MacroStage::Helo, [""; 0])
        .event(Stage::Rcpt);
    let agreement = negotiate(&Offer::V6, &needs).expect("all is offered");
    let mut replies = vec![
        Reply::Negotiate(agreement.to_reply()),
        Reply::Continue,
        Reply::Smtp(SmtpReply::reject("100% no\nreally")),
        Reply::InvalidSmtp(Bytes::from_static(b"250 yes")),
        Reply::TempFail,
        Reply::Reject,
        Reply::Skip,
        Reply::Progress,
    ];
    replies.extend(edits().expect("legal").into_iter().map(Reply::Modify));
    replies.extend([
        Reply::Accept,
        Reply::Discard,
        Reply::Shutdown,
        Reply::ConnectionFailed,
    ]);
    let mut frames = Vec::new();
    for reply in replies {
        let mut frame = BytesMut::new();
        FilterCodec::new().encode(reply, &mut frame).expect("fits");
        frames.push(frame);
    }
    let mut wires = wires(&frames);
    wires.push(b"df\n\ny\x1e550-5.7.1 a%%b\r\n550 5.7.1 c %\r\ny\x05450\0\0y\x03421".to_vec());
    wires
}

/// See the module `milter_tests::fuzz::connection` for how to read them.
fn connection() -> Vec<Vec<u8>> {
    let session = "D01C0H0M0D31R0R1TL0L1NB1E0AD20M1R0TL0NB3E1K";
    let texts = [
        format!(".\nA\n\n{session}C1H1M0R0TE0Q"),
        format!("c\n\n\n{session}"),
        format!("cd\nabcdefghi\n\n{session}"),
        format!("P\nASO\ncccccccccccccccmh20i31x12d13b40+2026-20q00;\n{session}"),
        format!("Sj\nAQ!\ncccccctcccsccc\n{session}"),
        format!("y\nAO\ncac\n{session}C0M0R0TL0NB0E0"),
        format!("t\nA\ncc!ccc!ccc?cccbcccBccRccPcccNccc\n{session}{session}"),
        format!("u\n05\ncccc!cccccccccc\n{session}"),
        format!("ix\n\ne\n{session}"),
        format!(".\n\nh\n{session}w7C0"),
        format!("ob\nZSmz\ncWwphhh\n{session}w3"),
        format!("o2\n\nccccy1y2y3dsdntm\n{session}"),
        format!("on\n2c4d5\nccM1h00;M2BH;f\n{session}"),
        "r\nA\n\nM0R0R1R0R1TE0M0R0E0".to_owned(),
        "r\nc23\n\nM0R0R1R0R1TE0M0R0E0".to_owned(),
        "km\nA\n\nD34D04M0R0L3B3E0".to_owned(),
        "cd\nA\n\nM0R0TL0zNB3B3B3E0w3ZF".to_owned(),
        "c\nA\nccccccw\nM0R0/\x03TL0NB1E3V".to_owned(),
        "c\nA\nccch\nC0H0OoE0XT\0XB\x02hiM0G\x05\0\0\0\x01QE0".to_owned(),
        ".\nA\n\n!C0".to_owned(),
        ".\nA\n\n!A.G\x04GET ".to_owned(),
        // An end that is missed; time without replies, and ends behind it.
        ".\nA\nccccccccccN\nC0H0M0R0TL0NB1E0M0R0TE0".to_owned(),
        "S\nc3\nchh\nM0R0E0".to_owned(),
        "cS\nc3\nchhc\nM0AR0E0".to_owned(),
        "cP\nAQ\x01O\ncccccccccppppBmB0;\nM0R0B1E0.,R0N0L0T0B0L0E0U0M0U0A".to_owned(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

fn negotiation() -> Vec<Vec<u8>> {
    let texts = [
        &b"A\n\n6"[..],
        b"\nA\n2",
        b"0a3c5\n1b4d\nn",
        b"AQ\x00q\x7fO\nSlv\n6",
        b"SLvzZ\nZ\nb",
        b"m0i,{auth_type},x.M1.\nm0j.m5{msg_id}.m2i.\n6",
        b"m2a b.M3toolong,_,{}.\nk3k4\n6",
        b"Ak0k1k2\nabcdefghij\nw\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff",
        b"\n\n04",
        b"o\xffv\nj9\nw\0\0\0\x02\0\0\0\x0f\0\0\0\x3f",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

fn smtp_reply() -> Vec<Vec<u8>> {
    let long = [&b"550\n5.1.1\n"[..], &b"word %% ".repeat(200)].concat();
    let solid = [&b"451\n\n"[..], "ä".repeat(1_200).as_bytes()].concat();
    let many = [&b"421\n4.0.0\n"[..], &b"x\n".repeat(40)].concat();
    let texts = [
        &b"550\n5.7.1\n100% no"[..],
        b"421\n\nbye\nnow",
        b"554\n\n5.7.1 a\n5.7.1 b",
        b"450\n5.7.1\nwrong class",
        b"250\n2.0.0\nfine",
        b"500\n\n4 apples",
        b"551\n5.999.999\n-5.1.1 a\r\n551 5.1.1 b\0",
        b"550\n\n550-5.7.1 a\r\n550-5.7.1 b\r\n550 5.7.1 %\0",
        b"499\n\n 4.2.2 %%%d\r\n499 \xff\xfe\r\n",
        &long,
        &solid,
        &many,
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

/// See the modules `milter_tests::fuzz::connection::chain` and `members` for how to read them.
fn chain() -> Vec<Vec<u8>> {
    let session = "D01C0H0M0D31R0R1TL0L1NB1E0AD20M1R0TL0NB3E1K";
    let texts = [
        format!(".\np0p1\nccc,ccc\n{session}C1H1M0R0TE0Q"),
        format!("P\np2p3m0\nccccccccccmh20i31x12;,cccccccmd13;,m\n{session}"),
        format!("S\nr3f9i0\nccccm,cccccccccm,cs\n{session}"),
        format!("t\np0[p0p4r1]p5\nc,cccW,cccr,cc\n{session}{session}"),
        format!(".\nt([p0p0]p0)p2\nccch,cccr,c\n{session}"),
        format!(".\n(p0(p2(p3)))p1\n,cc!,ccc?,\n{session}{session}"),
        format!("j\n!0p0!2p2!3p9\nccce,ccccccB,cN\n{session}"),
        format!("y\n?0p0?3p2?4m2?7p0\n,,m\n{session}{session}"),
        format!("c\nFp2p2p6\ncccccccccmB0;,\n{session}"),
        ".\n[p0p0]t(p0[p0r3])\ncccR,cccc,ccP,chc,cr\nC0H0M0R0R1w3V".to_owned(),
        ".\n!4t(m3i1p7)p8\nh,s,cc\nC0H0M0R0TL0NB1B3E0w7M0R0E0F".to_owned(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

/// See the module `milter_tests::fuzz::client` for how to read them.
fn client() -> Vec<Vec<u8>> {
    let session = "C0cH0cM0cR0cR1rTcL0cL1cNcB1cE0";
    let texts = [
        format!("\nOo\x01A{session}cQ"),
        format!("m\nOo\x05ASlm0{session}pmh00i31d12B0;aAQ"),
        format!("s\nOo\x030a3{session}tK{session}dQ"),
        format!("seb\nOo\x01A{session}mh00;mB0;mH0;c"),
        format!("r\nOo\x01A{session}mH0;c"),
        "pq\nOo\x01AC0pcH0sM0sR04M0".to_owned(),
        "y\nOo\x01AE0cM0cM0cB1sB1L0cU0cHaC0".to_owned(),
        "o2\nOw\0\0\0\x02\0\0\0\x0f\0\0\0\x10C0cM0cR0y\x07550 no!R0y\x03bad".to_owned(),
        "\nOo\x01AC0X\x41\x01bG\x04\0\0\0\x01z".to_owned(),
    ];
    texts.into_iter().map(String::into_bytes).collect()
}

/// See the module `milter_tests::fuzz::network` for how to read them.
fn network() -> Vec<Vec<u8>> {
    let texts = [
        &b"\n\nC0H0M0R0TL0L1NB1S\x5cE0D0D1AK"[..],
        b"j\no\x01A.c.c.c.r.c.c.c.c.c.c.ph00i31;c\nD0D1D2",
        b"aps\no\x01A-.c.wc.c.c.Wc\nD0M0C0E0",
        b"q\no\x01A.c.c.t.z\nD1D1A",
        b"xrbd\no\x05AS0c1.mh00;.c\nC0H0D1",
        b"e\no\x01A.cc\nC0H0M0AD0",
        b"\no\x01A.c.c.c.c.c.c.c.c.s\nC0H0M0R0TL0NS\xffE0M0E0",
        b"\nc\nC0",
        b"\nz\nC0",
        b"b\no\x01A.c.c.c.c.c.c.c.mB0;c\nD1D0",
        b"\no\x01A.X\x41\x01b\nC0D0",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

/// See the module `milter_tests::fuzz::planner` for how to read them.
fn planner() -> Vec<Vec<u8>> {
    let texts = [
        "p\n00112031\nd100i100h01|x201d112|h30",
        "s\n0011203140\nd100d200i500|i030h41|d100",
        "sl\n0405\nx106h07|i20r\x03X-Yr\x02 z",
        "2n\n5040\ni050i140|d500",
        "pw\n003021\n102+01200^33",
        "swl\n80003021\n280+81^90007022",
        "0w\n0030\n+100001",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}
