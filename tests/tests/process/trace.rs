//! The program `milter-trace` between two that say whatever they like: nothing of it is changed.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;
use std::{fs, thread};

use milter_tests::address::Address;
use milter_tests::process::Filter;
use milter_tests::raw::{frame, strings};
use milter_tests::wait::{self, PATIENCE};
use milter_tower::testing::Recording;
use milter_tower::testing::recording::Side;
use tempfile::TempDir;

struct Trace {
    filter: Filter,
    milter: TcpListener,
    file: PathBuf,
    _dir: TempDir,
}

impl Trace {
    fn start() -> Self {
        let milter = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = format!("inet:{}@127.0.0.1", milter.local_addr().unwrap().port());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("recording");
        let args = ["--to", &to, "--record", file.to_str().unwrap()];
        Self {
            filter: Filter::start("milter-trace", &Address::free_tcp(), &args),
            milter,
            file,
            _dir: dir,
        }
    }

    /// Both ends of a connection through it.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let mta = dial(self.filter.address());
        let (milter, _) = self.milter.accept().unwrap();
        milter.set_read_timeout(Some(PATIENCE)).unwrap();
        milter.set_write_timeout(Some(PATIENCE)).unwrap();
        (mta, milter)
    }

    /// Waits until it has shown so many lines with that.
    fn shown(&self, what: &str, count: usize) -> String {
        let probe = || {
            let output = self.filter.output();
            (output.matches(what).count() >= count).then_some(output)
        };
        wait::until(what, PATIENCE, probe)
            .unwrap_or_else(|error| panic!("{error}\n{}", self.filter.output()))
    }
}

