//! A body while it arrives: in memory up to a bound, then in an unlinked file.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::body::Body;
use super::budget::{Budget, Held};
use super::error::MessageError;
use super::file::TempFile;

/// What is written to the file at a time, at least: each write is a trip to another thread.
const PIECE: usize = 256 * 1024;

/// How much bodies take in memory together unless set otherwise.
const TOTAL: usize = 256 * 1024 * 1024;

/// Where a body is kept.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    /// How many bytes are kept in memory.
    pub(crate) memory: usize,
    /// How many of all bodies together.
    pub(crate) total: Arc<Budget>,
    /// Where the file is made; none is the system's directory for temporary files.
    pub(crate) directory: Option<Arc<Path>>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            memory: 256 * 1024,
            total: Budget::new(TOTAL),
            directory: None,
        }
    }
}

impl Place {
    fn path(&self) -> PathBuf {
        self.directory
            .as_deref()
            .map_or_else(std::env::temp_dir, Path::to_owned)
    }
}

/// A buffer that went to the file, and the file.
type Written = (Vec<u8>, io::Result<Arc<TempFile>>);

/// A body while it arrives.
///
/// Whoever adds to it waits in [`poll_ready`](Self::poll_ready) until what was added before has
/// gone to the file: so one buffer is all that is ever held, and no file is written where it
/// would hold up a runtime.
#[derive(Debug, Default)]
pub(crate) struct Spool {
    /// What is not in the file yet.
    buffer: Vec<u8>,
    /// What the buffer takes of what all may take together.
    held: Held,
    file: Option<Arc<TempFile>>,
    in_file: u64,
    /// The buffer's way to the file.
    writing: Option<JoinHandle<Written>>,
    error: Option<io::Error>,
}

impl Spool {
    /// Waits until there is room. Errors are kept for [`check`](Self::check).
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(writing) = &mut self.writing else {
            return Poll::Ready(());
        };
        let written = ready!(Pin::new(writing).poll(cx));
        self.writing = None;
        match written {
            Ok((mut buffer, Ok(file))) => {
                self.in_file += buffer.len() as u64;
                self.file = Some(file);
                // The first write may be much larger than those that follow.
                let is_small = buffer.capacity() <= 2 * PIECE;
                if self.buffer.is_empty() && is_small && self.held.covers(buffer.capacity()) {
                    buffer.clear();
                    self.buffer = buffer;
                } else {
                    self.held.release();
                }
            }
            Ok((_, Err(error))) => self.error = Some(error),
            Err(cancelled) => self.error = Some(io::Error::other(cancelled)),
        }
        Poll::Ready(())
    }

    /// Adds a piece.
    pub(crate) fn add(&mut self, piece: &[u8], place: &Place) -> Result<(), MessageError> {
        self.check(place)?;
        let most = match &self.file {
            None => place.memory,
            Some(_) => place.memory.min(PIECE),
        };
        make_room(&mut self.buffer, piece.len(), most);
        self.buffer.extend_from_slice(piece);
        // Where all together have enough it goes to the file at once.
        let is_covered = self.held.cover(self.buffer.capacity(), &place.total);
        let most = if is_covered { most } else { 0 };
        if self.buffer.len() > most {
            let buffer = std::mem::take(&mut self.buffer);
            let (file, place) = (self.file.clone(), place.clone());
            self.writing = Some(tokio::task::spawn_blocking(move || {
                let written = append(file, &buffer, &place);
                (buffer, written)
            }));
        }
        Ok(())
    }

    /// A copy of what there is so far, unless some of it is in the file or there is no room for
    /// two.
    pub(crate) fn so_far(&self, place: &Place) -> Option<Body> {
        let mut held = Held::default();
        let is_in_memory = self.file.is_none() && self.writing.is_none() && self.error.is_none();
        if !is_in_memory || !held.cover(self.buffer.len(), &place.total) {
            return None;
        }
        let copy = Bytes::copy_from_slice(&self.buffer);
        Some(Body::new(None, copy, false).holding(held))
    }

    /// The whole body.
    pub(crate) fn finish(mut self, place: &Place, is_cut: bool) -> Result<Body, MessageError> {
        self.check(place)?;
        let tail = Bytes::from(self.buffer);
        let file = self.file.take().map(|file| (file, self.in_file));
        Ok(Body::new(file, tail, is_cut).holding(self.held))
    }

    fn check(&mut self, place: &Place) -> Result<(), MessageError> {
        let error = match self.error.take() {
            Some(error) => error,
            // Nobody asked whether it is ready; what is on its way would be counted wrongly.
            None if self.writing.is_some() => io::Error::other("called before it was ready"),
            None => return Ok(()),
        };
        Err(MessageError::Spool {
            directory: place.path(),
            source: error,
        })
    }
}

