//! An SMTP client that sends what it is told and hands out every reply.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::mail::Mail;

/// How long a reply may take: longer than any time-out of the servers under test.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A reply of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// What follows the code and its separator, for each line.
    pub lines: Vec<String>,
}

impl Reply {
    /// All lines, joined by newlines.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text())
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects to a port of 127.0.0.1 and reads the greeting.
    ///
    /// # Errors
    ///
    /// Those of the socket; `UnexpectedEof` when the server hangs up, as for all of these functions.
    pub fn connect(port: u16) -> io::Result<(Self, Reply)> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let mut client = Self {
            stream: BufReader::new(stream),
        };
        let greeting = client.reply()?;
        Ok((client, greeting))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Reads one reply.
    ///
    /// # Errors
    ///
    /// Those of the socket, and `InvalidData` when it is no reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut row = Vec::new();
            if (&mut self.stream)
                .take(64 * 1024)
                .read_until(b'\n', &mut row)?
                == 0
            {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let row = String::from_utf8_lossy(&row);
            let row = row.trim_end_matches(['\r', '\n']);
            let code = row.get(..3).and_then(|code| code.parse().ok());
            let Some(code) = code else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, row.to_owned()));
            };
            lines.push(row.get(4..).unwrap_or_default().to_owned());
            if row.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Sends a line and reads its reply.
    ///
    /// # Errors
    ///
    /// As [`Client::reply`].
    pub fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.send(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends lines in one write, then reads a reply for each.
    ///
    /// # Errors
    ///
    /// As [`Client::reply`].
    pub fn pipeline(&mut self, lines: &[&str]) -> io::Result<Vec<Reply>> {
        let all: String = lines.iter().flat_map(|line| [line, "\r\n"]).collect();
        self.send(all.as_bytes())?;
        lines.iter().map(|_| self.reply()).collect()
    }

    /// Sends a message's content, after DATA's 354, with the dots that belong to it.
    ///
    /// # Errors
    ///
    /// As [`Client::reply`].
    pub fn content(&mut self, content: &[u8]) -> io::Result<Reply> {
        self.send(&stuffed(content))?;
        self.reply()
    }

    /// MAIL, RCPT for all, DATA and the content, each only if what came before it was accepted.
    pub fn deliver(&mut self, mail: &Mail) -> Transcript {
        let mut transcript = Transcript::default();
        // Whatever ends the connection shows as replies that are missing.
        transcript.closed = self.try_deliver(mail, &mut transcript).is_err();
        transcript
    }

    fn try_deliver(&mut self, mail: &Mail, to: &mut Transcript) -> io::Result<()> {
        let from = line("MAIL FROM:", &mail.sender, &mail.sender_args);
        if to.mail.insert(self.command(&from)?).code != 250 {
            return Ok(());
        }
        for (path, args) in &mail.recipients {
            to.rcpt.push(self.command(&line("RCPT TO:", path, args))?);
        }
        if !to.rcpt.iter().any(|reply| reply.code == 250) {
            return Ok(());
        }
        if to.data.insert(self.command("DATA")?).code == 354 {
            to.end = Some(self.content(&mail.content())?);
        }
        Ok(())
    }
}

fn line(command: &str, path: &str, args: &str) -> String {
    let space = if args.is_empty() { "" } else { " " };
    format!("{command}{path}{space}{args}")
}

/// The content with its dots doubled at the beginning of lines, and the line that ends it.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 32 + 8);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    if !out.is_empty() && !out.ends_with(b"\r\n") {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// What the server said to a message.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    /// The greeting.
    pub greeting: Option<Reply>,
    /// To EHLO.
    pub helo: Option<Reply>,
    /// To MAIL.
    pub mail: Option<Reply>,
    /// To each RCPT.
    pub rcpt: Vec<Reply>,
    /// To DATA.
    pub data: Option<Reply>,
    /// To the end of the content.
    pub end: Option<Reply>,
    /// Whether the server hung up before all was said.
    pub closed: bool,
}

impl Transcript {
    /// The last reply to MAIL, RCPT, DATA or the content: how it went.
    pub fn last(&self) -> Option<&Reply> {
        let data = self.end.as_ref().or(self.data.as_ref());
        data.or_else(|| self.rcpt.last()).or(self.mail.as_ref())
    }

    /// Whether the message was accepted.
    pub fn accepted(&self) -> bool {
        self.end.as_ref().is_some_and(|reply| reply.code == 250)
    }
}

/// Sends one message over a connection of its own, and QUIT.
pub fn send(port: u16, mail: &Mail) -> Transcript {
    let Ok((mut client, greeting)) = Client::connect(port) else {
        return Transcript {
            closed: true,
            ..Transcript::default()
        };
    };
    let Ok(helo) = client.command(&format!("EHLO {}", mail.helo)) else {
        return Transcript {
            greeting: Some(greeting),
            closed: true,
            ..Transcript::default()
        };
    };
    let transcript = client.deliver(mail);
    if !transcript.closed {
        let _ = client.command("QUIT");
    }
    Transcript {
        greeting: Some(greeting),
        helo: Some(helo),
        ..transcript
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_are_doubled_at_line_starts_only() {
        assert_eq!(stuffed(b""), b".\r\n");
        assert_eq!(stuffed(b".a.\r\n..\r\nb"), b"..a.\r\n...\r\nb\r\n.\r\n");
    }
}
