//! What each milter must do, whichever way the mail takes.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use milter_tests::mail::Mail;
use milter_tests::others::{
    DOMAIN, EICAR, GTUBE, GTUBE_MARKED, HOST, Milter, SELECTOR, UNSOLICITED, verify_dkim,
};

use crate::orders;
use crate::ways::{Mock, Way};

/// Runs the cases of a milter; says what the server logged if one fails.
pub(crate) fn run(milter: Milter, way: &mut dyn Way) {
    let run = || match milter {
        Milter::Signer => signs(way),
        Milter::Verifier => verifies(way),
        Milter::Dmarc => keeps_policies(way),
        Milter::Clamav => finds_viruses(way),
        Milter::Spamass => marks_spam(way),
        Milter::Rspamd => judges(way),
        Milter::Orders | Milter::OrdersStreamed => {
            orders::shared(way);
            orders::newer(way);
        }
        Milter::OrdersPerl => orders::shared(way),
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        eprintln!("=== FAILED: {milter:?}, {}:\n{}", way.kind(), way.report());
        resume_unwind(panic);
    }
}

/// Values that a milter which trims or folds them anew would spoil.
pub(crate) fn to_be_signed() -> Mail {
    Mail::to_bob()
        .header("X-Signed:no space")
        .header("X-Signed:   three spaces, folded\r\n\t over two lines ")
        .body("Hello Bob,\r\n\r\n.dots\r\n..and  spaces \r\n\r\n\r\n")
}

/// opendkim asks for leading spaces and inserts its signature. It signs by the rules `simple`: one
/// byte that is not as it was shown breaks it. HELO, DATA and unknown commands it declines, and it
/// may skip the rest of a body.
fn signs(way: &mut dyn Way) {
    let seen = way.send(&to_be_signed());
    let delivered = seen.delivered();
    let signatures = delivered.header("DKIM-Signature");
    let [signature] = signatures.as_slice() else {
        panic!("signatures: {signatures:?}");
    };
    assert!(
        signature.contains(&format!("d={DOMAIN}; s={SELECTOR};")),
        "{signature}"
    );
    assert!(
        signature.contains("x-signed:x-signed") || signature.contains("X-Signed:X-Signed"),
        "{signature}"
    );
    verify_dkim(&[&delivered.content]).unwrap();
    let mut changed = delivered.content.clone();
    changed.extend_from_slice(b"more\r\n");
    verify_dkim(&[&changed]).unwrap_err();

    let other = way.send(&Mail::to_bob().with("From", "carol@other.test"));
    assert_eq!(other.delivered().header("DKIM-Signature"), [""; 0]);
}

/// What the signer makes of a mail, as a client would send it on.
pub(crate) fn signed() -> Option<Mail> {
    let signer = Milter::Signer.start()?;
    let mail = Mail::to_bob();
    let seen = Mock::postfix(signer.address()).send(&mail);
    let signature = seen.delivered().header("DKIM-Signature").remove(0);
    Some(mail.header(&format!("DKIM-Signature: {signature}")))
}

/// Results that claim to be this host's own are removed, others stay.
fn verifies(way: &mut dyn Way) {
    let results = |seen: crate::ways::Seen| seen.delivered().header("Authentication-Results");
    let Some(signed) = signed() else { return };
    let forged = signed
        .clone()
        .header("Authentication-Results: elsewhere.test; dkim=pass")
        .header(&format!(
            "Authentication-Results: {HOST}; dkim=pass header.d=bank.example"
        ));
    let found = results(way.send(&forged));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains(HOST) && found[0].contains("dkim=pass"),
        "{found:?}"
    );
    assert!(
        found[0].contains(&format!("header.d={DOMAIN}")),
        "{found:?}"
    );
    assert_eq!(found[1], "elsewhere.test; dkim=pass");

    let found = results(way.send(&signed.with("Subject", "another")));
    assert!(found[0].contains("dkim=fail"), "{found:?}");
    let found = results(way.send(&Mail::to_bob()));
    assert!(found[0].contains("dkim=none"), "{found:?}");
}

