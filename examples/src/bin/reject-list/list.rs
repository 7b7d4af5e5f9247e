//! The block list: how its file is read, and what it says of a client, a sender, a recipient.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use milter_tower::{SmtpReply, domain_key, mailbox_key};

/// So many lines that mean nothing are told.
const MOST_TOLD: usize = 20;

/// What an entry says: refuse in these words, or nothing against it.
type Answer = Option<SmtpReply>;

/// Who is refused, and in which words.
///
/// Of the entries that fit, the most specific one decides: the longest prefix, the address before
/// its domain, the domain before the one above it. Of two for the same thing the first counts.
#[derive(Debug, Default)]
pub(crate) struct List {
    clients: HashMap<IpNet, Answer>,
    /// The prefix lengths among them: a look-up for each, so that long lists cost no more.
    prefix_lengths: BTreeSet<u8>,
    senders: HashMap<String, Answer>,
    sender_domains: HashMap<String, Answer>,
    recipients: HashMap<String, Answer>,
}

impl List {
    /// Reads the file.
    pub(crate) fn read(path: &Path) -> Result<Self, ListError> {
        let text = fs::read(path).map_err(ListError::File)?;
        Self::parse(&text)
    }

    pub(crate) fn parse(text: &[u8]) -> Result<Self, ListError> {
        let mut list = Self::default();
        let (mut told, mut more) = (Vec::new(), 0);
        for (line, number) in text.split(|&byte| byte == b'\n').zip(1..) {
            match list.read_line(line) {
                Ok(()) => {}
                Err(what) if told.len() < MOST_TOLD => told.push(format!("line {number}: {what}")),
                Err(_) => more += 1,
            }
        }
        if told.is_empty() {
            Ok(list)
        } else {
            Err(ListError::Lines { told, more })
        }
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        let tables = [&self.senders, &self.sender_domains, &self.recipients];
        self.clients.len() + tables.map(HashMap::len).iter().sum::<usize>()
    }

    fn read_line(&mut self, line: &[u8]) -> Result<(), String> {
        let line = std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned())?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (kind, rest) = word(line);
        let (what, answer) = word(rest);
        if what.is_empty() {
            return Err(format!("{kind:?} is followed by nothing"));
        }
        match kind {
            "client" => {
                let network = network(what)?;
                let answer = parse_answer(answer, "Your network is on our block list")?;
                self.prefix_lengths.insert(network.prefix_len());
                self.clients.entry(network).or_insert(answer);
            }
            "sender" => {
                let answer = parse_answer(answer, "The sender is on our block list")?;
                self.senders.entry(mailbox(what)?).or_insert(answer);
            }
            "sender-domain" => {
                let answer = parse_answer(answer, "The sender's domain is on our block list")?;
                self.sender_domains.entry(domain(what)?).or_insert(answer);
            }
            "recipient" => {
                let answer = parse_answer(answer, "No mail is taken for this recipient")?;
                self.recipients.entry(mailbox(what)?).or_insert(answer);
            }
            _ => {
                return Err(format!(
                    "{kind:?} is none of client, sender, sender-domain and recipient"
                ));
            }
        }
        Ok(())
    }

    /// The refusal for a client, if it gets one.
    pub(crate) fn client(&self, ip: IpAddr) -> Option<&SmtpReply> {
        // ::ffff:192.0.2.1 is what an IPv4 client looks like to a server that listens at [::].
        let ip = ip.to_canonical();
        let longest_first = self.prefix_lengths.iter().rev();
        longest_first
            .filter_map(|&length| IpNet::new(ip, length).ok())
            .find_map(|network| self.clients.get(&network.trunc()))?
            .as_ref()
    }

    /// The refusal for a sender, if it gets one.
    pub(crate) fn sender(&self, address: impl AsRef<[u8]>) -> Option<&SmtpReply> {
        let key = mailbox_key(address);
        let by_domain = || {
            let domain = key.rsplit_once('@')?.1;
            parents(domain).find_map(|domain| self.sender_domains.get(domain))
        };
        self.senders.get(&key).or_else(by_domain)?.as_ref()
    }

    /// The refusal for a recipient, if it gets one.
    pub(crate) fn recipient(&self, address: impl AsRef<[u8]>) -> Option<&SmtpReply> {
        self.recipients.get(&mailbox_key(address))?.as_ref()
    }
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    match text.split_once(|c: char| c.is_ascii_whitespace()) {
        Some((word, rest)) => (word, rest.trim_start()),
        None => (text, ""),
    }
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = match text.parse::<IpAddr>() {
        Ok(ip) => IpNet::from(ip.to_canonical()),
        Err(_) => text.parse::<IpNet>().map_err(|_| {
            format!("{text:?} is no network such as 192.0.2.0/24 or 2001:db8::/32, and no address")
        })?,
    };
    if network != network.trunc() {
        let meant = network.trunc();
        return Err(format!(
            "{text} is an address within a network: write {meant}"
        ));
    }
    Ok(network)
}

