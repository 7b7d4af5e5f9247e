//! The floor: a server that cuts frames and writes replies that were made before, and does nothing
//! else. One thread, one read and at most one write each time it wakes, nothing allocated but for
//! a connection. What others need more than this is what they cost.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{SocketFlags, accept_with};

use milter_tests::address::Address;
use milter_tests::session::Shape;

use crate::servers::Mode;

/// What is read at most in one go.
const BUFFER: usize = 256 * 1024;
/// More replies than a mail server has outstanding.
const REPLIES: usize = 4096;
/// The listener among the connections.
const LISTENER: u64 = u64::MAX;

const CONTINUE: &[u8] = b"\0\0\0\x01c";
const ACCEPT: &[u8] = b"\0\0\0\x01a";
const ADD_HEADER: &[u8] = b"\0\0\0\x0ehX-Bench\0seen\0\0\0\0\x01a";

struct Connection {
    socket: OwnedFd,
    /// Length and code of the frame under way.
    head: [u8; 5],
    head_read: usize,
    /// Bytes of its payload that are still to come.
    left: usize,
}

/// Serves until the process is ended.
pub(crate) fn run(address: &Address, mode: Mode) -> io::Result<()> {
    let listener: OwnedFd = match address {
        Address::Tcp(port) => {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, *port))?;
            listener.set_nonblocking(true)?;
            listener.into()
        }
        Address::Unix(path) => {
            let _ = fs::remove_file(path);
            let listener = UnixListener::bind(path)?;
            listener.set_nonblocking(true)?;
            listener.into()
        }
    };
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(
        &epoll,
        &listener,
        EventData::new_u64(LISTENER),
        EventFlags::IN,
    )?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut events = Vec::with_capacity(64);
    let mut input = vec![0; BUFFER];
    let mut output = Vec::with_capacity(REPLIES);
    loop {
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), None) {
            Err(error) if error != rustix::io::Errno::INTR => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let id = event.data.u64();
            if id == LISTENER {
                accept(&listener, &epoll, &mut connections)?;
                continue;
            }
            let Some(place) = usize::try_from(id)
                .ok()
                .and_then(|id| connections.get_mut(id))
            else {
                continue;
            };
            let Some(connection) = place else { continue };
            output.clear();
            let goes_on = connection.serve(mode, &mut input, &mut output);
            if !goes_on {
                *place = None;
            }
        }
    }
}

fn accept(
    listener: &OwnedFd,
    epoll: &OwnedFd,
    connections: &mut Vec<Option<Connection>>,
) -> io::Result<()> {
    while let Ok(socket) = accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        // Fails on a unix socket, which has no need of it.
        let _ = set_tcp_nodelay(&socket, true);
        let free = connections.iter().position(Option::is_none);
        let id = free.unwrap_or_else(|| {
            connections.push(None);
            connections.len() - 1
        });
        epoll::add(
            epoll,
            &socket,
            EventData::new_u64(id as u64),
            EventFlags::IN,
        )?;
        connections[id] = Some(Connection {
            socket,
            head: [0; 5],
            head_read: 0,
            left: 0,
        });
    }
    Ok(())
}

impl Connection {
    /// Reads once and answers; false when the connection is over.
    fn serve(&mut self, mode: Mode, input: &mut [u8], output: &mut Vec<u8>) -> bool {
        let length = match rustix::io::read(&self.socket, &mut *input) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(error) => return error == rustix::io::Errno::AGAIN,
        };
        let mut rest = &input[..length];
        while !rest.is_empty() {
            if self.head_read < self.head.len() {
                let some = rest.len().min(self.head.len() - self.head_read);
                self.head[self.head_read..self.head_read + some].copy_from_slice(&rest[..some]);
                self.head_read += some;
                rest = &rest[some..];
                if self.head_read < self.head.len() {
                    break;
                }
                let [a, b, c, d, _] = self.head;
                let Some(left) = (u32::from_be_bytes([a, b, c, d]) as usize).checked_sub(1) else {
                    return false;
                };
                self.left = left;
            }
            let some = rest.len().min(self.left);
            rest = &rest[some..];
            self.left -= some;
            if self.left == 0 {
                self.head_read = 0;
                if self.head[4] == b'Q' {
                    return false;
                }
                reply(self.head[4], mode, output);
            }
        }
        output.is_empty() || rustix::io::write(&self.socket, output) == Ok(output.len())
    }
}

fn reply(code: u8, mode: Mode, output: &mut Vec<u8>) {
    match code {
        b'D' | b'A' | b'K' => {}
        b'O' => {
            let shape = Shape {
                no_reply: mode == Mode::Nr,
                body: 0,
            };
            output.extend_from_slice(b"\0\0\0\x0dO\0\0\0\x06");
            output.extend_from_slice(&mode.actions().to_be_bytes());
            output.extend_from_slice(&shape.protocol().to_be_bytes());
        }
        b'E' if mode == Mode::Addheader => output.extend_from_slice(ADD_HEADER),
        b'E' => output.extend_from_slice(ACCEPT),
        _ if mode == Mode::Nr => {}
        _ => output.extend_from_slice(CONTINUE),
    }
}
