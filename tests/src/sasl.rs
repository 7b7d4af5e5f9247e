//! A stand-in for Dovecot's AUTH service, which Postfix asks. It knows one user, by PLAIN.

use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// That user is `alice`. Her name and her password as AUTH PLAIN wants them, in base64.
pub const ALICE: &str = "AGFsaWNlAHNlY3JldA==";

/// The service. It listens until it is dropped.
#[derive(Debug)]
pub struct Sasl {
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Sasl {
    /// Starts one on a unix socket that it makes.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn start(path: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::bind(&path)?;
        // Postfix comes as a user of its own.
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&stopping);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.load(Ordering::Relaxed) {
                    break;
                }
                if let Ok(stream) = stream {
                    thread::spawn(move || session(&stream));
                }
            }
        });
        Ok(Self {
            path,
            stopping,
            acceptor: Some(acceptor),
        })
    }
}

impl Drop for Sasl {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Wakes the acceptor.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
    }
}

/// Version 1.1 of Dovecot's protocol for clients: lines of words between tabs.
fn session(mut stream: &UnixStream) -> io::Result<()> {
    let greeting = "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\n\
                    COOKIE\t00112233445566778899aabbccddeeff\nDONE\n";
    stream.write_all(greeting.as_bytes())?;
    for line in BufReader::new(stream).lines() {
        let line = line?;
        let mut words = line.split('\t');
        let (Some("AUTH"), Some(id)) = (words.next(), words.next()) else {
            continue;
        };
        let is_alice = words.any(|word| word.strip_prefix("resp=") == Some(ALICE));
        let answer = if is_alice { "OK" } else { "FAIL" };
        stream.write_all(format!("{answer}\t{id}\tuser=alice\n").as_bytes())?;
    }
    Ok(())
}
