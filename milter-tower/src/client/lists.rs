//! Which macros an MTA sends where.

use milter_core::MacroStage;
use milter_core::macros::names as n;

/// Those of Postfix in its default configuration.
// Postfix global/mail_params.h DEF_MILT_CONN_MACROS and the like
pub(crate) const POSTFIX: [(MacroStage, &[&str]); 7] = [
    (
        MacroStage::Connect,
        &[
            n::HOST_NAME,
            n::DAEMON_NAME,
            n::DAEMON_ADDR,
            n::VERSION,
            n::CLIENT,
        ],
    ),
    (MacroStage::Helo, TLS),
    (
        MacroStage::Mail,
        &[
            n::QUEUE_ID,
            n::AUTH_TYPE,
            n::AUTH_AUTHEN,
            n::AUTH_AUTHOR,
            n::MAIL_ADDR,
            n::MAIL_HOST,
            n::MAIL_MAILER,
        ],
    ),
    (
        MacroStage::Rcpt,
        &[n::QUEUE_ID, n::RCPT_ADDR, n::RCPT_HOST, n::RCPT_MAILER],
    ),
    (MacroStage::Data, &[n::QUEUE_ID]),
    (MacroStage::EndOfHeaders, &[n::QUEUE_ID]),
    (MacroStage::EndOfMessage, &[n::QUEUE_ID]),
];

/// Those of the client's TLS connection.
pub(crate) const TLS: &[&str] = &[
    n::TLS_VERSION,
    n::CIPHER,
    n::CIPHER_BITS,
    n::CERT_SUBJECT,
    n::CERT_ISSUER,
];
