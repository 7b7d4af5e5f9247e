//! Assertions on what became of a mail.

/// Asserts that the delivered message has a header: a single one of that name with that value, or
/// as many as there are values, in this order. Without a value, that there is one of that name.
///
/// White space around a value does not count, and a folded one may be given on one line.
///
/// ```
/// # use milter_core::edit::{Mail, Profile};
/// # use milter_tower::testing::Delivery;
/// # use milter_tower::Header;
/// use milter_tower::{assert_header, assert_no_header};
///
/// # let mail = Mail::new(Profile::postfix())
/// #     .with_header(Header::new("X-Spam", " YES"))
/// #     .with_header(Header::new("Received", " two"))
/// #     .with_header(Header::new("Received", " one"));
/// # let done = Delivery::new(mail);
/// assert_header!(done, "X-Spam", "YES");
/// assert_header!(done, "Received", ["two", "one"]);
/// assert_header!(done, "Received");
/// assert_no_header!(done, "X-Virus");
/// ```
///
/// Needs the feature `testing`.
///
/// # Panics
///
/// If it is not so, with the headers and how they differ: `-` was expected, `+` was delivered.
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
#[macro_export]
macro_rules! assert_header {
    ($done:expr, $name:expr $(,)?) => {
        $crate::testing::check::some_header(&$done, $name.as_ref())
    };
    ($done:expr, $name:expr, [$($value:expr),+ $(,)?] $(,)?) => {
        $crate::testing::check::header(&$done, $name.as_ref(), &[$($value.as_ref()),+])
    };
    ($done:expr, $name:expr, $value:expr $(,)?) => {
        $crate::testing::check::header(&$done, $name.as_ref(), &[$value.as_ref()])
    };
}

/// Asserts that the delivered message has no header of that name.
///
/// See [`assert_header!`](crate::assert_header) for an example.
///
/// Needs the feature `testing`.
///
/// # Panics
///
/// If it has one, with the headers.
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
#[macro_export]
macro_rules! assert_no_header {
    ($done:expr, $name:expr $(,)?) => {
        $crate::testing::check::header(&$done, $name.as_ref(), &[])
    };
}

/// Asserts that the delivered message has this body, whose lines end in LF or CRLF.
///
/// ```
/// # use milter_core::edit::{Mail, Profile};
/// # use milter_tower::testing::Delivery;
/// use milter_tower::assert_body;
///
/// # let done = Delivery::new(Mail::new(Profile::postfix()).with_body("Hello\r\nBob\r\n"));
/// assert_body!(done, "Hello\nBob\n");
/// ```
///
/// Needs the feature `testing`.
///
/// # Panics
///
/// If it is not so, with the lines that differ: `-` was expected, `+` was delivered.
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
#[macro_export]
macro_rules! assert_body {
    ($done:expr, $body:expr $(,)?) => {
        $crate::testing::check::body(&$done, $body.as_ref())
    };
}

/// Asserts who gets the delivered message: these addresses in this order, with or without `<>`.
///
/// ```
/// # use milter_core::edit::{Mail, Profile};
/// # use milter_tower::testing::Delivery;
/// # use milter_tower::Recipient;
/// use milter_tower::assert_recipients;
///
/// # let mail = Mail::new(Profile::postfix())
/// #     .with_recipient(Recipient::new("<bob@example.net>", [""; 0]))
/// #     .with_recipient(Recipient::new("<archive@example.net>", [""; 0]));
/// # let done = Delivery::new(mail);
/// assert_recipients!(done, ["bob@example.net", "archive@example.net"]);
/// ```
///
/// Needs the feature `testing`.
///
/// # Panics
///
/// If it is not so, with the addresses that differ: `-` was expected, `+` was delivered.
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
#[macro_export]
macro_rules! assert_recipients {
    ($done:expr, [$($address:expr),* $(,)?] $(,)?) => {
        $crate::testing::check::recipients(&$done, &[$($address.as_ref()),*])
    };
}

/// Asserts that the MTA took the mail.
///
/// Needs the feature `testing`.
///
/// # Panics
///
/// If it did not, with all that became of the mail.
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
#[macro_export]
macro_rules! assert_accepted {
    ($done:expr $(,)?) => {
        $crate::testing::check::accepted(&$done)
    };
}

/// Asserts that the mail, or each of its recipients, was refused; with a code, by a reply that has
/// it; with a text, by one that has this text somewhere in it. Of several recipients the last one's
/// reply counts.
///
/// ```
/// # use milter_core::edit::{Mail, Profile};
/// # use milter_tower::testing::Delivery;
/// # use milter_tower::Stage;
/// use milter_tower::{SmtpReply, assert_refused};
///
/// # let mut done = Delivery::new(Mail::new(Profile::postfix()));
/// # done.refuse(Stage::Mail, SmtpReply::reject("You are on our block list"));
/// assert_refused!(done);
/// assert_refused!(done, 550);
/// assert_refused!(done, 550, "block list");
/// ```
///
/// Needs the feature `testing`.
///
/// # Panics
///
/// If it is not so, with all that became of the mail.
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
#[macro_export]
macro_rules! assert_refused {
    ($done:expr $(,)?) => {
        $crate::testing::check::refused(&$done, None, "")
    };
    ($done:expr, $code:expr $(,)?) => {
        $crate::testing::check::refused(&$done, Some($code), "")
    };
    ($done:expr, $code:expr, $text:expr $(,)?) => {
        $crate::testing::check::refused(&$done, Some($code), $text.as_ref())
    };
}

/// Asserts that the client was told that the mail was taken, and nobody gets it.
///
/// Needs the feature `testing`.
///
/// # Panics
///
/// If it is not so, with all that became of the mail.
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
#[macro_export]
macro_rules! assert_discarded {
    ($done:expr $(,)?) => {
        $crate::testing::check::discarded(&$done)
    };
}

/// Asserts that the MTA took the mail and holds it back; with a text, for a reason that has this
/// text somewhere in it.
///
/// Needs the feature `testing`.
///
/// # Panics
///
/// If it is not so, with all that became of the mail.
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
#[macro_export]
macro_rules! assert_quarantined {
    ($done:expr $(,)?) => {
        $crate::testing::check::quarantined(&$done, "")
    };
    ($done:expr, $reason:expr $(,)?) => {
        $crate::testing::check::quarantined(&$done, $reason.as_ref())
    };
}
