//! Which mails have a footer at all.

use clap::ValueEnum;
use milter_tower::message::Message;

/// What is left alone unless told otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// Mail without a sender, such as bounces
    NullSender,
    /// Mail that programs send: lists, newsletters, answers by themselves
    Automatic,
    /// Mail with a DKIM signature, which the footer breaks
    DkimSigned,
}

/// Which mails have a footer.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    domains: Vec<String>,
    also: Vec<What>,
    marker: String,
}

impl Policy {
    pub(crate) const fn new(domains: Vec<String>, also: Vec<What>, marker: String) -> Self {
        Self {
            domains,
            also,
            marker,
        }
    }

    /// The name of the header that a mail with a footer has.
    pub(crate) fn marker(&self) -> &str {
        &self.marker
    }

    /// Why a mail has no footer, if it has none.
    pub(crate) fn leaves_alone(&self, mail: &Message) -> Option<&'static str> {
        let is_foreign = || {
            let mut own = self.domains.iter();
            !self.domains.is_empty() && !own.any(|domain| mail.sender().is_at(domain))
        };
        let headers = mail.headers();
        let is_left = |what: What| !self.also.contains(&what);
        if headers.contains(&self.marker) {
            Some("it has its footer")
        } else if mail.body().is_cut() {
            Some("it is large")
        } else if is_left(What::NullSender) && mail.sender().is_null() {
            Some("it has no sender")
        } else if is_foreign() {
            Some("its sender is in another domain")
        } else if is_left(What::Automatic) && is_automatic(mail) {
            Some("a program sent it")
        } else if is_left(What::DkimSigned) && headers.contains("DKIM-Signature") {
            Some("it has a DKIM signature")
        } else {
            None
        }
    }
}

fn is_automatic(mail: &Message) -> bool {
    let headers = mail.headers();
    let first_word = |name: &str| {
        let value = headers.get_str(name)?;
        value.split([';', ' ', '\t']).next()
    };
    // RFC 3834 5: any keyword but `no`.
    let answers = first_word("Auto-Submitted").is_some_and(|word| !word.eq_ignore_ascii_case("no"));
    let is_many = |word: &str| {
        ["bulk", "junk", "list"]
            .iter()
            .any(|many| word.eq_ignore_ascii_case(many))
    };
    answers || first_word("Precedence").is_some_and(is_many) || headers.contains("List-Id")
}
