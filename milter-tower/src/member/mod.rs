//! What belongs to one service of a session, be it alone behind the driver or one of a chain.

mod place;
mod standing;
mod view;

pub(crate) use self::place::Place;
pub(crate) use self::standing::{Scope, Standing};
pub(crate) use self::view::{View, needs_of};
