//! Values of any type that travel with a request, a message or a connection.

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

trait Value: Any + Send + Sync {
    fn clone_box(&self) -> Box<dyn Value>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<T: Any + Send + Sync + Clone> Value for T {
    fn clone_box(&self) -> Box<dyn Value> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

type Values = Vec<(TypeId, Box<dyn Value>)>;

/// Values by their type, at most one of each: what a layer tells the services within it about
/// one request.
///
/// They go with the request by value: a clone of the request has clones of them. Nothing is
/// allocated until a value is inserted. For what belongs to a message or a connection see
/// [`Shared`].
///
/// ```
/// use milter_tower::Extensions;
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Score(u32);
///
/// let mut extensions = Extensions::default();
/// assert_eq!(extensions.insert(Score(5)), None);
/// assert_eq!(extensions.get::<Score>(), Some(&Score(5)));
/// assert_eq!(extensions.remove::<Score>(), Some(Score(5)));
/// ```
#[derive(Default)]
pub struct Extensions {
    // A handful of values at most: a list is smaller and faster than a map. The second box
    // keeps the type at the size of one pointer, for requests are moved through every layer.
    values: Option<Box<Values>>,
}

impl Extensions {
    /// No values.
    pub const fn new() -> Self {
        Self { values: None }
    }

    /// Keeps a value, and returns the one of the same type that it replaces.
    pub fn insert<T: Clone + Send + Sync + 'static>(&mut self, value: T) -> Option<T> {
        let old = self.remove::<T>();
        self.values
            .get_or_insert_default()
            .push((TypeId::of::<T>(), Box::new(value)));
        old
    }

    /// The value of a type.
    pub fn get<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        let (_, value) = self
            .values
            .as_ref()?
            .iter()
            .find(|(id, _)| *id == TypeId::of::<T>())?;
        value.as_ref().as_any().downcast_ref()
    }

    /// The value of a type, to be changed.
    pub fn get_mut<T: Clone + Send + Sync + 'static>(&mut self) -> Option<&mut T> {
        let (_, value) = self
            .values
            .as_mut()?
            .iter_mut()
            .find(|(id, _)| *id == TypeId::of::<T>())?;
        value.as_mut().as_any_mut().downcast_mut()
    }

    /// Takes the value of a type out.
    pub fn remove<T: Clone + Send + Sync + 'static>(&mut self) -> Option<T> {
        let values = self.values.as_mut()?;
        let at = values.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
        let (_, value) = values.swap_remove(at);
        value.into_any().downcast().ok().map(|value| *value)
    }
}

impl Clone for Extensions {
    fn clone(&self) -> Self {
        let copy = |values: &Values| {
            Box::new(
                values
                    .iter()
                    .map(|(id, value)| (*id, value.as_ref().clone_box()))
                    .collect(),
            )
        };
        Self {
            values: self.values.as_deref().map(copy),
        }
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.values.as_ref().map_or(0, |values| values.len());
        f.debug_struct("Extensions").field("count", &count).finish()
    }
}

type SharedValues = Vec<(TypeId, Box<dyn Any + Send>)>;

/// Values by their type, at most one of each, shared by everything that belongs to one message
/// or one connection.
///
/// All clones see the same values. The store is made when the first value is inserted. What is
/// not found there is looked for in the store [around it](Self::outer), if there is one. See
/// [`Session::message_data`](crate::Session::message_data) and
/// [`Session::connection_data`](crate::Session::connection_data).
///
/// ```
/// use milter_tower::Shared;
///
/// let shared = Shared::default();
/// let clone = shared.clone();
/// shared.insert(7_u32);
/// clone.with_mut(|count: &mut u32| *count += 1);
/// assert_eq!(shared.get::<u32>(), Some(8));
/// ```
#[derive(Default)]
pub struct Shared {
    /// None until there is a value, or a clone that is to see the same ones.
    values: OnceLock<Arc<Mutex<SharedValues>>>,
    /// Where else to look.
    outer: Option<Arc<Shared>>,
}

impl Shared {
    /// A store of its own that shows what this one has, too.
    pub(crate) fn within(outer: &Self) -> Self {
        Self {
            values: OnceLock::new(),
            outer: Some(Arc::new(outer.clone())),
        }
    }

