//! Private mail servers on loopback, all mail to the test's own [`Sink`](crate::sink::Sink).
//!
//! They run as root from a fresh folder below `/run` (Sendmail takes no milter's unix socket below
//! a folder that everybody may write to), and touch nothing outside it.

mod postfix;
mod sendmail;

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::address::{self, Address};
use crate::wait;

/// Which mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Postfix, as installed.
    Postfix,
    /// Sendmail, unpacked from its packages: they cannot be installed beside Postfix's.
    Sendmail,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postfix => "postfix",
            Self::Sendmail => "sendmail",
        })
    }
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Config {
    /// The milters, in order.
    pub milters: Vec<Address>,
    /// Whether mail that does not come by SMTP is shown to them too (Postfix only). A message that
    /// a milter discards at RCPT is then shown to it a second time.
    pub non_smtp: bool,
    /// How long the server waits for a milter's reply. Sendmail counts whole seconds and may be
    /// one early: three or more.
    pub timeout: Duration,
    /// Lines for `main.cf` or `sendmail.mc`.
    pub extra: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            milters: Vec::new(),
            non_smtp: false,
            timeout: Duration::from_secs(10),
            extra: Vec::new(),
        }
    }
}

/// What differs between the servers.
trait Server: fmt::Debug + Send {
    /// Whether nothing is left to deliver. Held mail does not count.
    fn is_idle(&self) -> bool;
    /// The messages in quarantine.
    fn held(&self) -> Vec<String>;
    /// Deletes them.
    fn purge(&self);
    /// Mail from the command line.
    fn submit(&self, sender: &str, recipients: &[&str], content: &[u8]) -> Result<(), String>;
    /// What it has logged.
    fn log(&self) -> String;
}

/// A running mail server. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Mta {
    kind: Kind,
    port: u16,
    // Before the folder: the server must be gone when that is removed.
    server: Box<dyn Server>,
    _dir: WorkDir,
}

impl Mta {
    /// Starts one that delivers to the sink at `sink` and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// Why it did not start, with its log.
    pub fn start(kind: Kind, sink: u16, config: &Config) -> Result<Self, String> {
        available(kind)?;
        let dir = WorkDir::new()?;
        let port = address::free_port();
        let server: Box<dyn Server> = match kind {
            Kind::Postfix => Box::new(postfix::Postfix::start(dir.path(), port, sink, config)?),
            Kind::Sendmail => Box::new(sendmail::Sendmail::start(dir.path(), port, sink, config)?),
        };
        let mta = Self {
            kind,
            port,
            server,
            _dir: dir,
        };
        wait::until("the mail server to listen", wait::PATIENCE, || {
            Address::Tcp(port).has_listener().then_some(())
        })
        .map_err(|error| format!("{error}\n{}", mta.log()))?;
        Ok(mta)
    }

    /// Which server this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its SMTP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until all mail that was accepted is delivered, or held.
    ///
    /// # Errors
    ///
    /// When some is still there after [`wait::PATIENCE`], with the log.
    pub fn idle(&self) -> Result<(), String> {
        wait::until("an empty queue", wait::PATIENCE, || {
            self.server.is_idle().then_some(())
        })
        .map_err(|error| format!("{error}\n{}", self.log()))
    }

    /// The messages in quarantine: queue file, envelope and content, as the server prints them.
    pub fn held(&self) -> Vec<String> {
        self.server.held()
    }

    /// Deletes what is in quarantine.
    pub fn purge(&self) {
        self.server.purge();
    }

    /// Hands in a message from the command line, not by SMTP (Postfix only). Addresses without `<>`.
    ///
    /// # Errors
    ///
    /// When the command refuses it.
    pub fn submit(&self, sender: &str, recipients: &[&str], content: &[u8]) -> Result<(), String> {
        self.server.submit(sender, recipients, content)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.server.log()
    }
}

/// A fresh folder that others may search but not write to, below `/run` where that is allowed.
#[derive(Debug)]
pub struct WorkDir(TempDir);

impl WorkDir {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn new() -> Result<Self, String> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("milter-tests-");
        let dir = builder.tempdir_in("/run").or_else(|_| builder.tempdir());
        let dir = dir.map_err(|error| format!("cannot make a folder: {error}"))?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .map_err(|error| format!("cannot open {}: {error}", dir.path().display()))?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// Whether this machine can run that server.
///
/// # Errors
///
/// What is missing, and how to get it.
pub fn available(kind: Kind) -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err(format!("{kind} must be started by root"));
    }
    match kind {
        Kind::Postfix => postfix::available(),
        Kind::Sendmail => sendmail::available(),
    }
}

/// Whether a test shall run: says so when it is skipped.
///
/// # Panics
///
/// Where skipping is not allowed: with `MILTER_TESTS_REQUIRE=1` or `CI` in the environment.
pub fn require(kind: Kind) -> bool {
    may_go_on(available(kind))
}

/// Whether a test that needs more than a mail server shall run: says so when it is skipped
/// because this file of a package does not exist.
///
/// # Panics
///
/// As [`require`].
pub fn require_file(file: &Path, package: &str) -> bool {
    let reason = || format!("{} is missing: apt-get install {package}", file.display());
    may_go_on(if file.exists() { Ok(()) } else { Err(reason()) })
}

pub(crate) fn may_go_on(available: Result<(), String>) -> bool {
    let Err(reason) = available else {
        return true;
    };
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty() && value != "0");
    assert!(!set("CI") && !set("MILTER_TESTS_REQUIRE"), "{reason}");
    println!("skipped: {reason}");
    false
}

/// Where a program is, on the usual paths for root.
pub(crate) fn find_program(name: &str, package: &str) -> Result<PathBuf, String> {
    let usual = [
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
        "/usr/local/sbin",
        "/usr/local/bin",
    ];
    let found = usual
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists());
    found.ok_or_else(|| format!("{name} is missing: apt-get install {package}"))
}

/// Runs a command to its end; its output goes to a file, as a daemon may keep it open.
pub(crate) fn run(command: &mut Command, output: &Path) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let file = fs::File::create(output).map_err(|e| format!("{}: {e}", output.display()))?;
    let copy = file.try_clone().map_err(|e| e.to_string())?;
    let status = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(copy)
        .status();
    let status = status.map_err(|error| format!("cannot start {program}: {error}"))?;
    if status.success() {
        return Ok(());
    }
    let said = fs::read(output).unwrap_or_default();
    Err(format!(
        "{program}: {status}\n{}",
        String::from_utf8_lossy(&said)
    ))
}

/// Writes a file, with what is wrong if it cannot.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    fs::write(path, content).map_err(|error| format!("{}: {error}", path.display()))
}

/// All files below a folder.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_below(&entry.path())),
            Ok(_) => files.push(entry.path()),
            Err(_) => {}
        }
    }
    files.sort();
    files
}