/// opendmarc reads the results that a verifier before it added, and declines bodies.
fn keeps_policies(way: &mut dyn Way) {
    let seen = way.send(&Mail::to_bob());
    let reply = seen.reply.as_deref().unwrap_or_default();
    assert!(
        reply.starts_with("550 5.7.1 rejected by DMARC policy"),
        "{seen:?}"
    );

    let results = format!("Authentication-Results: {HOST}; dkim=pass header.d={DOMAIN}");
    let seen = way.send(&Mail::to_bob().header(&results));
    let found = seen.delivered().header("Authentication-Results");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains(&format!(
            "dmarc=pass (p=reject dis=none) header.from={DOMAIN}"
        )),
        "{found:?}"
    );

    let seen = way.send(&Mail::to_bob().with("From", "carol@other.test"));
    let found = seen.delivered().header("Authentication-Results");
    assert!(found[0].contains("dmarc=none"), "{found:?}");
}

/// clamav-milter declines HELO and the end of headers. It replaces headers by deleting and adding.
fn finds_viruses(way: &mut dyn Way) {
    let seen = way.send(&Mail::to_bob().header("X-Virus-Status: Infected, says the sender"));
    assert_eq!(seen.delivered().header("X-Virus-Status"), ["Clean"]);
    assert_eq!(seen.delivered().header("X-Virus-Scanned").len(), 1);

    // Far into a large one: it is scanned in many pieces.
    let mut body = milter_tests::mail::fill(200_000);
    body.extend_from_slice(format!("{}\r\n", EICAR.concat()).as_bytes());
    let seen = way.send(&Mail::to_bob().body(body));
    let reply = seen.reply.as_deref().unwrap_or_default();
    assert!(reply.contains("Infected by Test.Eicar"), "{seen:?}");
}

/// spamass-milter changes headers that are not there, which adds them, and replaces the body. It sees
/// all but DATA and unknown commands.
fn marks_spam(way: &mut dyn Way) {
    let seen = way.send(&Mail::to_bob().header("X-Spam-Status: No, says the sender"));
    let status = seen.delivered().header("X-Spam-Status");
    assert_eq!(status, ["No, score=0.0 required=5.0"]);
    assert_eq!(
        seen.delivered().body(),
        b"Hello Bob,\r\nthis is the body.\r\n"
    );

    let seen = way.send(&Mail::to_bob().body(format!("{UNSOLICITED}\r\n")));
    assert_eq!(seen.delivered().header("X-Spam-Flag"), ["YES"]);
    assert_eq!(seen.delivered().header("Subject"), ["[SPAM] test message"]);
    let body = String::from_utf8_lossy(seen.delivered().body()).into_owned();
    assert_eq!(body, format!("This is spam.\r\n{UNSOLICITED}\r\n"));

    let seen = way.send(&Mail::to_bob().body(format!("{}\r\n", GTUBE.concat())));
    let reply = seen.reply.as_deref().unwrap_or_default();
    assert!(
        reply.starts_with("550 5.7.1 Blocked by SpamAssassin"),
        "{seen:?}"
    );
}

/// rspamd has a protocol engine of its own, for version 6 alone: it goes away from an older offer. It
/// asks for all actions and gives no reply before the end, not to recipients and bodies either.
fn judges(way: &mut dyn Way) {
    let seen = way.send(&Mail::to_bob());
    assert!(seen.delivered().header("X-Spam-Status")[0].starts_with("No, score="));

    let seen = way.send(&Mail::to_bob().body(format!("{}\r\n", GTUBE_MARKED.concat())));
    assert_eq!(seen.delivered().header("X-Spam"), ["Yes"]);

    let seen = way.send(&Mail::to_bob().body(format!("{}\r\n", GTUBE.concat())));
    let reply = seen.reply.as_deref().unwrap_or_default();
    assert!(reply.starts_with("554 5.7.1 Gtube pattern"), "{seen:?}");
}
