//! The names of the macros that Sendmail and Postfix know, and what they mean there.
//!
//! Which of them an MTA sends at which stage is its configuration's to say
//! (`confMILTER_MACROS_*` in Sendmail, `milter_*_macros` in Postfix), unless a filter asks for
//! others in the negotiation. "Default" below says what comes without either.
// Sendmail: doc/op/op.me "Macros", cf/m4/cfhead.m4. Postfix: MILTER_README, global/mail_params.h.

macro_rules! names {
    ($($(#[$doc:meta])+ $name:ident = $text:literal;)+) => {
        $($(#[$doc])+ pub const $name: &str = $text;)+

        /// All names of this module.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

names! {
    /// The MTA's own host name. Default at connect on both.
    HOST_NAME = "j";
    /// The MTA's name and version: `Postfix 3.7.11`, or the bare version `8.17.1` of Sendmail.
    /// Default at connect on Postfix only.
    VERSION = "v";
    /// The client as the MTA's `Received` header shows it: `name [address]`. Default at connect.
    CLIENT = "_";
    /// The queue id. Sendmail has it from MAIL on, Postfix from the first accepted recipient on.
    QUEUE_ID = "i";
    /// The name of the listener that took the connection: Sendmail's `DaemonPortOptions`
    /// `Name=`, Postfix's `milter_macro_daemon_name` (its host name unless set). Default at connect.
    DAEMON_NAME = "{daemon_name}";
    /// The MTA's address that took the connection. Postfix (default at connect) and Sendmail.
    DAEMON_ADDR = "{daemon_addr}";
    /// The port that took the connection. On request, both.
    DAEMON_PORT = "{daemon_port}";
    /// The host name of the network interface that took the connection. Sendmail, default at connect.
    IF_NAME = "{if_name}";
    /// The address of that interface; empty on loopback. Sendmail, default at connect.
    IF_ADDR = "{if_addr}";
    /// The client's address. On request, both.
    CLIENT_ADDR = "{client_addr}";
    /// The client's verified host name, `[address]` or `unknown`. On request, both.
    CLIENT_NAME = "{client_name}";
    /// The client's port. On request, both.
    CLIENT_PORT = "{client_port}";
    /// The client's unverified name from the reverse look-up. On request, both.
    CLIENT_PTR = "{client_ptr}";
    /// The result of the client's name look-up: `OK`, `FAIL`, `FORGED`, `TEMP`. Sendmail, on request.
    CLIENT_RESOLVE = "{client_resolve}";
    /// The number of connections that the client has open. Sendmail and Postfix, on request.
    CLIENT_CONNECTIONS = "{client_connections}";
    /// The TLS protocol of the client's connection: `TLSv1.3`. Default at HELO on both.
    TLS_VERSION = "{tls_version}";
    /// The cipher suite. Default at HELO on both.
    CIPHER = "{cipher}";
    /// The effective length of the key in bits. Default at HELO on both.
    CIPHER_BITS = "{cipher_bits}";
    /// The subject of the client's certificate. Default at HELO on both.
    CERT_SUBJECT = "{cert_subject}";
    /// The issuer of the client's certificate. Default at HELO on both.
    CERT_ISSUER = "{cert_issuer}";
    /// The result of the certificate's verification: `OK`, `NONE`, `FAIL` … Sendmail, on request.
    VERIFY = "{verify}";
    /// The SASL mechanism of the client's authentication. Default at MAIL on both.
    AUTH_TYPE = "{auth_type}";
    /// The authenticated user. Default at MAIL on both.
    AUTH_AUTHEN = "{auth_authen}";
    /// The strength of SASL's security layer in bits. Sendmail, default at MAIL.
    AUTH_SSF = "{auth_ssf}";
    /// The `AUTH=` parameter of MAIL, if it was trusted. Default at MAIL on both.
    AUTH_AUTHOR = "{auth_author}";
    /// The mailer (Sendmail) or transport (Postfix) for the sender. Default at MAIL on both.
    MAIL_MAILER = "{mail_mailer}";
    /// The host of the sender's mailer. Default at MAIL on both.
    MAIL_HOST = "{mail_host}";
    /// The sender's address as the MTA resolved it. Default at MAIL on both.
    MAIL_ADDR = "{mail_addr}";
    /// The mailer or transport for the recipient; `error` for one that the MTA refused.
    /// Default at RCPT on both.
    RCPT_MAILER = "{rcpt_mailer}";
    /// The host of the recipient's mailer; the enhanced status code for one that the MTA refused.
    /// Default at RCPT on both.
    RCPT_HOST = "{rcpt_host}";
    /// The recipient's address as the MTA resolved it; the error text for one that the MTA
    /// refused. Default at RCPT on both.
    RCPT_ADDR = "{rcpt_addr}";
    /// The value of the message's `Message-Id` header. Sendmail, default at end of message.
    MSG_ID = "{msg_id}";
    /// The size that MAIL announced. Sendmail, on request.
    MSG_SIZE = "{msg_size}";
    /// The number of accepted recipients, from DATA on. Sendmail, on request.
    NRCPTS = "{nrcpts}";
    /// The number of recipients that were refused. Sendmail, on request.
    NBADRCPTS = "{nbadrcpts}";
    /// The sender's address in the form of the header. Sendmail, on request.
    SENDER = "f";
    /// The protocol: `SMTP`, `ESMTP`. Sendmail, on request.
    PROTOCOL = "r";
    /// The client's HELO name. Sendmail, on request.
    HELO_NAME = "s";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn long_names_wear_braces() {
        for name in ALL {
            assert_eq!(
                name.len() > 1,
                name.starts_with('{') && name.ends_with('}'),
                "{name}"
            );
        }
    }
}
