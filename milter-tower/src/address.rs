//! Where to listen, in every notation that people know.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::listener::{BoundListener, ListenOptions};

/// A place to listen at: a TCP address or the path of a unix socket.
///
/// | notation | known from |
/// | --- | --- |
/// | `inet:PORT@HOST`, `inet6:PORT@HOST`, `inet:PORT` | Sendmail, libmilter |
/// | `unix:PATH`, `local:PATH` | Sendmail, libmilter, Postfix |
/// | `inet:HOST:PORT` | Postfix |
/// | `HOST:PORT`, `tcp:HOST:PORT`, `/PATH` | everywhere else |
///
/// An IPv6 address before a port stands in brackets: `inet:[::1]:10025`. Without a host all
/// interfaces are meant. Port 0 stands for any free port.
///
/// ```
/// use milter_tower::Address;
///
/// let sendmail: Address = "inet:10025@127.0.0.1".parse()?;
/// let postfix: Address = "inet:127.0.0.1:10025".parse()?;
/// assert_eq!(sendmail, postfix);
/// assert_eq!(postfix.to_string(), "inet:10025@127.0.0.1");
///
/// let error = "10025".parse::<Address>().unwrap_err();
/// assert!(error.to_string().contains("inet:10025@127.0.0.1"));
/// # Ok::<(), milter_tower::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A host, by name or number, and a TCP port.
    Inet {
        /// The host; for all interfaces `0.0.0.0` or `::`.
        host: String,
        /// The port; 0 for any free one.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl Address {
    /// A TCP address.
    pub fn inet(host: impl Into<String>, port: u16) -> Self {
        Self::Inet {
            host: host.into(),
            port,
        }
    }

    /// The path of a unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix(path.into())
    }

    /// Listens there, with the default [options](ListenOptions).
    ///
    /// # Errors
    ///
    /// What the operating system says, with the address.
    pub async fn bind(&self) -> Result<BoundListener, BindError> {
        ListenOptions::new().bind(self).await
    }

    /// The address as Postfix writes it: `inet:127.0.0.1:10025`, `unix:/run/filter.sock`.
    pub fn for_postfix(&self) -> impl fmt::Display + '_ {
        struct ForPostfix<'a>(&'a Address);
        impl fmt::Display for ForPostfix<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    Address::Inet { host, port } if is_v6(host) => {
                        write!(f, "inet:[{host}]:{port}")
                    }
                    Address::Inet { host, port } => write!(f, "inet:{host}:{port}"),
                    Address::Unix(path) => write!(f, "unix:{}", path.display()),
                }
            }
        }
        ForPostfix(self)
    }
}

/// The notation of Sendmail: `inet:10025@127.0.0.1`, `unix:/run/filter.sock`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet { host, port } if is_v6(host) => write!(f, "inet6:{port}@{host}"),
            Self::Inet { host, port } => write!(f, "inet:{port}@{host}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<std::net::SocketAddr> for Address {
    fn from(address: std::net::SocketAddr) -> Self {
        Self::inet(address.ip().to_string(), address.port())
    }
}

impl From<&Path> for Address {
    fn from(path: &Path) -> Self {
        Self::unix(path)
    }
}

fn is_v6(host: &str) -> bool {
    matches!(host.parse(), Ok(IpAddr::V6(_)))
}

/// Why it is not possible to listen at an address.
#[derive(thiserror::Error)]
#[error("cannot listen at {address}: {error}")]
pub struct BindError {
    address: Address,
    error: io::Error,
}

impl BindError {
    pub(crate) fn new(address: &Address, error: io::Error) -> Self {
        Self {
            address: address.clone(),
            error,
        }
    }

    /// What the operating system says.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        Self::new(error.kind(), error)
    }
}

/// The same as [`Display`](fmt::Display): it is what a `main` that returns the error shows.
impl fmt::Debug for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is no address of a filter.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of a filter: {problem}; {hint}")]
pub struct AddressError {
    text: String,
    problem: &'static str,
    hint: String,
}

