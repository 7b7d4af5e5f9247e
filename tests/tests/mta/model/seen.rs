//! What became of the messages, and whether that is what the model says.

use std::collections::HashMap;

use milter_core::EsmtpArgs;
use milter_core::edit;
use milter_tests::rig::Rig;
use milter_tests::scripted::CASE;
use milter_tests::sink::Delivered;

/// Everything that came out of a server, by the numbers of the cases.
pub(super) struct Seen {
    delivered: HashMap<String, Vec<Delivered>>,
    held: Vec<String>,
    is_postfix: bool,
}

impl Seen {
    /// Waits until all is delivered or held.
    pub(super) fn collect(rig: &Rig) -> Self {
        rig.mta().idle().unwrap_or_else(|error| panic!("{error}"));
        Self::new(rig, rig.sink().take_all())
    }

    /// Of what was delivered.
    pub(super) fn new(rig: &Rig, all: Vec<Delivered>) -> Self {
        let mut delivered: HashMap<String, Vec<Delivered>> = HashMap::new();
        for one in all {
            let case = one.header(CASE).concat();
            delivered.entry(case).or_default().push(one);
        }
        Self {
            delivered,
            held: rig.mta().held(),
            is_postfix: rig.by_kind(true, false),
        }
    }

    fn delivered(&self, number: usize) -> &[Delivered] {
        self.delivered
            .get(&number.to_string())
            .map_or(&[], Vec::as_slice)
    }

    fn held(&self, number: usize) -> Vec<&String> {
        let line = format!("{CASE}: {number}\n");
        self.held.iter().filter(|one| one.contains(&line)).collect()
    }

    /// It was neither delivered nor held.
    pub(super) fn assert_nothing(&self, number: usize) {
        assert_eq!(self.delivered(number), []);
        assert!(self.held(number).is_empty());
    }

    /// It is held. Sendmail shows why, but holds nothing that is for nobody.
    fn assert_held(&self, number: usize, reason: &str, is_for_nobody: bool) {
        assert_eq!(self.delivered(number), []);
        let held = self.held(number);
        let is_dropped = is_for_nobody && !self.is_postfix;
        assert_eq!(held.len(), usize::from(!is_dropped), "held messages");
        if let Some(one) = held.first().filter(|_| !self.is_postfix) {
            let line = format!("q{reason}");
            assert!(one.lines().any(|row| row == line), "no line {line}");
        }
    }

    /// The mail that was accepted is this one.
    pub(super) fn assert_is(&self, number: usize, model: &edit::Mail) {
        if let Some(reason) = model.quarantine() {
            self.assert_held(number, &reason.to_string(), model.recipients().is_empty());
            return;
        }
        assert!(self.held(number).is_empty());
        let delivered = self.delivered(number);
        assert_eq!(recipients(delivered), recipients_of(model));
        for one in delivered {
            assert_eq!(sender(one), sender_of(model));
            assert_eq!(headers(one), headers_of(model));
            assert_body(one.body(), model.body());
        }
    }
}

/// The n-th filter was shown this mail.
pub(super) fn assert_shown(rig: &Rig, n: usize, number: usize, model: &edit::Mail) {
    let shown = rig
        .scripted(n)
        .shown(&number.to_string())
        .expect("the filter sees the end of the message");
    let headers: Vec<_> = model
        .shown_headers(false)
        .map(|header| {
            (
                header.name().as_bytes().to_vec(),
                header.value().as_bytes().to_vec(),
            )
        })
        .collect();
    assert_eq!(shown.headers, headers, "headers shown to filter {n}");
    assert_body(&shown.body, &model.shown_body());
}

#[track_caller]
fn assert_body(body: &[u8], expected: &[u8]) {
    // Large ones are not worth printing whole.
    if body != expected {
        let at = body
            .iter()
            .zip(expected)
            .take_while(|(a, b)| a == b)
            .count();
        let rest = |bytes: &[u8]| bytes[at..].iter().take(80).copied().collect::<Vec<u8>>();
        panic!(
            "bodies of {} and {} bytes differ at {at}: {:?}, but the model has {:?}",
            body.len(),
            expected.len(),
            rest(body).escape_ascii().to_string(),
            rest(expected).escape_ascii().to_string()
        );
    }
}

fn headers(one: &Delivered) -> Vec<(String, String)> {
    let all = one.headers().into_iter();
    all.map(|(name, value)| {
        let is_own = name == "Received" && value.starts_with("from ");
        (name, if is_own { "own".into() } else { value })
    })
    .collect()
}

fn headers_of(model: &edit::Mail) -> Vec<(String, String)> {
    model
        .headers()
        .map(|header| {
            let value = header.value().to_string().replace('\n', "\r\n");
            let value = value.strip_prefix(' ').unwrap_or(&value).to_owned();
            (header.name().to_string(), value)
        })
        .collect()
}

/// An address and what of its arguments a server hands on for the client's sake.
type Path = (String, Vec<String>);

fn sender(one: &Delivered) -> Path {
    let args = one.sender_args.iter().filter(|arg| !is_servers_own(arg));
    (one.sender.clone(), sorted(args.cloned()))
}

fn sender_of(model: &edit::Mail) -> Path {
    let sender = model.sender();
    (sender.address().to_string(), args_of(sender.args()))
}

/// Each server says itself how large the mail is, and what is in it.
fn is_servers_own(arg: &str) -> bool {
    ["SIZE=", "BODY="].iter().any(|own| arg.starts_with(own))
}

/// Of all that was delivered: a server may send recipients apart.
fn recipients(delivered: &[Delivered]) -> Vec<Path> {
    let all = delivered.iter().flat_map(|one| &one.recipients);
    let all = all.map(|(path, args)| {
        let args = args.iter().filter(|arg| !names_itself(path, arg));
        (path.clone(), sorted(args.map(|arg| in_upper_case(arg))))
    });
    let mut all: Vec<Path> = all.collect();
    all.sort();
    all
}

/// Postfix says itself who is meant, where nobody else did.
fn names_itself(path: &str, arg: &str) -> bool {
    let raw = format!("{arg}\0");
    let orcpt = EsmtpArgs::new(raw.as_bytes()).orcpt();
    orcpt.is_some_and(|orcpt| format!("<{}>", String::from_utf8_lossy(orcpt.address())) == path)
}

/// The servers write the keyword so, and the value where it is one of a few words.
fn in_upper_case(arg: &str) -> String {
    let (keyword, value) = arg.split_once('=').unwrap_or((arg, ""));
    let keyword = keyword.to_ascii_uppercase();
    if ["NOTIFY", "RET"].contains(&&*keyword) {
        format!("{keyword}={}", value.to_ascii_uppercase())
    } else {
        format!("{keyword}={value}")
    }
}

fn recipients_of(model: &edit::Mail) -> Vec<Path> {
    let all = model.recipients().iter();
    let mut all: Vec<Path> = all
        .map(|one| (one.address().to_string(), args_of(one.args())))
        .collect();
    all.sort();
    all
}

fn args_of(args: EsmtpArgs<'_>) -> Vec<String> {
    sorted(
        args.iter()
            .map(|arg| in_upper_case(&arg.raw().to_string()))
            .filter(|arg| !is_servers_own(arg)),
    )
}

fn sorted(all: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = all.collect();
    all.sort();
    all
}