    /// The store around this one: for a member of a [`Chain`](crate::Chain) that of the chain,
    /// which all its members look into. Elsewhere this one itself.
    ///
    /// What is inserted here is for those behind as well:
    ///
    /// ```
    /// # use milter_tower::{Request, Session};
    /// #[derive(Clone)]
    /// struct Score(u32);
    ///
    /// fn tell(session: &Session, score: u32) {
    ///     session.message_data().outer().insert(Score(score));
    /// }
    /// fn told(session: &Session) -> Option<u32> {
    ///     session.message_data().get().map(|Score(score)| score)
    /// }
    /// ```
    pub fn outer(&self) -> &Self {
        self.outer.as_deref().unwrap_or(self)
    }

    /// Keeps a value, and returns the one of the same type that it replaces.
    pub fn insert<T: Send + 'static>(&self, value: T) -> Option<T> {
        self.lock(|values| {
            let old = take(values);
            values.push((TypeId::of::<T>(), Box::new(value)));
            old
        })
    }

    /// A clone of the value of a type.
    pub fn get<T: Clone + Send + 'static>(&self) -> Option<T> {
        self.with_mut(|value: &mut T| value.clone())
    }

    /// Whether there is a value of a type.
    pub fn contains<T: Send + 'static>(&self) -> bool {
        self.with_mut(|_: &mut T| ()).is_some()
    }

    /// What a function makes of the value of a type; none if there is no such value.
    ///
    /// The values are locked meanwhile: do not use them again within the function.
    pub fn with_mut<T: Send + 'static, R>(&self, with: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut with = Some(with);
        let found = self.values.get().and_then(|_| {
            self.lock(|values| find(values).and_then(|value| Some((with.take()?)(value))))
        });
        match (found, with, &self.outer) {
            (None, Some(with), Some(outer)) => outer.with_mut(with),
            (found, ..) => found,
        }
    }

    /// What a function makes of the value of a type, which is made with `T::default` first if
    /// it is not there.
    ///
    /// The values are locked meanwhile: do not use them again within the function.
    pub fn with_default<T: Default + Send + 'static, R>(
        &self,
        with: impl FnOnce(&mut T) -> R,
    ) -> R {
        self.lock(|values| {
            if let Some(value) = find(values) {
                return with(value);
            }
            let mut value = T::default();
            let result = with(&mut value);
            values.push((TypeId::of::<T>(), Box::new(value)));
            result
        })
    }

    /// Takes the value of a type out.
    pub fn remove<T: Send + 'static>(&self) -> Option<T> {
        self.values.get()?;
        self.lock(take)
    }

    fn lock<R>(&self, with: impl FnOnce(&mut SharedValues) -> R) -> R {
        let values = self.values.get_or_init(Arc::default);
        // A panic in `with` leaves every value in place.
        with(&mut values.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clone for Shared {
    fn clone(&self) -> Self {
        let values = self.values.get_or_init(Arc::default);
        Self {
            values: Arc::clone(values).into(),
            outer: self.outer.clone(),
        }
    }
}

fn find<T: 'static>(values: &mut [(TypeId, Box<dyn Any + Send>)]) -> Option<&mut T> {
    let (_, value) = values.iter_mut().find(|(id, _)| *id == TypeId::of::<T>())?;
    value.downcast_mut()
}

fn take<T: 'static>(values: &mut SharedValues) -> Option<T> {
    let at = values.iter().position(|(id, _)| *id == TypeId::of::<T>())?;
    let (_, value) = values.swap_remove(at);
    value.downcast().ok().map(|value| *value)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_extensions_are_apart() {
        let mut first = Extensions::new();
        first.insert("a".to_owned());
        let mut second = first.clone();
        second.get_mut::<String>().unwrap().push('b');
        second.insert(1_u8);
        assert_eq!(first.get::<String>().unwrap(), "a");
        assert_eq!(second.get::<String>().unwrap(), "ab");
        assert!(first.get::<u8>().is_none());
        assert_eq!(second.insert("c".to_owned()).unwrap(), "ab");
        assert_eq!(size_of::<Extensions>(), size_of::<usize>());
    }

    #[test]
    fn clones_of_shared_values_are_one() {
        let shared = Shared::default();
        assert_eq!(shared.get::<u8>(), None);
        assert_eq!(shared.remove::<u8>(), None);
        assert!(!shared.contains::<u8>());
        assert!(shared.values.get().is_none(), "nothing is allocated");
        let old = shared.clone();
        shared.with_default(|n: &mut u8| *n += 1);
        assert_eq!(old.get::<u8>(), Some(1));
        assert!(old.contains::<u8>() && !old.contains::<i8>());
        assert_eq!(old.insert(5_u8), Some(1));
        assert_eq!(shared.remove::<u8>(), Some(5));
        assert_eq!(old.get::<u8>(), None);
    }
}
