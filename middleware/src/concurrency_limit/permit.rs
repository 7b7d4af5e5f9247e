use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Key;

/// With that many keys or fewer the map keeps the memory that it has.
const FEW: usize = 64;

/// How many are in, of all or by key.
#[derive(Debug)]
pub(super) struct Count {
    most: usize,
    /// All that are in.
    all: AtomicUsize,
    /// Those with a key, of which at least one is in.
    by: Mutex<HashMap<Key, usize>>,
}

/// One that is in, until this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    count: Arc<Count>,
    key: Option<Key>,
}

impl Count {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            all: AtomicUsize::new(0),
            by: Mutex::default(),
        }
    }

    pub(super) fn in_progress(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.by().len()
    }

    /// Lets one more in, if there is room: for its key, or without one in all.
    pub(super) fn enter(self: &Arc<Self>, key: Option<Key>) -> Option<Permit> {
        if let Some(key) = &key {
            let mut by = self.by();
            match by.get_mut(key) {
                Some(count) if *count >= self.most => return None,
                Some(count) => *count += 1,
                None if self.most == 0 => return None,
                None => drop(by.insert(key.clone(), 1)),
            }
            self.all.fetch_add(1, Ordering::Relaxed);
        } else {
            let enter = |all| (all < self.most).then_some(all + 1);
            let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
            self.all.fetch_update(set, fetch, enter).ok()?;
        }
        Some(Permit {
            count: Arc::clone(self),
            key,
        })
    }

    fn by(&self) -> MutexGuard<'_, HashMap<Key, usize>> {
        self.by.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.count.all.fetch_sub(1, Ordering::Relaxed);
        if let Some(key) = &self.key {
            let mut by = self.count.by();
            match by.get_mut(key) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    by.remove(key);
                    if by.capacity() > FEW && by.capacity() / 8 > by.len() {
                        let keep = by.len() * 2;
                        by.shrink_to(keep);
                    }
                }
            }
        }
    }
}
