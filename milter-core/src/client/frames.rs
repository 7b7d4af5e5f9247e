//! What is to be sent.

use std::array;
use std::iter::Flatten;

use crate::command::Command;

/// The frames that tell the filter something: none, one or two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "frames are not sent by themselves"]
pub struct Frames([Option<Command>; 2]);

impl Frames {
    pub(super) const NONE: Self = Self([None, None]);

    pub(super) fn new(first: Option<Command>, last: Command) -> Self {
        Self([first, Some(last)])
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The frames in order.
    pub fn iter(&self) -> impl Iterator<Item = &Command> {
        self.0.iter().flatten()
    }
}

impl IntoIterator for Frames {
    type Item = Command;
    type IntoIter = Flatten<array::IntoIter<Option<Command>, 2>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().flatten()
    }
}