/// An address with or without `<>`; the null sender is `<>`.
fn mailbox(text: &str) -> Result<String, String> {
    let is_whole = text.contains('@') || text == "<>" || text.eq_ignore_ascii_case("postmaster");
    if !is_whole {
        return Err(format!("{text:?} is no address such as bob@example.net"));
    }
    Ok(mailbox_key(text))
}

fn domain(text: &str) -> Result<String, String> {
    let domain = milter_examples::domain(text)?;
    Ok(domain_key(domain))
}

/// The domain, the one above it, and so on.
fn parents(domain: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(domain), |domain| Some(domain.split_once('.')?.1))
}

/// `ok`, `550 5.7.1 TEXT`, `TEXT`, or nothing.
fn parse_answer(text: &str, default: &str) -> Result<Answer, String> {
    if text == "ok" {
        return Ok(None);
    }
    let (first, rest) = word(text);
    let reply = match first.parse::<u16>() {
        Ok(code) if first.len() == 3 => SmtpReply::builder(code)
            .line(if rest.is_empty() { default } else { rest })
            .build()
            .map_err(|error| error.to_string())?,
        _ if text.is_empty() => SmtpReply::reject(default),
        _ => SmtpReply::reject(text),
    };
    Ok(Some(reply))
}

/// Why a list cannot be used.
#[derive(Debug)]
pub(crate) enum ListError {
    /// The file cannot be read.
    File(io::Error),
    /// Lines that mean nothing, with their numbers from 1: the first ones, and how many more.
    Lines { told: Vec<String>, more: usize },
}

impl fmt::Display for ListError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(error) => error.fmt(f),
            Self::Lines { told, more } => {
                f.write_str(&told.join("; "))?;
                match more {
                    0 => Ok(()),
                    more => write!(f, "; and {more} more"),
                }
            }
        }
    }
}

