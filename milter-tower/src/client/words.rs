//! What an MTA says in its own words.

use milter_core::{EnhancedCode, SmtpReply, Verdict};

/// A reply in an MTA's own words, which always has its form.
pub(crate) fn reply(code: u16, subject: u16, detail: u16, text: &str) -> SmtpReply {
    let class = if code < 500 { 4 } else { 5 };
    let mut builder = SmtpReply::builder(code).line(text);
    if let Ok(enhanced) = EnhancedCode::new(class, subject, detail) {
        builder = builder.enhanced_code(enhanced);
    }
    builder
        .build()
        .unwrap_or_else(|_| SmtpReply::tempfail(text))
}

/// What the client is told for this verdict, if it is a refusal: the filter's words, else those
/// of Postfix.
// Postfix milter8.c milter8_event
pub(crate) fn refusal(verdict: &Verdict) -> Option<SmtpReply> {
    match verdict {
        Verdict::Reject => Some(reply(550, 7, 1, "Command rejected")),
        Verdict::TempFail => Some(reply(451, 7, 1, "Service unavailable - try again later")),
        Verdict::Reply(own) => Some(own.clone()),
        _ => None,
    }
}

/// What the client is told when a message cannot be changed as the filter wants.
// Postfix milter8.c milter8_conf_error
pub(crate) fn not_changed() -> SmtpReply {
    reply(451, 3, 5, "Server configuration problem - try again later")
}

/// Whether nothing else comes after this reply.
// Postfix smtpd.c
pub(crate) fn is_final(reply: &SmtpReply) -> bool {
    matches!(reply.code(), 421 | 521)
}
