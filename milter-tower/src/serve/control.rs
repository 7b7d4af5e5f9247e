//! What the connections of a server share.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::ConnectionError;
use crate::session::PeerAddr;
use crate::settings::Settings;
use crate::stop::Stop;

/// What the connections of a server share: its stop signal, its counts and its limits.
#[derive(Debug, Default)]
pub(crate) struct Control {
    pub(crate) stop: Stop,
    /// How often services were to be made anew.
    generation: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    messages: AtomicU64,
    open: AtomicUsize,
    busy: AtomicUsize,
    held: AtomicUsize,
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// What a server has done so far, and what it does now; see [`Handle::stats`](crate::Handle::stats).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The connections that were accepted, also those beyond a limit.
    pub accepted: u64,
    /// The connections that were turned away: a limit was reached.
    pub refused: u64,
    /// The connections that are open.
    pub open: usize,
    /// The messages that began.
    pub messages: u64,
    /// The messages in progress.
    pub in_progress: usize,
    /// The bytes that are held for all connections; see
    /// [`Settings::max_held_bytes`](crate::Settings::max_held_bytes).
    pub held_bytes: usize,
}

impl Control {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            accepted: self.accepted.load(Relaxed),
            refused: self.refused.load(Relaxed),
            open: self.open.load(Relaxed),
            messages: self.messages.load(Relaxed),
            in_progress: self.busy.load(Relaxed),
            held_bytes: self.held.load(Relaxed),
        }
    }

    /// Has every connection make its service anew for its next message.
    pub(crate) fn renew(&self) {
        // What the new services are made of was stored before.
        self.generation
            .fetch_add(1, std::sync::atomic::Ordering::Release);
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(std::sync::atomic::Ordering::Acquire)
    }

    /// A place for a connection, if there is one left.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: &PeerAddr,
        settings: &Settings,
    ) -> Result<Place, Full> {
        self.accepted.fetch_add(1, Relaxed);
        let admitted = self.take_place(peer, settings);
        if admitted.is_err() {
            self.refused.fetch_add(1, Relaxed);
        }
        admitted
    }

    fn take_place(self: &Arc<Self>, peer: &PeerAddr, settings: &Settings) -> Result<Place, Full> {
        let (most, most_of_peer) = (settings.max_connections, settings.max_connections_per_peer);
        let one_more = |open| (open < most).then_some(open + 1);
        if self.open.fetch_update(Relaxed, Relaxed, one_more).is_err() {
            return Err(Full::Connections(most));
        }
        // Gives back what was taken if the peer has too many.
        let mut place = Place {
            control: Arc::clone(self),
            peer: None,
        };
        if let PeerAddr::Inet(address) = peer {
            let address = address.ip().to_canonical();
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let count = peers.get(&address).copied().unwrap_or(0);
            if count >= most_of_peer {
                return Err(Full::Peer(most_of_peer));
            }
            peers.insert(address, count + 1);
            place.peer = Some(address);
        }
        Ok(place)
    }

    /// How many connections were cut in the middle of a message.
    pub(crate) fn cut(&self) -> u64 {
        self.cut.load(Relaxed)
    }

    /// Takes note of a connection that nobody looked at: there was no descriptor for it.
    pub(crate) fn turned_away(&self) {
        self.accepted.fetch_add(1, Relaxed);
        self.refused.fetch_add(1, Relaxed);
    }

    /// A message begins; it ends when what is returned is dropped.
    pub(crate) fn begin_message(self: &Arc<Self>) -> Busy {
        self.messages.fetch_add(1, Relaxed);
        self.busy.fetch_add(1, Relaxed);
        Busy(Arc::clone(self))
    }
}

/// Why a connection is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Connections(usize),
    Peer(usize),
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connections(max) => {
                write!(f, "{max} connections are open (Settings::max_connections)")
            }
            Self::Peer(max) => write!(
                f,
                "{max} connections of this peer are open (Settings::max_connections_per_peer)"
            ),
        }
    }
}

/// A connection's place among those of the server.
#[derive(Debug)]
pub(crate) struct Place {
    control: Arc<Control>,
    /// The peer for which it counts too.
    peer: Option<IpAddr>,
}

impl Place {
    /// Takes note of how the connection ended.
    pub(crate) fn note(&self, error: &ConnectionError) {
        if matches!(error, ConnectionError::Cut) {
            self.control.cut.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.control.open.fetch_sub(1, Relaxed);
        let Some(peer) = self.peer else { return };
        let peers = self.control.peers.lock();
        let mut peers = peers.unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&peer);
            }
        }
    }
}

/// A message in progress.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Control>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Relaxed);
    }
}

/// What a connection holds, counted for all of them together.
#[derive(Debug)]
pub(crate) struct Held {
    control: Arc<Control>,
    bytes: usize,
}

impl Held {
    pub(crate) const fn new(control: Arc<Control>) -> Self {
        Self { control, bytes: 0 }
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Takes note that the connection holds that much. Whether all together hold too much.
    pub(crate) fn set(&mut self, bytes: usize, max: usize) -> bool {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let held = &self.control.held;
        // Only growth can be too much.
        if bytes <= before {
            if bytes < before {
                held.fetch_sub(before - bytes, Relaxed);
            }
            return false;
        }
        let more = bytes - before;
        held.fetch_add(more, Relaxed).saturating_add(more) > max
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.control.held.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inet(text: &str) -> PeerAddr {
        PeerAddr::Inet(text.parse().unwrap())
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let control = Arc::new(Control::default());
        let settings = Settings::new()
            .max_connections(3)
            .max_connections_per_peer(2);
        let one = control.admit(&inet("10.0.0.1:1"), &settings).unwrap();
        let mapped = control.admit(&inet("[::ffff:10.0.0.1]:2"), &settings);
        let two = mapped.unwrap();
        let third = control.admit(&inet("10.0.0.1:3"), &settings);
        assert_eq!(third.unwrap_err(), Full::Peer(2));
        let three = control.admit(&PeerAddr::Unix(None), &settings).unwrap();
        let fourth = control.admit(&inet("10.0.0.2:1"), &settings);
        assert_eq!(fourth.unwrap_err(), Full::Connections(3));
        let stats = control.stats();
        assert_eq!((stats.accepted, stats.refused, stats.open), (5, 2, 3));
        drop((one, two, three));
        assert_eq!(control.stats().open, 0);
        assert!(control.peers.lock().unwrap().is_empty());
    }

    #[test]
    fn a_peer_that_may_have_none_leaves_no_trace() {
        let control = Arc::new(Control::default());
        let settings = Settings::new().max_connections_per_peer(0);
        assert!(control.admit(&inet("10.0.0.1:1"), &settings).is_err());
        assert!(control.peers.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_held_is_counted_together() {
        let control = Arc::new(Control::default());
        let mut one = Held::new(Arc::clone(&control));
        let mut two = Held::new(Arc::clone(&control));
        assert!(!one.set(60, 100));
        assert!(two.set(41, 100));
        assert!(!two.set(40, 100));
        assert_eq!(control.stats().held_bytes, 100);
        drop(one);
        assert_eq!(control.stats().held_bytes, 40);
        drop(two);
        assert_eq!(control.stats().held_bytes, 0);
    }
}
