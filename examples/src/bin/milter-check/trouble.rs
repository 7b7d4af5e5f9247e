//! What keeps the program from its work.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;

use milter_examples::text::Shown;
use milter_tower::Address;

/// Why nothing could be checked.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// A mail cannot be read.
    Mail(PathBuf, io::Error),
    /// The milter cannot be connected to.
    Connect(Address, io::Error),
    /// Nothing can be shown.
    Output(io::Error),
}

impl Trouble {
    // EX_NOINPUT, EX_UNAVAILABLE, EX_IOERR of sysexits.h
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Mail(..) => 66,
            Self::Connect(..) => 69,
            Self::Output(_) => 74,
        }
        .into()
    }

    /// Whether there is nobody left to be told: the output goes to a program that ended.
    pub(crate) fn is_unheard(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mail(path, error) => {
                let path = path.to_string_lossy();
                write!(f, "{}: {error}", Shown(path.as_bytes()))
            }
            Self::Connect(address, error) => {
                writeln!(f, "cannot connect to {address}: {error}")?;
                write!(f, "  {}", advice(address, error.kind()))
            }
            Self::Output(error) => write!(f, "cannot write: {error}"),
        }
    }
}

/// What to look at when connecting fails.
fn advice(address: &Address, kind: ErrorKind) -> &'static str {
    match (address, kind) {
        (Address::Inet { .. }, ErrorKind::ConnectionRefused) => {
            "Nothing listens there. Does the milter run, and is this the port that it was given?"
        }
        (Address::Unix(_), ErrorKind::ConnectionRefused) => {
            "The socket is there, but nothing listens at it: the milter does not run any more."
        }
        (Address::Unix(_), ErrorKind::NotFound) => {
            "There is no such socket. Does the milter run, and is this the path that it was given?"
        }
        (Address::Unix(_), ErrorKind::PermissionDenied) => {
            "You may not connect to that socket: try it as the user that the mail server runs as."
        }
        (_, ErrorKind::TimedOut) => {
            "No answer to the connection. Is the host right, and does a firewall stand between?"
        }
        (Address::Inet { .. }, _) => "Is the host right, and does the milter run?",
        _ => "Is the path right, and does the milter run?",
    }
}
