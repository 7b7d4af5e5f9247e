//! The server that is attacked, and what every attack leaves alone.

use std::io;
use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use milter_tests::address::Address;
use milter_tests::process::Filter;
use milter_tests::raw::{Message, Peer, STEPS};
use milter_tests::usage;
use milter_tests::wait::{self, PATIENCE};

/// How long the well-behaved client may wait for any answer. Most attacks leave it at some
/// milliseconds; on a machine that is loaded otherwise, too, it was half a second.
const WORST: Duration = Duration::from_secs(2);

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    /// What is printed.
    pub(crate) name: &'static str,
    /// Over a unix socket instead of TCP.
    pub(crate) unix: bool,
    /// Options of the server.
    pub(crate) options: &'static [&'static str],
    /// How long the whole attack may take.
    pub(crate) within: Duration,
    /// By how many MiB the server's memory may grow, at its peak.
    pub(crate) growth: u64,
}

impl Row {
    pub(crate) const fn new(name: &'static str, seconds: u64, growth: u64) -> Self {
        Self {
            name,
            unix: false,
            options: &[],
            within: Duration::from_secs(seconds),
            growth,
        }
    }

    pub(crate) const fn unix(self) -> Self {
        Self { unix: true, ..self }
    }

    pub(crate) const fn options(self, options: &'static [&'static str]) -> Self {
        Self { options, ..self }
    }

    /// Runs the attack and sees that
    ///
    /// - it ends within its time, that is: the server answered or closed;
    /// - the server's memory stayed within the bound, at its peak;
    /// - the well-behaved client had every message filtered rightly, and never waited long;
    /// - a new client is served afterwards, on TCP and unix;
    /// - the server closed every descriptor that the attack had it open, and ends when told to.
    pub(crate) fn run(self, attack: impl FnOnce(&Target)) {
        // One at a time: they would measure each other.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut target = Target::start(self);
        let pid = target.filter.id();
        target.serves();
        let memory = usage::resident(pid).expect("the server runs");
        let descriptors = usage::descriptors(pid).expect("the server runs");
        let over = AtomicBool::new(false);
        let (time, witness) = thread::scope(|scope| {
            let witness = scope.spawn(|| watch(&target, &over));
            let start = Instant::now();
            let attacked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                attack(&target);
            }));
            let time = start.elapsed();
            over.store(true, Ordering::Relaxed);
            let witness = witness.join().expect("the well-behaved client");
            if let Err(panic) = attacked {
                std::panic::resume_unwind(panic);
            }
            (time, witness)
        });
        let Witness { messages, worst } = witness.unwrap_or_else(|error| {
            panic!("{}: the well-behaved client: {error}", self.name);
        });
        let peak = usage::peak_resident(pid).expect("the server still runs");
        let growth = peak.saturating_sub(memory);
        println!(
            "{}: {time:.1?}, {growth} KiB more; {messages} messages beside it, worst answer {worst:.1?}",
            self.name
        );
        assert!(time <= self.within, "{}: took {time:?}", self.name);
        assert!(
            growth <= self.growth << 10,
            "{}: the server grew by {growth} KiB",
            self.name
        );
        assert!(messages > 0, "{}: no message passed", self.name);
        assert!(worst <= WORST, "{}: an answer took {worst:?}", self.name);
        target.serves();
        wait::until("the server's descriptors to be closed", PATIENCE, || {
            usage::descriptors(pid).filter(|open| *open <= descriptors)
        })
        .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let ended = target.filter.stop().expect("the server ends");
        assert!(ended.success(), "{}: {ended}", self.name);
    }
}

/// The server.
#[derive(Debug)]
pub(crate) struct Target {
    filter: Filter,
    tcp: Address,
    unix: Address,
    attacked: Address,
    _dir: tempfile::TempDir,
}

impl Target {
    fn start(row: Row) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let tcp = Address::free_tcp();
        let unix = Address::Unix(dir.path().join("socket"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_soak"));
        command.arg("serve").args(row.options);
        for address in [&tcp, &unix] {
            command.args(["--listen", &address.to_string()]);
        }
        // The first is bound before the second.
        let filter = Filter::start_command(&mut command, &unix);
        let attacked = if row.unix { unix.clone() } else { tcp.clone() };
        Self {
            filter,
            tcp,
            unix,
            attacked,
            _dir: dir,
        }
    }

    /// Connects, as another host than the well-behaved client.
    pub(crate) fn connect(&self) -> Peer {
        self.try_connect(0).expect("a connection")
    }

    /// Connects as one of 200 hosts.
    pub(crate) fn try_connect(&self, number: usize) -> io::Result<Peer> {
        let host = u8::try_from(number % 200).unwrap_or(0);
        Peer::connect_from(&self.attacked, Ipv4Addr::new(127, 0, 1, host + 1))
    }

    /// Connects and begins a session.
    pub(crate) fn session(&self, steps: u32) -> Peer {
        let mut peer = self.connect();
        peer.greet(6, steps).expect("a session");
        peer
    }

    /// How many descriptors the server has open.
    pub(crate) fn descriptors(&self) -> usize {
        usage::descriptors(self.filter.id()).expect("the server runs")
    }

    /// Sees that new clients are served; a server that was full may take a moment.
    fn serves(&self) {
        for address in [&self.tcp, &self.unix] {
            let served = wait::until("a new client to be served", PATIENCE, || {
                let mut peer = Peer::connect(address).ok()?;
                peer.greet(6, STEPS).ok()?;
                deliver(&mut peer, &Message::small("new@client.example"), |_| {}).ok()
            });
            served.unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// Has a message filtered, and sees that it was filtered rightly.
pub(crate) fn deliver(
    peer: &mut Peer,
    message: &Message,
    took: impl FnMut(Duration),
) -> io::Result<()> {
    let answer = peer.deliver(message, took)?;
    if answer.is_right_for(message) {
        Ok(())
    } else {
        Err(io::Error::other(format!("a wrong answer: {answer:?}")))
    }
}

/// What the well-behaved client met.
struct Witness {
    messages: usize,
    worst: Duration,
}

/// Sends message after message until the attack is over, at least one.
fn watch(target: &Target, over: &AtomicBool) -> io::Result<Witness> {
    let mut peer = Peer::connect(&target.tcp)?;
    peer.greet(6, STEPS)?;
    let (mut messages, mut worst) = (0, Duration::ZERO);
    loop {
        let message = Message::small(&format!("{messages}@good.example"));
        deliver(&mut peer, &message, |time| worst = worst.max(time))?;
        messages += 1;
        if over.load(Ordering::Relaxed) {
            return Ok(Witness { messages, worst });
        }
        // Leaves the processors to the attack.
        thread::sleep(Duration::from_millis(1));
    }
}
