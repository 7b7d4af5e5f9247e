//! Where things listen, and whether they do, found out without connecting: a filter or a mail
//! server would take a connection for a session.

use std::fmt;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// A place to listen on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A port of 127.0.0.1.
    Tcp(u16),
    /// A unix socket.
    Unix(PathBuf),
}

impl Address {
    /// A TCP address that nobody uses.
    pub fn free_tcp() -> Self {
        Self::Tcp(free_port())
    }

    /// As Postfix's `smtpd_milters` wants it.
    pub fn for_postfix(&self) -> String {
        match self {
            Self::Tcp(port) => format!("inet:127.0.0.1:{port}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// As Sendmail's `INPUT_MAIL_FILTER` wants it.
    pub fn for_sendmail(&self) -> String {
        match self {
            Self::Tcp(port) => format!("inet:{port}@127.0.0.1"),
            Self::Unix(path) => format!("local:{}", path.display()),
        }
    }

    /// Whether somebody listens there.
    pub fn has_listener(&self) -> bool {
        match self {
            Self::Tcp(port) => ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
                fs::read_to_string(table).is_ok_and(|rows| tcp_row_listens(&rows, *port))
            }),
            Self::Unix(path) => fs::read_to_string("/proc/net/unix")
                .is_ok_and(|rows| unix_row_listens(&rows, &path.to_string_lossy())),
        }
    }
}

/// The notation that milter programs share, libmilter's.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(port) => write!(f, "inet:{port}@127.0.0.1"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// State 0A is LISTEN; addresses are `HEX:PORT`.
fn tcp_row_listens(rows: &str, port: u16) -> bool {
    let port = format!(":{port:04X}");
    rows.lines().any(|row| {
        let mut words = row.split_ascii_whitespace().skip(1);
        let local = words.next().is_some_and(|local| local.ends_with(&port));
        local && words.nth(1) == Some("0A")
    })
}

/// `Num RefCount Protocol Flags Type St Inode Path`; flag 10000 is `__SO_ACCEPTCON`.
fn unix_row_listens(rows: &str, path: &str) -> bool {
    rows.lines().any(|row| {
        let words: Vec<&str> = row.split_ascii_whitespace().collect();
        words.len() == 8 && words[3] == "00010000" && words[7] == path
    })
}

/// A port of 127.0.0.1 that nobody uses: from below the range that the kernel gives to clients,
/// and a different one at each call, so that tests side by side do not take each other's.
///
/// # Panics
///
/// When there is none.
pub fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() * 101 % u32::from(COUNT)).unwrap_or(0);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = FIRST
            + u16::try_from((u32::from(start) + u32::from(step)) % u32::from(COUNT)).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on 127.0.0.1");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::{self, PATIENCE};
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_listener_is_seen_until_it_is_gone() {
        let port = free_port();
        let address = Address::Tcp(port);
        assert!(!address.has_listener());
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        assert!(address.has_listener());
        drop(listener);
        wait_until_gone(&address);
    }

    /// A process that another test forks has the socket, too, until it runs its program.
    fn wait_until_gone(address: &Address) {
        let gone = || (!address.has_listener()).then_some(());
        wait::until("the end of the listener", PATIENCE, gone).unwrap();
    }

    #[test]
    fn a_unix_listener_is_seen_and_a_stale_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let address = Address::Unix(path.clone());
        let listener = UnixListener::bind(&path).unwrap();
        assert!(address.has_listener());
        drop(listener);
        assert!(path.exists());
        wait_until_gone(&address);
    }

    #[test]
    fn notations() {
        let tcp = Address::Tcp(9000);
        assert_eq!(tcp.to_string(), "inet:9000@127.0.0.1");
        assert_eq!(tcp.for_postfix(), "inet:127.0.0.1:9000");
        assert_eq!(tcp.for_sendmail(), "inet:9000@127.0.0.1");
        let unix = Address::Unix("/run/x".into());
        assert_eq!(unix.to_string(), "unix:/run/x");
        assert_eq!(unix.for_postfix(), "unix:/run/x");
        assert_eq!(unix.for_sendmail(), "local:/run/x");
    }
}
