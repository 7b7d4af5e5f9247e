//! Odd clients.

use bytes::Bytes;
use milter_core::macros::names;
use milter_core::{ClientAddr, MacroStage};

use super::{Mail, Recipe};

pub(super) const MAILS: &[Recipe] = &[
    ("no HELO", || Mail::new().without_helo()),
    ("HELO of an address literal", || {
        Mail::new().helo("[192.0.2.1]")
    }),
    ("HELO of odd bytes", || {
        Mail::new().helo(b"\xff \"%s\"\t\x1b[31m")
    }),
    ("empty HELO", || Mail::new().helo("")),
    // Postfix takes lines of 2,048 bytes (line_length_limit).
    ("HELO of 2,000 bytes", || Mail::new().helo("h".repeat(2000))),
    ("IPv6 client", || {
        Mail::new().client_ip([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])
    }),
    ("IPv4 client in an IPv6 address", || {
        Mail::new().client_ip([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201])
    }),
    ("client without a port", || {
        Mail::new().client_addr(ClientAddr::Inet(([192, 0, 2, 1], 0).into()))
    }),
    ("client at a unix socket", || {
        Mail::new()
            .client_addr(ClientAddr::Unix(Bytes::from_static(b"/run/client")))
            .client_name("localhost")
    }),
    // Sendmail tells this of mail that comes on standard input, Postfix of mail from sendmail(1).
    ("client without an address", || {
        Mail::new()
            .client_addr(ClientAddr::Unknown)
            .client_name("localhost")
    }),
    ("client whose address cannot be read", || {
        Mail::new().client_addr(ClientAddr::Unreadable {
            family: b'4',
            port: 25,
            address: Bytes::from_static(b"192.0.2.1.example"),
        })
    }),
    ("client without a name", || Mail::new().client_name("")),
    ("client whose name is an address", || {
        Mail::new().client_name("[192.0.2.1]")
    }),
    ("client name of 255 bytes", || {
        Mail::new().client_name("n.".repeat(127) + "n")
    }),
    ("commands of other protocols", || {
        Mail::new()
            .unknown_command("GET / HTTP/1.1")
            .unknown_command(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            .unknown_command("")
            .unknown_command("x".repeat(2000))
    }),
    ("empty macros", || {
        let macros = [
            (MacroStage::Connect, names::CLIENT),
            (MacroStage::Helo, names::TLS_VERSION),
            (MacroStage::Helo, names::CIPHER_BITS),
            (MacroStage::Mail, names::AUTH_TYPE),
            (MacroStage::Mail, names::AUTH_AUTHEN),
            (MacroStage::Rcpt, names::RCPT_ADDR),
            (MacroStage::EndOfMessage, names::MSG_ID),
        ];
        macros.into_iter().fold(Mail::new(), |mail, (stage, name)| {
            mail.macro_at(stage, name, "")
        })
    }),
    ("macros of odd values", || {
        Mail::new()
            .tls("TLSv9\n", "%s", u32::MAX)
            .tls_cert(b"/CN=\xff\"", "/CN=a/CN=b")
            .auth("GSSAPI", "a b@c\\d")
            .macro_at(MacroStage::Helo, names::CIPHER_BITS, "-1")
            .macro_at(MacroStage::Mail, names::AUTH_SSF, "99999999999999999999")
            .macro_at(MacroStage::Mail, "{x}", "x".repeat(2000))
    }),
];
