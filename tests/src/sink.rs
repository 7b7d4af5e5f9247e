//! An SMTP server that takes everything and keeps it: where the mail servers deliver to.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::mail;

/// A message as it was delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// The sender, with its `<>`.
    pub sender: String,
    /// The ESMTP parameters of MAIL.
    pub sender_args: Vec<String>,
    /// The recipients, with their `<>`, each with its ESMTP parameters.
    pub recipients: Vec<(String, Vec<String>)>,
    /// Headers and body exactly as they came, less the dots that SMTP adds.
    pub content: Vec<u8>,
}

impl Delivered {
    /// The values of all headers of this name, in order (see [`mail::headers`]).
    pub fn header(&self, name: &str) -> Vec<String> {
        mail::header(&self.content, name)
    }

    /// All headers, in order.
    pub fn headers(&self) -> Vec<(String, String)> {
        mail::headers(&self.content)
    }

    /// What follows the headers.
    pub fn body(&self) -> &[u8] {
        mail::body(&self.content)
    }

    /// The recipients' addresses alone.
    pub fn recipient_addresses(&self) -> Vec<&str> {
        self.recipients
            .iter()
            .map(|(address, _)| address.as_str())
            .collect()
    }
}

#[derive(Debug, Default)]
struct State {
    mail: Mutex<Vec<Delivered>>,
    arrived: Condvar,
    stopping: AtomicBool,
}

impl State {
    fn mail(&self) -> MutexGuard<'_, Vec<Delivered>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sink. It listens until it is dropped.
#[derive(Debug)]
pub struct Sink {
    port: u16,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

impl Sink {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopping.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&shared);
                if let Ok(stream) = stream {
                    // A client that goes away ends its session; what it left open is no message.
                    thread::spawn(move || session(&stream, &shared));
                }
            }
        });
        Ok(Self {
            port,
            state,
            acceptor: Some(acceptor),
        })
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Everything that is there, in the order of arrival; the sink is empty afterwards.
    pub fn take_all(&self) -> Vec<Delivered> {
        std::mem::take(&mut *self.state.mail())
    }

    /// Waits until there are `n` messages and takes those.
    ///
    /// # Errors
    ///
    /// When there are fewer after `limit`; they stay.
    pub fn take(&self, n: usize, limit: Duration) -> Result<Vec<Delivered>, String> {
        let end = Instant::now() + limit;
        let mut mail = self.state.mail();
        while mail.len() < n {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("{} of {n} messages after {limit:?}", mail.len()));
            }
            let waited = self.state.arrived.wait_timeout(mail, left);
            mail = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(mail.drain(..n).collect())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        // Wakes the acceptor.
        let woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
    }
}

fn session(stream: &TcpStream, state: &State) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(300)))
        .ok()?;
    let mut reader = BufReader::with_capacity(64 * 1024, stream);
    say(stream, "220 sink.test ESMTP")?;
    let mut open: Option<Delivered> = None;
    loop {
        let line = read_line(&mut reader)?;
        let upper = line.to_ascii_uppercase();
        let verb = upper.split(' ').next().unwrap_or_default();
        let reply = match verb {
            "EHLO" => {
                open = None;
                "250-sink.test\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
                 250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250 SIZE 104857600"
            }
            "HELO" | "RSET" => {
                open = None;
                "250 2.0.0 ok"
            }
            "NOOP" => "250 2.0.0 ok",
            "QUIT" => {
                say(stream, "221 2.0.0 bye")?;
                return Some(());
            }
            "MAIL" if upper.starts_with("MAIL FROM:") => {
                let (sender, sender_args) = path_and_args(&line[10..]);
                open = Some(Delivered {
                    sender,
                    sender_args,
                    ..Delivered::default()
                });
                "250 2.1.0 ok"
            }
            "RCPT" if upper.starts_with("RCPT TO:") => match &mut open {
                Some(open) => {
                    open.recipients.push(path_and_args(&line[8..]));
                    "250 2.1.5 ok"
                }
                None => "503 5.5.1 need MAIL",
            },
            "DATA"
                if open
                    .as_ref()
                    .is_some_and(|open| !open.recipients.is_empty()) =>
            {
                say(stream, "354 go on")?;
                let mut message = open.take()?;
                message.content = read_content(&mut reader)?;
                state.mail().push(message);
                state.arrived.notify_all();
                "250 2.0.0 stored"
            }
            "DATA" => "503 5.5.1 need RCPT",
            _ => "500 5.5.2 unknown command",
        };
        say(stream, reply)?;
    }
}

fn say(mut stream: &TcpStream, reply: &str) -> Option<()> {
    stream.write_all(format!("{reply}\r\n").as_bytes()).ok()
}

fn read_line(reader: &mut impl BufRead) -> Option<String> {
    let mut line = Vec::new();
    let n = reader.take(64 * 1024).read_until(b'\n', &mut line).ok()?;
    (n > 0).then(|| String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn read_content(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let start = content.len();
        if reader.read_until(b'\n', &mut content).ok()? == 0 {
            return None;
        }
        if matches!(&content[start..], b".\r\n" | b".\n") {
            content.truncate(start);
            return Some(content);
        }
        if content[start] == b'.' {
            content.remove(start);
        }
    }
}

/// `<a b@c> X=1 Y` as the path and the parameters; a quoted local part may hold anything.
fn path_and_args(rest: &str) -> (String, Vec<String>) {
    let rest = rest.trim_start();
    let mut quoted = false;
    let mut escaped = false;
    let mut end = rest.len();
    for (at, c) in rest.char_indices() {
        let stop = if rest.starts_with('<') {
            c == '>'
        } else {
            c == ' '
        };
        if stop && !quoted {
            end = if c == '>' { at + 1 } else { at };
            break;
        }
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\' && !escaped;
    }
    let args = rest[end..].split_ascii_whitespace().map(str::to_owned);
    (rest[..end].to_owned(), args.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Mail;
    use crate::smtp;

    #[test]
    fn keeps_what_was_sent_byte_for_byte() {
        let sink = Sink::start().unwrap();
        let body = b".\r\n..two\r\n\r\n.\r\nlast \xff\r\n";
        let mail = Mail::new()
            .sender("<a@b>")
            .sender_args("BODY=8BITMIME")
            .recipient("<c@d>")
            .recipient_with("<\"e >\"@f>", "NOTIFY=NEVER")
            .body(body);
        let sent = smtp::send(sink.port(), &mail);
        assert_eq!(sent.end.unwrap().code, 250);
        let got = sink.take(1, Duration::from_secs(5)).unwrap().remove(0);
        assert_eq!(got.sender, "<a@b>");
        assert_eq!(got.sender_args, ["BODY=8BITMIME"]);
        assert_eq!(got.recipient_addresses(), ["<c@d>", "<\"e >\"@f>"]);
        assert_eq!(got.recipients[1].1, ["NOTIFY=NEVER"]);
        assert_eq!(got.content, mail.content());
        assert_eq!(got.body(), body);
    }

    #[test]
    fn a_message_that_was_cut_off_is_none() {
        let sink = Sink::start().unwrap();
        let (mut client, _) = smtp::Client::connect(sink.port()).unwrap();
        for line in ["EHLO x", "MAIL FROM:<a@b>", "RCPT TO:<c@d>", "DATA"] {
            client.command(line).unwrap();
        }
        client.send(b"Subject: x\r\n\r\nhalf").unwrap();
        drop(client);
        assert!(sink.take(1, Duration::from_millis(100)).is_err());
    }
}
