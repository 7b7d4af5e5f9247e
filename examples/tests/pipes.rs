//! Programs whose output goes to one that ends before they do: they do their work all the same.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const QUIT: &[u8] = b"\0\0\0\x01Q";

/// A pipe that nobody reads.
fn unread() -> Stdio {
    let (_, end) = UnixStream::pair().unwrap();
    OwnedFd::from(end).into()
}

/// A program that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, args: &[&str]) -> Running {
    let mut command = Command::new(program);
    let command = command.args(args).stdout(unread()).stderr(unread());
    Running(command.spawn().unwrap())
}

/// Tries until it is there.
fn wait_for<T>(what: &str, mut get: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        if let Some(it) = get() {
            return it;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} is not there")
}

fn connect(socket: &Path) -> UnixStream {
    let stream = wait_for("the socket", || UnixStream::connect(socket).ok());
    let limit = Some(Duration::from_secs(20));
    stream.set_read_timeout(limit).unwrap();
    stream
}

#[test]
fn filters_serve_on() {
    for (program, more) in [
        (env!("CARGO_BIN_EXE_hello"), &[][..]),
        (
            env!("CARGO_BIN_EXE_proxy"),
            &["--to", "inet:1@127.0.0.1", "--on-failure", "accept"],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listen = format!("unix:{}", socket.display());
        let mut running = start(program, &[&["--listen", &listen], more].concat());
        // The second is still served after what the first had it log.
        for _ in 0..2 {
            let mut mta = connect(&socket);
            mta.write_all(b"\0\0\0\x0dO\0\0\0\x06\0\0\0\x7f\0\0\x03\xff")
                .unwrap();
            let mut answer = [0; 5];
            mta.read_exact(&mut answer).unwrap();
            assert_eq!(answer[4], b'O', "{program}");
            // Nothing that an MTA says.
            let _ = mta.write_all(b"\0\0\0\x01?");
        }
        assert_eq!(running.0.try_wait().unwrap(), None, "{program}");
    }
}

#[test]
fn the_tracer_records_on() {
    let dir = tempfile::tempdir().unwrap();
    let (socket, file) = (dir.path().join("socket"), dir.path().join("file"));
    let milter = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = format!("inet:{}@127.0.0.1", milter.local_addr().unwrap().port());
    let listen = format!("unix:{}", socket.display());
    let record = file.to_str().unwrap();
    let args = ["--listen", &listen, "--to", &to, "--record", record];
    let _running = start(env!("CARGO_BIN_EXE_milter-trace"), &args);
    for number in 1..=2 {
        let mut mta = connect(&socket);
        let (mut milter, _): (TcpStream, _) = milter.accept().unwrap();
        mta.write_all(QUIT).unwrap();
        milter.read_exact(&mut [0; QUIT.len()]).unwrap();
        wait_for("the entry", || {
            let recording = fs::read_to_string(&file).ok()?;
            let mut lines = recording.lines();
            let number = format!("{number} ");
            lines.find(|line| line.starts_with(&number) && line.ends_with("> Q"))?;
            Some(())
        });
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let program = env!("CARGO_BIN_EXE_quickstart");
    let Output { status, stderr, .. } = Command::new(program).stdout(unread()).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    assert_eq!((status.code(), &*said), (Some(0), ""));
}
