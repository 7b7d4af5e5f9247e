use std::sync::Arc;

use milter_tower::{Actions, Modification, ModificationError, Needs, Stage};
use tower_layer::Layer;

use super::SetHeader;

/// The layer that makes [`SetHeader`]; see the [module](super).
#[derive(Clone, Debug)]
pub struct SetHeaderLayer {
    header: Arc<HeaderToSet>,
}

/// What is set, and how.
#[derive(Debug)]
pub(super) struct HeaderToSet {
    pub(super) name: Vec<u8>,
    pub(super) add: Modification,
    /// The same where the value begins right behind the colon.
    pub(super) add_spaced: Modification,
    pub(super) overrides: bool,
    pub(super) needs: Needs,
}

impl SetHeaderLayer {
    /// Adds the header at the end, or at Sendmail before the first one of that name.
    ///
    /// # Errors
    ///
    /// The name or the value cannot stand in a header.
    pub fn appending(
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        Self::new(name, value, false, |name, value| {
            Modification::add_header(name, value)
        })
    }

    /// Puts the header on top of the mail.
    ///
    /// # Errors
    ///
    /// The name or the value cannot stand in a header.
    pub fn prepending(
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        Self::new(name, value, false, |name, value| {
            Modification::insert_header(0, name, value)
        })
    }

    /// Adds the header at the end, and deletes every other one of that name: those that the
    /// sender wrote and those that the filter within would add.
    ///
    /// # Errors
    ///
    /// The name or the value cannot stand in a header.
    pub fn overriding(
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        Self::new(name, value, true, |name, value| {
            Modification::add_header(name, value)
        })
    }

    fn new(
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        overrides: bool,
        add: fn(&[u8], &[u8]) -> Result<Modification, ModificationError>,
    ) -> Result<Self, ModificationError> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let needs = Needs::none().action(Actions::ADD_HEADERS);
        let needs = if overrides {
            needs.action(Actions::CHANGE_HEADERS).record(Stage::Header)
        } else {
            needs
        };
        let header = HeaderToSet {
            add: add(name, value)?,
            add_spaced: add(name, &[b" ", value].concat())?,
            name: name.to_owned(),
            overrides,
            needs,
        };
        Ok(Self {
            header: Arc::new(header),
        })
    }
}

impl<S> Layer<S> for SetHeaderLayer {
    type Service = SetHeader<S>;

    fn layer(&self, inner: S) -> SetHeader<S> {
        SetHeader::new(inner, Arc::clone(&self.header))
    }
}
