//! A service under systemd: its socket comes from outside, and it tells how it does.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use milter_tests::process::{Guard, program};
use milter_tests::wait::{self, PATIENCE};

/// What a service manager would hear.
pub(crate) struct Manager(UnixDatagram);

impl Manager {
    pub(crate) fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(socket)
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 256];
        let len = self
            .0
            .recv(&mut buffer)
            .expect("the service says something");
        String::from_utf8_lossy(&buffer[..len]).trim().to_owned()
    }

    pub(crate) fn wait_for(&self, what: &str) {
        while self.hear() != what {}
    }
}

/// The program `stamp` as a service that gets this socket.
fn service(socket: OwnedFd, notify: &Path, output: &Path) -> Guard {
    let output = File::create(output).unwrap();
    let mut command = Command::new(program("stamp"));
    command
        // The passed descriptors begin with standard input here: no other can be passed without
        // unsafe code.
        .stdin(socket)
        .env("LISTEN_FDS_FIRST_FD", "0")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "filter")
        .env("NOTIFY_SOCKET", notify)
        .env("WATCHDOG_USEC", "100000")
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    Guard::spawn(&mut command).unwrap()
}

#[test]
fn a_service_takes_its_socket_and_tells_how_it_does() {
    let dir = tempfile::tempdir().unwrap();
    let (notify, socket) = (dir.path().join("notify"), dir.path().join("socket"));
    let manager = Manager::new(&notify);
    let listener = UnixListener::bind(&socket).unwrap();
    // It waits before the service is there.
    let mut client = UnixStream::connect(&socket).unwrap();
    let mut service = service(listener.into(), &notify, &dir.path().join("output"));

    assert_eq!(manager.hear(), "READY=1");
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    // An offer of version 6: everything.
    let offer = b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff";
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(offer).unwrap();
    let mut head = [0; 5];
    client.read_exact(&mut head).unwrap();
    assert_eq!(head[4], b'O');

    let status = service.stop().unwrap();
    assert!(status.success(), "{status}");
    manager.wait_for("STOPPING=1");
    assert!(socket.exists(), "the socket is the manager's");
}

#[test]
fn a_service_without_connections_tells_that_it_stops() {
    let dir = tempfile::tempdir().unwrap();
    let notify = dir.path().join("notify");
    let manager = Manager::new(&notify);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut service = service(listener.into(), &notify, &dir.path().join("output"));
    assert_eq!(manager.hear(), "READY=1");
    assert!(service.stop().unwrap().success());
    manager.wait_for("STOPPING=1");
}

#[test]
fn a_socket_that_does_not_listen_is_an_error_that_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("output");
    let (connected, _other) = UnixStream::pair().unwrap();
    let mut service = service(connected.into(), &dir.path().join("none"), &output);
    let status = wait::until("its end", PATIENCE, || service.ended()).unwrap();
    assert!(!status.success());
    let said = std::fs::read_to_string(output).unwrap();
    assert!(said.contains("Accept=no"), "{said}");
}