/// The same as [`Display`](fmt::Display): it is what a `main` that returns the error shows.
impl fmt::Debug for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AddressError {
    fn new(text: &str, problem: &'static str) -> Self {
        let forms =
            "inet:10025@127.0.0.1, inet:127.0.0.1:10025, 127.0.0.1:10025 or unix:/run/filter.sock";
        Self {
            text: text.to_owned(),
            problem,
            hint: format!("write it as {forms}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let fail = |problem| AddressError::new(text, problem);
        if text.contains("://") {
            return Err(fail("this is a URL"));
        }
        let (scheme, rest) = match text.split_once(':') {
            Some((scheme @ ("inet" | "inet6" | "tcp" | "unix" | "local"), rest)) => (scheme, rest),
            _ if text.starts_with('/') => ("unix", text),
            _ => ("", text),
        };
        match scheme {
            "unix" | "local" if rest.is_empty() => Err(fail("the path is missing")),
            "unix" | "local" if rest.contains('\0') => Err(fail("a path holds no NUL")),
            "unix" | "local" => Ok(Self::unix(rest)),
            _ => {
                let any = if scheme == "inet6" { "::" } else { "0.0.0.0" };
                let (host, port) = split_inet(scheme, rest, any).map_err(fail)?;
                let port = port
                    .parse()
                    .map_err(|_| fail("the port is no number from 0 to 65535"))?;
                Ok(Self::inet(host, port))
            }
        }
    }
}

/// Host and port of `PORT@HOST`, `HOST:PORT`, `[HOST]:PORT` and, with a scheme, `PORT`.
fn split_inet<'a>(
    scheme: &str,
    rest: &'a str,
    any: &'a str,
) -> Result<(&'a str, &'a str), &'static str> {
    if rest.is_empty() {
        return Err("host and port are missing");
    }
    let bare = |host: &'a str| {
        host.strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host)
    };
    if let Some((port, host)) = rest.split_once('@') {
        return if host.is_empty() {
            Ok((any, port))
        } else {
            Ok((bare(host), port))
        };
    }
    if let Some((host, port)) = rest.rsplit_once(':') {
        let inner = bare(host);
        return match host {
            "" | "*" => Ok((any, port)),
            _ if inner == host && host.contains(':') => {
                Err("an IPv6 address before a port stands in brackets, like [::1]:10025")
            }
            _ => Ok((inner, port)),
        };
    }
    if !scheme.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()) {
        return Ok((any, rest));
    }
    Err(if rest.bytes().all(|b| b.is_ascii_digit()) {
        "this is a port only"
    } else {
        "the port is missing"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation() {
        for (text, want) in [
            ("inet:8891@localhost", Address::inet("localhost", 8891)),
            ("inet:8891@", Address::inet("0.0.0.0", 8891)),
            ("inet:8891", Address::inet("0.0.0.0", 8891)),
            ("inet6:8891@::1", Address::inet("::1", 8891)),
            ("inet6:8891@[::1]", Address::inet("::1", 8891)),
            ("inet6:8891", Address::inet("::", 8891)),
            ("inet:127.0.0.1:25", Address::inet("127.0.0.1", 25)),
            ("inet:[::1]:25", Address::inet("::1", 25)),
            ("inet:*:25", Address::inet("0.0.0.0", 25)),
            (":25", Address::inet("0.0.0.0", 25)),
            ("tcp:localhost:0", Address::inet("localhost", 0)),
            ("mail.example.org:25", Address::inet("mail.example.org", 25)),
            ("[2001:db8::1]:25", Address::inet("2001:db8::1", 25)),
            ("unix:/run/x", Address::unix("/run/x")),
            ("local:/run/x", Address::unix("/run/x")),
            ("unix:relative", Address::unix("relative")),
            (" /run/x ", Address::unix("/run/x")),
        ] {
            let parsed: Address = text.parse().unwrap();
            assert_eq!(parsed, want, "{text}");
            assert_eq!(
                parsed.to_string().parse::<Address>().unwrap(),
                want,
                "{text}"
            );
            assert_eq!(
                parsed.for_postfix().to_string().parse::<Address>().unwrap(),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn errors_show_the_right_form() {
        for (text, problem) in [
            ("", "missing"),
            ("10025", "port only"),
            ("localhost", "port is missing"),
            ("inet:localhost", "port is missing"),
            ("inet:", "missing"),
            ("::1:25", "brackets"),
            ("inet:99999@localhost", "0 to 65535"),
            ("localhost:smtp", "0 to 65535"),
            ("unix:", "path is missing"),
            ("http://127.0.0.1:80", "a URL"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(
                error.contains(problem) && error.contains("inet:10025@127.0.0.1"),
                "{text}: {error}"
            );
        }
    }
}
