//! A service that a future may call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A service that can be lent to a future, which calls it only after it has waited.
///
/// It is in one of two places: here, where it takes no lock, or where the future finds it too.
#[derive(Debug)]
pub(super) struct Lent<S> {
    here: Option<S>,
    there: Shelf<S>,
}

/// Where a service is that is lent.
#[derive(Debug)]
pub(super) struct Shelf<S>(Arc<Mutex<Option<S>>>);

impl<S> Lent<S> {
    pub(super) fn new(inner: S) -> Self {
        Self {
            here: Some(inner),
            there: Shelf(Arc::default()),
        }
    }

    /// The service, taken back from a future that did not call it. There always is one.
    pub(super) fn get_mut(&mut self) -> Option<&mut S> {
        if self.here.is_none() {
            self.here = self.there.lock().take();
        }
        self.here.as_mut()
    }

    /// Lends it, until somebody wants it here again.
    pub(super) fn lend(&mut self) -> Shelf<S> {
        if let Some(inner) = self.here.take() {
            *self.there.lock() = Some(inner);
        }
        Shelf(Arc::clone(&self.there.0))
    }
}

/// The copy is here.
impl<S: Clone> Clone for Lent<S> {
    fn clone(&self) -> Self {
        let copy = self.here.clone();
        Self {
            here: copy.or_else(|| self.there.lock().clone()),
            there: Shelf(Arc::default()),
        }
    }
}

impl<S> Shelf<S> {
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
