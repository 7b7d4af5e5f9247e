//! What belongs to one service of a session, be it alone behind the driver or one of a chain.

mod place;
mod view;

pub(crate) use self::place::Place;
pub(crate) use self::view::{Scope, View, needs_of};
