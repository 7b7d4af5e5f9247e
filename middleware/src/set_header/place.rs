//! Where headers go.

use milter_tower::{Modification, ModificationError};

/// How a header is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placing {
    Append,
    Prepend,
    Override,
    Replace,
    Remove,
}

/// Where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    End,
    Top,
    /// In the place of the first of its name.
    First,
}

impl Placing {
    /// Whether no other header of the name is left.
    pub(super) const fn is_only(self) -> bool {
        matches!(self, Self::Override | Self::Replace | Self::Remove)
    }

    /// The place in a mail that has so many of the name.
    pub(super) const fn at(self, present: u32) -> Place {
        match self {
            Self::Prepend => Place::Top,
            Self::Replace if present > 0 => Place::First,
            _ => Place::End,
        }
    }
}

impl Place {
    pub(super) fn edit(
        self,
        name: &[u8],
        value: &[u8],
        is_spaced: bool,
    ) -> Result<Modification, ModificationError> {
        let spaced;
        let value = if is_spaced {
            spaced = [b" ", value].concat();
            &spaced
        } else {
            value
        };
        match self {
            Self::End => Modification::add_header(name, value),
            Self::Top => Modification::insert_header(0, name, value),
            Self::First => {
                let edit = Modification::change_header(name, 1, value)?;
                if edit == Modification::delete_header(name, 1)? {
                    // An empty value would delete it.
                    return Modification::change_header(name, 1, " ");
                }
                Ok(edit)
            }
        }
    }
}