/// Makes room for a piece, without taking twice the bound when the bound is near.
fn make_room(buffer: &mut Vec<u8>, piece: usize, most: usize) {
    let needed = buffer.len() + piece;
    if needed > buffer.capacity() {
        let room = (2 * buffer.capacity()).min(most).max(needed);
        buffer.reserve_exact(room - buffer.len());
    }
}

fn append(file: Option<Arc<TempFile>>, buffer: &[u8], place: &Place) -> io::Result<Arc<TempFile>> {
    let file = match file {
        Some(file) => file,
        None => Arc::new(TempFile::new(place.directory.as_deref())?),
    };
    file.append(buffer)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn place() -> Place {
        Place {
            memory: 10,
            ..Place::default()
        }
    }

    async fn ready(spool: &mut Spool) {
        std::future::poll_fn(|cx| spool.poll_ready(cx)).await;
    }

    fn is_full(error: &MessageError) -> bool {
        matches!(error, MessageError::Spool { source, .. }
            if source.kind() == io::ErrorKind::StorageFull)
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error() {
        let full = || {
            let file = File::options().write(true).open("/dev/full");
            Spool {
                file: Some(Arc::new(file.expect("Linux has it").into())),
                ..Spool::default()
            }
        };
        let mut spool = full();
        spool.add(&[1; 11], &place()).unwrap();
        ready(&mut spool).await;
        assert!(is_full(&spool.add(&[1], &place()).unwrap_err()));

        let mut spool = full();
        spool.add(&[1; 11], &place()).unwrap();
        ready(&mut spool).await;
        assert!(is_full(&spool.finish(&place(), false).unwrap_err()));
    }

    /// A caller that does not wait gets an error, not a body with holes.
    #[tokio::test]
    async fn whoever_does_not_wait_fails() {
        let mut spool = Spool::default();
        spool.add(&[1; 11], &place()).unwrap();
        assert!(spool.add(&[1], &place()).is_err());
        assert!(spool.finish(&place(), false).is_err());
    }

    /// What all take together is bounded, and what is beyond it is in files.
    #[tokio::test]
    async fn bodies_together_are_bounded() {
        let place = Place {
            memory: 100,
            total: Budget::new(150),
            ..Place::default()
        };
        let mut bodies = Vec::new();
        for _ in 0..3 {
            let mut spool = Spool::default();
            spool.add(&[7; 70], &place).unwrap();
            ready(&mut spool).await;
            bodies.push(spool.finish(&place, false).unwrap());
        }
        let in_memory = |body: &Body| body.in_memory().is_some();
        assert_eq!(
            bodies.iter().map(in_memory).collect::<Vec<_>>(),
            [true, true, false]
        );
        assert_eq!(bodies[2].bytes().await.unwrap(), &[7; 70][..]);
        // A clone holds what it is a clone of.
        let kept = bodies[0].clone();
        bodies.clear();
        let mut spool = Spool::default();
        spool.add(&[7; 90], &place).unwrap();
        ready(&mut spool).await;
        assert!(!in_memory(&spool.finish(&place, false).unwrap()));
        drop(kept);
        let mut spool = Spool::default();
        spool.add(&[7; 90], &place).unwrap();
        assert!(in_memory(&spool.finish(&place, false).unwrap()));
    }

    /// The buffer that went to the file is used again.
    #[tokio::test]
    async fn one_buffer_is_all() {
        let mut spool = Spool::default();
        let mut buffers = Vec::new();
        for _ in 0..4 {
            spool.add(&[1; 11], &place()).unwrap();
            ready(&mut spool).await;
            buffers.push(spool.buffer.as_ptr());
        }
        assert!(buffers.iter().all(|buffer| *buffer == buffers[0]));
        assert_eq!(spool.in_file, 44);
        let body = spool.finish(&place(), false).unwrap();
        assert_eq!((body.len(), body.in_memory()), (44, None));
    }

    #[test]
    fn room_is_not_doubled_near_the_bound() {
        let mut buffer = Vec::new();
        let mut room = |piece, most| {
            make_room(&mut buffer, piece, most);
            buffer.resize(buffer.len() + piece, 0);
            buffer.capacity()
        };
        assert_eq!(room(100, 1000), 100);
        assert_eq!(room(1, 1000), 200);
        assert_eq!(room(200, 1000), 400);
        assert_eq!(room(500, 1000), 801);
        assert_eq!(room(1, 1000), 1000);
        assert_eq!(room(500, 1000), 1302);
    }
}
