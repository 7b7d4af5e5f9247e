//! Which of several fields of one name is meant.

/// One field of a name: the first, or the one of an index.
///
/// It is made from a name, or from a name and an index that counts from 1. There is none of
/// index 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Which<'n> {
    pub(super) name: &'n [u8],
    pub(super) index: usize,
}

/// The first of that name.
impl<'n, N: AsRef<[u8]> + ?Sized> From<&'n N> for Which<'n> {
    fn from(name: &'n N) -> Self {
        Self {
            name: name.as_ref(),
            index: 1,
        }
    }
}

/// The one of that name and index, from 1.
impl<'n, N: AsRef<[u8]> + ?Sized> From<(&'n N, usize)> for Which<'n> {
    fn from((name, index): (&'n N, usize)) -> Self {
        Self {
            name: name.as_ref(),
            index,
        }
    }
}