impl Error for ListError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> List {
        List::parse(text.as_bytes()).unwrap()
    }

    fn client(list: &List, ip: &str) -> Option<String> {
        list.client(ip.parse().unwrap()).map(ToString::to_string)
    }

    #[test]
    fn clients_by_the_longest_prefix() {
        let list = list(
            "client 192.0.2.0/24 No\n\
             client 192.0.2.7 ok\n\
             client 192.0.2.0/30 451 4.7.1 Later\n\
             client 2001:db8::/32\n\
             client 0.0.0.0/1 wide\n",
        );
        assert_eq!(list.len(), 5);
        assert_eq!(client(&list, "192.0.2.8").unwrap(), "550 5.7.1 No");
        assert_eq!(client(&list, "192.0.2.7"), None);
        assert_eq!(client(&list, "192.0.2.3").unwrap(), "451 4.7.1 Later");
        assert_eq!(
            client(&list, "::ffff:192.0.2.3"),
            client(&list, "192.0.2.3")
        );
        assert_eq!(client(&list, "192.0.3.1"), None);
        assert_eq!(client(&list, "10.0.0.1").unwrap(), "550 5.7.1 wide");
        assert_eq!(
            client(&list, "2001:db8::1").unwrap(),
            "550 5.7.1 Your network is on our block list"
        );
        // The bits of 32.1.13.184 are those of 2001:db8:: and the family is another.
        assert_eq!(client(&list, "2001:db9::1"), None);
        assert_eq!(client(&list, "160.1.13.184"), None);
    }

    #[test]
    fn senders_and_their_domains() {
        let list = list(
            "# friends of ours\n\
             sender friend@spam.example ok\n\
             sender <> No bounces\n\
             \n\
             sender-domain spam.example\tGo away\n\
             sender-domain BÜCHER.example Go away\n\
             sender-domain good.spam.example ok\r\n",
        );
        let sender = |address| list.sender(address).map(ToString::to_string);
        assert_eq!(sender("a@spam.example").unwrap(), "550 5.7.1 Go away");
        assert_eq!(sender("a@b.SPAM.example").unwrap(), "550 5.7.1 Go away");
        assert_eq!(sender("Friend@Spam.Example"), None);
        assert_eq!(sender("a@x.good.spam.example"), None);
        assert_eq!(sender("a@notspam.example"), None);
        assert_eq!(sender("a@example"), None);
        assert_eq!(sender("").unwrap(), "550 5.7.1 No bounces");
        assert_eq!(sender("spam.example"), None);
        // However they are written.
        assert_eq!(sender("<@relay.example:\"Friend\"@spam.example.>"), None);
        assert_eq!(sender("a@B.spam.example."), sender("a@spam.example"));
        assert_eq!(sender("a@xn--bcher-kva.example"), sender("a@spam.example"));
    }

    #[test]
    fn recipients() {
        let list = list("recipient <Old@example.net> 550 5.1.1 Bob has 100% left\n");
        let reply = list.recipient("old@EXAMPLE.net").unwrap();
        assert_eq!(reply.to_string(), "550 5.1.1 Bob has 100% left");
        assert!(list.recipient("new@example.net").is_none());
        assert!(list.sender("old@example.net").is_none());
    }

    #[test]
    fn the_first_of_two_counts() {
        let list = list(
            "client 192.0.2.1 one\nclient 192.0.2.1/32 two\n\
             sender a@b one\nsender <A@B> two\n\
             sender-domain c one\nsender-domain C ok\n\
             recipient a@b one\nrecipient A@B ok\n",
        );
        assert_eq!(list.len(), 4);
        assert_eq!(client(&list, "192.0.2.1").unwrap(), "550 5.7.1 one");
        for reply in [
            list.sender("a@b"),
            list.sender("x@c"),
            list.recipient("a@b"),
        ] {
            assert_eq!(reply.unwrap().to_string(), "550 5.7.1 one");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, said) in [
            (
                "client 192.0.2.0/33",
                "line 1: \"192.0.2.0/33\" is no network",
            ),
            (
                "\n#\nclient 192.0.2.1/24",
                "line 3: 192.0.2.1/24 is an address within a network: write 192.0.2.0/24",
            ),
            ("client", "line 1: \"client\" is followed by nothing"),
            (
                "clients 192.0.2.1",
                "line 1: \"clients\" is none of client,",
            ),
            ("sender bob", "line 1: \"bob\" is no address"),
            (
                "sender-domain @example.org",
                "line 1: \"@example.org\" is no domain",
            ),
            (
                "sender-domain .example.org",
                "line 1: \".example.org\" is no domain",
            ),
            ("recipient a@b 250 fine", "line 1: "),
        ] {
            let error = List::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
        let error = List::parse(b"a\nclient 192.0.2.1\nsender b\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "line 1: \"a\" is followed by nothing; \
             line 3: \"b\" is no address such as bob@example.net"
        );
        let error = List::parse("a\n".repeat(MOST_TOLD + 7).as_bytes()).unwrap_err();
        let said = error.to_string();
        assert!(
            said.ends_with("line 20: \"a\" is followed by nothing; and 7 more"),
            "{said}"
        );
        let error = List::parse(b"\n\xff").unwrap_err();
        assert_eq!(error.to_string(), "line 2: not UTF-8");
        assert!(List::parse(b"").unwrap().len() == 0);
    }
}
