//! A stand-in for `SpamAssassin`'s daemon, whose rules are too heavy for a test: it answers as spamd
//! does (`spamd/PROTOCOL` of `SpamAssassin`), and for it a message is spam if it has the GTUBE text
//! or the word that others/mod.rs has for it.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{GTUBE, UNSOLICITED};

/// It listens until it is dropped.
#[derive(Debug)]
pub(super) struct Spamd {
    port: u16,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Spamd {
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let stopping = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stopping);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if told.load(Ordering::Relaxed) {
                    break;
                }
                // One that goes away has no answer.
                let _ = answer(&stream);
            }
        });
        Ok(Self {
            port,
            stopping,
            acceptor: Some(acceptor),
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Spamd {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes the acceptor.
        let woken = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
    }
}

/// One request: a line, headers, the message up to the end of what the client writes.
fn answer(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
    }
    let mut message = Vec::new();
    reader.read_to_end(&mut message)?;
    let text = String::from_utf8_lossy(&message);
    let score = if text.contains(&GTUBE.concat()) {
        "1000.0"
    } else if text.contains(UNSOLICITED) {
        "8.0"
    } else {
        "0.0"
    };
    let (found, marked) = if score == "0.0" {
        (
            "False",
            format!("X-Spam-Status: No, score={score} required=5.0\n{text}"),
        )
    } else {
        // As with its setting report_safe 0 and rewrite_header; the report goes before the body.
        let text = text.replacen("Subject: ", "Subject: [SPAM] ", 1);
        let body = text.find("\r\n\r\n").map_or(text.len(), |end| end + 4);
        let (headers, body) = text.split_at(body);
        let marks = format!("X-Spam-Flag: YES\nX-Spam-Status: Yes, score={score} required=5.0\n");
        ("True", format!("{marks}{headers}This is spam.\r\n{body}"))
    };
    let mut stream = stream;
    write!(
        stream,
        "SPAMD/1.1 0 EX_OK\r\nContent-length: {}\r\nSpam: {found} ; {score} / 5.0\r\n\r\n{marked}",
        marked.len()
    )
}
