//! A filter that answers the end of a message with the frames it was given, byte for byte, and
//! everything before that with continue. It can send what the library would refuse or put in
//! order, and one connection serves any number of messages.

use std::collections::HashMap;
use std::fs::{self, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::address::Address;
use crate::raw::{ACTIONS, frame};

/// The header that says which script a message is meant for.
pub const CASE: &str = "X-Case";

/// Larger than anything that a server sends.
const MAX_FRAME: usize = 1024 * 1024;

/// What was shown of one message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// Names and values.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// All pieces together.
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
struct State {
    scripts: Mutex<HashMap<String, Vec<u8>>>,
    shown: Mutex<HashMap<String, Shown>>,
    stopping: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The filter. It listens until it is dropped.
#[derive(Debug)]
pub struct Scripted {
    path: PathBuf,
    state: Arc<State>,
    acceptor: Option<JoinHandle<()>>,
}

impl Scripted {
    /// Starts one on a unix socket that it makes: over TCP each of Sendmail's commands would wait
    /// for the delayed acknowledgement of its macros.
    ///
    /// # Errors
    ///
    /// When it cannot listen.
    pub fn start(path: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::bind(&path)?;
        // Postfix comes as a user of its own.
        fs::set_permissions(&path, Permissions::from_mode(0o666))?;
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let acceptor = thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopping.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&shared);
                if let Ok(stream) = stream {
                    // A server that goes away ends its session.
                    thread::spawn(move || session(stream, &shared));
                }
            }
        });
        Ok(Self {
            path,
            state,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::Unix(self.path.clone())
    }

    /// What the message with this [`CASE`] is answered with: whole frames, the verdict last.
    pub fn script(&self, case: &str, frames: Vec<u8>) {
        lock(&self.state.scripts).insert(case.to_owned(), frames);
    }

    /// What it was shown of the message with this [`CASE`], if it saw its end.
    pub fn shown(&self, case: &str) -> Option<Shown> {
        lock(&self.state.shown).get(case).cloned()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::Relaxed);
        // Wakes the acceptor.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let Some(acceptor) = self.acceptor.take().filter(|_| woken) {
            let _ = acceptor.join();
        }
    }
}

fn session(mut stream: UnixStream, state: &State) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(300)))?;
    let mut shown = Shown::default();
    loop {
        let (code, payload) = read_frame(&mut stream)?;
        let reply = match code {
            // All actions, every event, and an answer to each.
            b'O' => {
                let words = [6, ACTIONS, 0].map(u32::to_be_bytes).concat();
                frame(b'O', &words)
            }
            b'D' | b'A' => continue,
            b'Q' => return Ok(()),
            b'E' => {
                shown.body.extend_from_slice(&payload);
                end(std::mem::take(&mut shown), state)
            }
            _ => {
                match code {
                    b'M' => shown = Shown::default(),
                    b'L' => {
                        let mut parts = payload.split(|byte| *byte == 0).map(<[u8]>::to_vec);
                        let name = parts.next().unwrap_or_default();
                        let value = parts.next().unwrap_or_default();
                        shown.headers.push((name, value));
                    }
                    b'B' => shown.body.extend_from_slice(&payload),
                    _ => {}
                }
                frame(b'c', b"")
            }
        };
        stream.write_all(&reply)?;
    }
}

/// Keeps what was shown; the script's frames, or continue where there is none.
fn end(shown: Shown, state: &State) -> Vec<u8> {
    let is_case = |name: &[u8]| name.eq_ignore_ascii_case(CASE.as_bytes());
    let case = shown.headers.iter().find(|(name, _)| is_case(name));
    let case = case.map(|(_, value)| String::from_utf8_lossy(value).trim().to_owned());
    let Some(case) = case else {
        return frame(b'c', b"");
    };
    let script = lock(&state.scripts).get(&case).cloned();
    lock(&state.shown).insert(case, shown);
    script.unwrap_or_else(|| frame(b'c', b""))
}

fn read_frame(stream: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if !(1..=MAX_FRAME).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    let code = payload.remove(0);
    Ok((code, payload))
}
