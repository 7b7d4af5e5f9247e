//! Milters that no one here wrote, each with a configuration, keys and sockets of its own on
//! loopback, and two small filters on other people's libraries that obey orders.
//!
//! The daemons are unpacked from Debian's packages, never installed: installing starts them. None
//! of them asks the DNS: what they would look up is in files.

mod milters;
mod spamd;

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::address::Address;
use crate::mta::{WorkDir, find_program, may_go_on, run, write};
use crate::process::{Filter, Guard};
use crate::wait::{self, PATIENCE};

use self::spamd::Spamd;

/// The domain that is signed for, and that publishes policies.
pub const DOMAIN: &str = "example.org";
/// The selector of its key.
pub const SELECTOR: &str = "sel";
/// The host that opendkim and opendmarc give their results as.
pub const HOST: &str = "mta.test";
/// What every virus scanner finds: the EICAR test file. In two halves, so that none finds it here.
pub const EICAR: [&str; 2] = [
    r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR",
    "-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*",
];
/// What rspamd takes for spam without any rule, as does our stand-in for spamd: the GTUBE text.
pub const GTUBE: [&str; 2] = [
    "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE",
    "-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X",
];

/// What rspamd marks but lets pass: a variant of that text.
pub const GTUBE_MARKED: [&str; 2] = ["YJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE", GTUBE[1]];
/// What the stand-in for spamd marks but lets pass.
pub const UNSOLICITED: &str = "unsolicited";

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Milter {
    /// opendkim that signs mail from [`DOMAIN`], canonicalization `simple/simple`.
    Signer,
    /// opendkim that verifies and adds what it found.
    Verifier,
    /// opendmarc: `reject` is the policy of [`DOMAIN`], and of no other.
    Dmarc,
    /// clamav-milter with a database of one signature, [`EICAR`].
    Clamav,
    /// spamass-milter before a stand-in for spamd that knows [`GTUBE`].
    Spamass,
    /// rspamd as a milter of its own, without rules but [`GTUBE`].
    Rspamd,
    /// `orders.c` on libmilter.
    Orders,
    /// The same with no replies where none is needed, and leading spaces.
    OrdersStreamed,
    /// `orders.pl` on `Sendmail::PMilter`.
    OrdersPerl,
}

impl Milter {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Signer,
        Self::Verifier,
        Self::Dmarc,
        Self::Clamav,
        Self::Spamass,
        Self::Rspamd,
        Self::Orders,
        Self::OrdersStreamed,
        Self::OrdersPerl,
    ];

    /// Starts it on a socket of its own and waits until it is of use. None where it is missing and
    /// a test may be skipped: that is printed.
    ///
    /// # Panics
    ///
    /// When it does not start, with what it said; where it is missing and nothing may be skipped.
    pub fn start(self) -> Option<Running> {
        let program = milters::program(self);
        let missing = program.as_ref().err().cloned();
        if !may_go_on(missing.map_or(Ok(()), Err)) {
            return None;
        }
        let program = program.ok()?;
        let dir = WorkDir::new().unwrap_or_else(|error| panic!("{error}"));
        // The Perl module writes a frame in three pieces: over TCP each would wait for an
        // acknowledgement that the other side delays.
        let address = match self {
            Self::OrdersPerl => Address::Unix(dir.path().join("socket")),
            _ => Address::free_tcp(),
        };
        let mut helpers = Vec::new();
        let command = milters::command(self, &program, dir.path(), &address, &mut helpers);
        let mut command = command.unwrap_or_else(|error| panic!("{self:?}: {error}"));
        command.env("MTA_LOG", dir.path().join("log"));
        let running = Running {
            milter: self,
            filter: Filter::start_command(&mut command, &address),
            command,
            _helpers: helpers,
            dir,
        };
        running.wait_until_ready();
        Some(running)
    }
}

/// A process beside the milter.
#[derive(Debug)]
enum Helper {
    /// The daemon that scans for it.
    Daemon { _guard: Guard },
    /// The stand-in for one.
    Spamd { _spamd: Spamd },
}

/// A milter that listens. It is stopped when this is dropped.
#[derive(Debug)]
pub struct Running {
    milter: Milter,
    // In this order: the milter before what it is connected to.
    filter: Filter,
    command: Command,
    _helpers: Vec<Helper>,
    dir: WorkDir,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> &Address {
        self.filter.address()
    }

    /// Ends it and starts it again at the same address, as an administrator would.
    ///
    /// # Panics
    ///
    /// When it does not start, with what it said.
    pub fn restart(&mut self) {
        let address = self.address().clone();
        self.filter.kill();
        self.filter = Filter::start_command(&mut self.command, &address);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        let ready = milters::ready(self.milter);
        let waited = wait::until(&format!("{:?} to be ready", self.milter), PATIENCE, || {
            self.log().contains(ready).then_some(())
        });
        waited.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }

    /// What it has said and logged so far.
    pub fn log(&self) -> String {
        let log = fs::read(self.dir.path().join("log")).unwrap_or_default();
        format!("{}{}", self.filter.output(), String::from_utf8_lossy(&log))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // libmilter looks for an end every five seconds only, and nothing is lost.
        if !matches!(self.milter, Milter::Rspamd | Milter::OrdersPerl) {
            self.filter.kill();
        }
    }
}

/// Whether the first DKIM signatures of messages verify, as Python's dkim sees it: written by
/// others, and told the bytes of the message, not what a milter is told of it.
///
/// # Errors
///
/// Says what is missing, or that one does not verify and why.
pub fn verify_dkim(messages: &[&[u8]]) -> Result<(), String> {
    let dir = WorkDir::new()?;
    let path = |name: &str| dir.path().join(name);
    write(&path("verify.py"), include_str!("../../others/verify.py"))?;
    write(&path("keys"), milters::public_keys())?;
    let mut python = Command::new(find_program("python3", "python3")?);
    python.arg(path("verify.py")).arg(path("keys"));
    for (n, message) in messages.iter().enumerate() {
        let file = path(&format!("message{n}"));
        write(&file, message)?;
        python.arg(file);
    }
    run(&mut python, &path("log"))
}

/// Whether [`verify_dkim`] can be asked; says so where tests are skipped because it cannot.
///
/// # Panics
///
/// Where nothing may be skipped.
pub fn require_verifier() -> bool {
    let package = Path::new("/usr/lib/python3/dist-packages/dkim");
    crate::mta::require_file(package, "python3-dkim")
}

/// Starts a helper and waits until it listens.
fn start_daemon(command: &mut Command, log: &Path, address: &Address) -> Result<Helper, String> {
    let file = fs::File::create(log).map_err(|error| error.to_string())?;
    let copy = file.try_clone().map_err(|error| error.to_string())?;
    let mut guard = Guard::spawn(command.stdout(file).stderr(copy))?;
    wait::until(
        &format!("a listener at {address}"),
        PATIENCE,
        || match guard.ended() {
            Some(status) => Some(Err(format!("ended: {status}"))),
            None => address.has_listener().then_some(Ok(())),
        },
    )
    .and_then(|listens| listens)
    .map_err(|error| format!("{error}\n{}", fs::read_to_string(log).unwrap_or_default()))?;
    Ok(Helper::Daemon { _guard: guard })
}
