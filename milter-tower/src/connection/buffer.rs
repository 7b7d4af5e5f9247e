//! The memory that is read into: lent to a connection for as long as it has something to read.
//!
//! A connection that waits has none. One read takes all that has come, and between messages
//! nothing is allocated, copied or kept.

use std::cell::Cell;

use bytes::BytesMut;

/// How much is read at once.
const READ: usize = 16 * 1024;
/// The largest that is kept for the next connection: it has grown for pieces of a body.
const MOST: usize = 128 * 1024;

thread_local! {
    static SPARE: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// Makes room to read into, in a buffer that is empty.
pub(super) fn borrow(buffer: &mut BytesMut) {
    // What a filter keeps a slice of is not written to again.
    if !buffer.try_reclaim(READ) {
        // A thread that ends has none.
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        *buffer = spare.unwrap_or_else(|| BytesMut::with_capacity(READ));
    }
}

/// Takes the memory of a buffer that is empty, for whoever reads next on this thread.
pub(super) fn give_back(buffer: &mut BytesMut) {
    let mut buffer = std::mem::take(buffer);
    if buffer.try_reclaim(READ) && buffer.capacity() <= MOST {
        let _ = SPARE.try_with(|spare| spare.set(Some(buffer)));
    }
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;

    #[test]
    fn memory_is_used_again_unless_somebody_keeps_a_slice() {
        let mut first = BytesMut::new();
        borrow(&mut first);
        first.put_slice(b"a frame");
        let memory = first.as_ptr();
        drop(first.split().freeze());
        give_back(&mut first);
        assert_eq!(first.capacity(), 0);

        // The allocator would give out freed memory once more.
        let decoy = BytesMut::with_capacity(READ);
        let mut second = BytesMut::new();
        borrow(&mut second);
        drop(decoy);
        assert_eq!(second.as_ptr(), memory);
        second.put_slice(b"a frame");
        let kept = second.split().freeze();
        give_back(&mut second);

        let mut third = BytesMut::new();
        borrow(&mut third);
        third.put_slice(b"another");
        assert_eq!(kept, "a frame");
        assert!(third.capacity() >= READ);
    }

    #[test]
    fn what_a_large_frame_took_is_not_kept() {
        let mut large = BytesMut::with_capacity(MOST + 1);
        give_back(&mut large);
        let mut next = BytesMut::new();
        borrow(&mut next);
        assert!(next.capacity() <= MOST);
    }
}
