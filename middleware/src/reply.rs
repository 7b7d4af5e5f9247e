//! Replies whose words stand in this crate.

use milter_tower::SmtpReply;

/// The reply of this line, which is a right one: code, enhanced code, text.
pub(crate) fn reply(line: &str) -> SmtpReply {
    line.parse().unwrap_or_else(|_| {
        debug_assert!(false, "{line}");
        SmtpReply::tempfail(line)
    })
}