fn dial(address: &Address) -> TcpStream {
    let Address::Tcp(port) = address else {
        panic!("no TCP address")
    };
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
    let stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Frames, broken frames, and bytes that are nothing at all.
fn garbage(seed: u8) -> Vec<u8> {
    let large = vec![seed; 70_000];
    let mut bytes = [
        strings(b'H', &["client.example"]),
        frame(b'!', b"\x1b[2J"),
        frame(b'B', &large),
        strings(b'L', &["Subject"]),
    ]
    .concat();
    let noise = (0..=255_u8).cycle().take(300_000);
    bytes.extend(
        [0xff; 4]
            .into_iter()
            .chain(noise.map(|n| n.wrapping_mul(seed))),
    );
    bytes
}

#[test]
fn every_byte_is_passed_on_in_both_directions() {
    let mut trace = Trace::start();
    let (mta, milter) = trace.connect();
    let says = |mut stream: TcpStream, seed| {
        thread::spawn(move || {
            stream.write_all(&garbage(seed)).unwrap();
            // The other side hears that this one has ended, and goes on.
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };
    let hears = |mut stream: TcpStream, seed| {
        thread::spawn(move || {
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            assert!(heard == garbage(seed), "the bytes are others");
        })
    };
    let threads = [
        says(mta.try_clone().unwrap(), 3),
        hears(mta, 5),
        says(milter.try_clone().unwrap(), 5),
        hears(milter, 3),
    ];
    for thread in threads {
        thread.join().unwrap();
    }
    let output = trace.shown("#1 == closed\n", 1);
    assert!(
        output.contains("#1 -> HELO client.example\n"),
        "{output:.2000}"
    );
    assert!(
        output.contains(r#"#1 -> ?? frame '!' 4 bytes "\x1b[2J" ("#),
        "{output:.2000}"
    );
    assert!(
        output.contains("#1 -> BODY 70000 bytes \""),
        "{output:.2000}"
    );
    assert!(output.contains("#1 <- ?? no frame, "), "{output:.2000}");
    assert!(!output.contains('\x1b'));
    assert_eq!(trace.filter.stop().unwrap().code(), Some(0));

    let mode = fs::metadata(&trace.file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
    let recording = Recording::read(&trace.file).unwrap();
    let entries = recording.connections()[0].entries();
    for (side, sent) in [(Side::Mta, garbage(3)), (Side::Milter, garbage(5))] {
        let said = entries.iter().filter(|entry| entry.from == side);
        let bytes: Vec<u8> = said.flat_map(|entry| entry.said.wire()).collect();
        assert!(bytes == sent, "the recording is not exact");
    }
}

#[test]
fn lines_of_many_connections_are_whole() {
    const CONNECTIONS: usize = 24;
    const FRAMES: usize = 40;
    let mut trace = Trace::start();
    let ends: Vec<_> = (0..CONNECTIONS).map(|_| trace.connect()).collect();
    let threads: Vec<_> = ends
        .into_iter()
        .map(|(mut mta, mut milter)| {
            thread::spawn(move || {
                let answer = frame(b'c', b"");
                let mut heard = vec![0; answer.len()];
                for n in 0..FRAMES {
                    let helo = strings(b'H', &[&format!("client-{n:03}.example")]);
                    let mut asked = vec![0; helo.len()];
                    mta.write_all(&helo).unwrap();
                    milter.read_exact(&mut asked).unwrap();
                    assert_eq!(asked, helo);
                    milter.write_all(&answer).unwrap();
                    mta.read_exact(&mut heard).unwrap();
                    assert_eq!(heard, answer);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let output = trace.shown(" == closed\n", CONNECTIONS);
    assert_eq!(trace.filter.stop().unwrap().code(), Some(0));
    let mut next = vec![0; CONNECTIONS + 1];
    for line in output.lines().filter(|line| line.contains(" -> HELO")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, number, "->", "HELO", client] = words[..] else {
            panic!("torn: {line}");
        };
        let number: usize = number.strip_prefix('#').unwrap().parse().unwrap();
        assert_eq!(client, format!("client-{:03}.example", next[number]));
        next[number] += 1;
    }
    assert!(next[1..].iter().all(|count| *count == FRAMES), "{next:?}");
    assert_eq!(
        output.matches(" <- CONTINUE (").count(),
        CONNECTIONS * FRAMES
    );
    let recording = Recording::read(&trace.file).unwrap();
    assert_eq!(recording.connections().len(), CONNECTIONS);
    for connection in recording.connections() {
        // And an end of each side.
        assert_eq!(connection.entries().len(), 2 * FRAMES + 2);
    }
}

#[test]
fn a_milter_that_is_not_there_is_told_and_the_mta_hears_an_end() {
    let nobody = Address::free_tcp();
    let args = ["--to", &nobody.to_string()];
    let mut trace = Filter::start("milter-trace", &Address::free_tcp(), &args);
    for number in 1..=2 {
        let mut mta = dial(trace.address());
        let mut heard = Vec::new();
        mta.read_to_end(&mut heard).unwrap();
        assert!(heard.is_empty());
        let what =
            format!("#{number} !! the milter at {nobody} cannot be reached: Connection refused");
        wait::until(&what, PATIENCE, || {
            trace.output().contains(&what).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}\n{}", trace.output()));
    }
    assert_eq!(trace.stop().unwrap().code(), Some(0));
}

#[test]
fn told_to_stop_it_lets_connections_end() {
    let mut trace = Trace::start();
    let (mut mta, mut milter) = trace.connect();
    let helo = strings(b'H', &["client.example"]);
    mta.write_all(&helo).unwrap();
    let mut asked = vec![0; helo.len()];
    milter.read_exact(&mut asked).unwrap();
    let start = Instant::now();
    let ends = thread::spawn(move || {
        let status = trace.filter.stop();
        (status, trace)
    });
    // It takes no more, and passes on what is open.
    let answer = frame(b'r', b"");
    milter.write_all(&answer).unwrap();
    let mut heard = vec![0; answer.len()];
    mta.read_exact(&mut heard).unwrap();
    assert_eq!(heard, answer);
    drop(mta);
    drop(milter);
    let (status, trace) = ends.join().unwrap();
    assert_eq!(status.unwrap().code(), Some(0));
    // Long before its patience is at its end.
    assert!(start.elapsed().as_secs() < 4);
    assert!(trace.filter.output().contains("#1 <- REJECT ("));
    let recording = Recording::read(&trace.file).unwrap();
    assert_eq!(recording.connections()[0].entries().len(), 4);
}

#[test]
fn told_to_stop_it_does_not_wait_for_ever() {
    let mut trace = Trace::start();
    let (mut mta, _milter) = trace.connect();
    mta.write_all(&strings(b'H', &["client.example"])).unwrap();
    trace.shown("#1 -> HELO", 1);
    assert_eq!(trace.filter.stop().unwrap().code(), Some(0));
    let mut heard = Vec::new();
    // Closed, in whatever way.
    let _ = mta.read_to_end(&mut heard);
    assert!(heard.is_empty());
    let recording = Recording::read(&trace.file).unwrap();
    assert_eq!(recording.connections()[0].entries().len(), 1);
}
