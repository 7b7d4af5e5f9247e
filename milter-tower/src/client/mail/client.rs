//! Who sends a mail.

use std::net::{IpAddr, SocketAddr};

use milter_core::macros::names;
use milter_core::{ClientAddr, Connect, Helo, MacroStage, Text, UnknownCommand};

use super::{Mail, PORT, copied};

/// The client that sends it.
impl Mail {
    /// Sets the client's IP address.
    pub fn client_ip(self, ip: impl Into<IpAddr>) -> Self {
        self.client_addr(SocketAddr::new(ip.into(), PORT))
    }

    /// Sets where the client connects from, which need not be an IP address.
    pub fn client_addr(mut self, client: impl Into<ClientAddr>) -> Self {
        self.client = client.into();
        self
    }

    /// Sets the client's host name, as the MTA found it.
    pub fn client_name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.client_name = copied(name);
        self
    }

    /// Sets the name that the client gives in HELO or EHLO.
    pub fn helo(mut self, name: impl AsRef<[u8]>) -> Self {
        self.helo = Some(copied(name));
        self
    }

    /// Leaves out HELO. Both MTAs allow that unless told otherwise (Postfix's
    /// `smtpd_helo_required`, Sendmail's `PrivacyOptions=needmailhelo`).
    pub fn without_helo(mut self) -> Self {
        self.helo = None;
        self
    }

    /// The client uses TLS: the protocol (`TLSv1.3`), the cipher suite, and the bits of its key.
    pub fn tls(
        self,
        version: impl AsRef<[u8]>,
        cipher: impl AsRef<[u8]>,
        cipher_bits: u32,
    ) -> Self {
        self.macro_at(MacroStage::Helo, names::TLS_VERSION, version)
            .macro_at(MacroStage::Helo, names::CIPHER, cipher)
            .macro_at(
                MacroStage::Helo,
                names::CIPHER_BITS,
                cipher_bits.to_string(),
            )
    }

    /// The client's certificate: its subject and its issuer.
    pub fn tls_cert(self, subject: impl AsRef<[u8]>, issuer: impl AsRef<[u8]>) -> Self {
        self.macro_at(MacroStage::Helo, names::CERT_SUBJECT, subject)
            .macro_at(MacroStage::Helo, names::CERT_ISSUER, issuer)
    }

    /// The client authenticated: the SASL mechanism (`PLAIN`), and the user.
    pub fn auth(self, mechanism: impl AsRef<[u8]>, user: impl AsRef<[u8]>) -> Self {
        self.macro_at(MacroStage::Mail, names::AUTH_TYPE, mechanism)
            .macro_at(MacroStage::Mail, names::AUTH_AUTHEN, user)
    }

    /// Sets a macro that the MTA tells at a stage, besides those that it always tells or in place
    /// of one of them. [`names`](milter_core::macros::names) has the names.
    pub fn macro_at(
        mut self,
        stage: MacroStage,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Self {
        let name = copied(name);
        let is_other = |n: &[u8]| without_braces(n) != without_braces(&name);
        self.macros.retain(|(s, n, _)| *s != stage || is_other(n));
        self.macros.push((stage, name, copied(value)));
        self
    }

    /// The client sends a command that no MTA knows, before MAIL: the whole line, without its end.
    pub fn unknown_command(mut self, line: impl AsRef<[u8]>) -> Self {
        self.unknown_commands
            .push(UnknownCommand::new(copied(line)));
        self
    }

    /// The client's connection.
    pub fn connection(&self) -> Connect {
        Connect::new(self.client_name.clone(), self.client.clone())
    }

    /// The greeting, if the client gives one.
    pub fn greeting(&self) -> Option<Helo> {
        self.helo.clone().map(Helo::new)
    }

    /// The macros of a stage that are the mail's or were [set](Self::macro_at).
    pub fn macros(&self, stage: MacroStage) -> impl Iterator<Item = (Text<'_>, Text<'_>)> {
        let macros = self.macros.iter();
        macros
            .filter(move |(s, ..)| *s == stage)
            .map(|(_, name, value)| (Text::new(name), Text::new(value)))
    }

    /// The commands that no MTA knows, which come before MAIL.
    pub fn unknown_commands(&self) -> &[UnknownCommand] {
        &self.unknown_commands
    }
}

/// `{name}` as `name`: braces never matter (`libmilter/smfi.c` `smfi_getsymval`).
fn without_braces(name: &[u8]) -> &[u8] {
    let bare = name
        .strip_prefix(b"{")
        .and_then(|rest| rest.strip_suffix(b"}"));
    bare.unwrap_or(name)
}
