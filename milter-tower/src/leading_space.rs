//! Filters that see header values without their leading space, where another one around them does not.

use bytes::Bytes;
use milter_core::{Header, Modification, ModificationError, ModificationKind};

/// A header as the MTA shows it to a filter that did not negotiate leading space; none if it is the
/// same.
// sendmail/milter.c milter_headers, Postfix milter8.c milter8_header
pub(crate) fn without_space(header: &Header) -> Option<Header> {
    let value = header.value_bytes();
    let rest = value.strip_prefix(b" ")?;
    Some(Header::new(header.name_bytes(), value.slice_ref(rest)))
}

/// A modification with a space before the value, where the MTA puts none.
pub(crate) fn spaced(edit: &Modification) -> Result<Modification, ModificationError> {
    let spaced = |value: &[u8]| Bytes::from([b" ", value].concat());
    match edit.kind() {
        ModificationKind::AddHeader { name, value } => {
            Modification::add_header(name, spaced(value.as_bytes()))
        }
        ModificationKind::InsertHeader { index, name, value } => {
            Modification::insert_header(index, name, spaced(value.as_bytes()))
        }
        ModificationKind::ChangeHeader { name, index, value } => {
            Modification::change_header(name, index.max(1), spaced(value.as_bytes()))
        }
        _ => Ok(edit.clone()),
    }
}
