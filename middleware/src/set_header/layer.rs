use std::fmt;
use std::sync::Arc;

use milter_tower::{
    Actions, Agreement, Header, Modification, ModificationError, Needs, Response, Session, Stage,
};
use tower_layer::Layer;
use tracing::warn;

use super::SetHeader;
use super::place::{Place, Placing};
use crate::outgoing::{Edits, Seen, delete, names};

/// The layer that makes [`SetHeader`]; see the [module](super).
#[derive(Clone, Debug)]
pub struct SetHeaderLayer {
    header: Arc<HeaderToSet>,
}

/// What is set, and how.
#[derive(Debug)]
struct HeaderToSet {
    name: Vec<u8>,
    placing: Placing,
    value: Value,
    needs: Needs,
}

enum Value {
    None,
    /// Made once, without leading space and with it.
    Fixed(Box<[Forms; 2]>),
    Of(Box<Make>),
}

/// A header as it is added, and as it takes the place of another.
#[derive(Debug)]
struct Forms {
    new: Modification,
    replaced: Modification,
}

/// Makes the edit with this name, at this place, its value with leading space or without.
type Make = dyn Fn(&Session, &[u8], Place, bool) -> Option<Result<Modification, ModificationError>>
    + Send
    + Sync;

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Fixed(forms) => f.debug_tuple("Fixed").field(forms).finish(),
            Self::Of(_) => f.debug_tuple("Of").finish_non_exhaustive(),
        }
    }
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
        Self::fixed(name.as_ref(), value.as_ref(), Placing::Append)
    }

    /// The same with what the function makes of the session at the end of the message; nothing is
    /// added where it has no value.
    ///
    /// ```
    /// use milter_middleware::set_header::SetHeaderLayer;
    /// use milter_tower::Session;
    ///
    /// let layer = SetHeaderLayer::appending_with("X-Client", |session: &Session| {
    ///     session.client_ip().map(|ip| ip.to_string())
    /// })?;
    /// # let _ = layer;
    /// # Ok::<(), milter_tower::BoxError>(())
    /// ```
    ///
    /// A header is left out, with a warning, whose value cannot stand in one.
    ///
    /// # Errors
    ///
    /// The name cannot be one of a header.
    pub fn appending_with<F, V>(name: impl AsRef<[u8]>, value: F) -> Result<Self, ModificationError>
    where
        F: Fn(&Session) -> Option<V> + Send + Sync + 'static,
        V: AsRef<[u8]>,
    {
        Self::of(name.as_ref(), value, Placing::Append)
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
        Self::fixed(name.as_ref(), value.as_ref(), Placing::Prepend)
    }

    /// The same with a value as [`appending_with`](Self::appending_with) has it.
    ///
    /// # Errors
    ///
    /// The name cannot be one of a header.
    pub fn prepending_with<F, V>(
        name: impl AsRef<[u8]>,
        value: F,
    ) -> Result<Self, ModificationError>
    where
        F: Fn(&Session) -> Option<V> + Send + Sync + 'static,
        V: AsRef<[u8]>,
    {
        Self::of(name.as_ref(), value, Placing::Prepend)
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
        Self::fixed(name.as_ref(), value.as_ref(), Placing::Override)
    }

    /// The same with a value as [`appending_with`](Self::appending_with) has it. Where there is
    /// none, no header of that name is left.
    ///
    /// # Errors
    ///
    /// The name cannot be one of a header.
    pub fn overriding_with<F, V>(
        name: impl AsRef<[u8]>,
        value: F,
    ) -> Result<Self, ModificationError>
    where
        F: Fn(&Session) -> Option<V> + Send + Sync + 'static,
        V: AsRef<[u8]>,
    {
        Self::of(name.as_ref(), value, Placing::Override)
    }

    /// Gives the first header of that name this value, where it stands, and deletes the others; what
    /// the filter within would do to headers of the name is left out. Without any the header is
    /// added at the end.
    ///
    /// Sendmail keeps the name as the sender wrote it, in upper case or lower. It takes no empty value
    /// for a header that is there, nor does Postfix: that gets a space.
    ///
    /// # Errors
    ///
    /// The name or the value cannot stand in a header.
    pub fn replacing(
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, ModificationError> {
        Self::fixed(name.as_ref(), value.as_ref(), Placing::Replace)
    }

    /// The same with a value as [`appending_with`](Self::appending_with) has it. Where there is
    /// none, no header of that name is left.
    ///
    /// # Errors
    ///
    /// The name cannot be one of a header.
    pub fn replacing_with<F, V>(name: impl AsRef<[u8]>, value: F) -> Result<Self, ModificationError>
    where
        F: Fn(&Session) -> Option<V> + Send + Sync + 'static,
        V: AsRef<[u8]>,
    {
        Self::of(name.as_ref(), value, Placing::Replace)
    }

    /// Deletes every header of that name: those that the sender wrote and those that the filter
    /// within would add.
    ///
    /// # Errors
    ///
    /// The name cannot be one of a header.
    pub fn removing(name: impl AsRef<[u8]>) -> Result<Self, ModificationError> {
        Self::new(name.as_ref(), Value::None, Placing::Remove)
    }

    fn fixed(name: &[u8], value: &[u8], placing: Placing) -> Result<Self, ModificationError> {
        let forms = |is_spaced| {
            Ok(Forms {
                new: placing.at(0).edit(name, value, is_spaced)?,
                replaced: placing.at(1).edit(name, value, is_spaced)?,
            })
        };
        let value = Value::Fixed(Box::new([forms(false)?, forms(true)?]));
        Self::new(name, value, placing)
    }

    fn of<F, V>(name: &[u8], value: F, placing: Placing) -> Result<Self, ModificationError>
    where
        F: Fn(&Session) -> Option<V> + Send + Sync + 'static,
        V: AsRef<[u8]>,
    {
        let make = move |session: &Session, name: &[u8], place: Place, is_spaced: bool| {
            let value = value(session)?;
            Some(place.edit(name, value.as_ref(), is_spaced))
        };
        Self::new(name, Value::Of(Box::new(make)), placing)
    }

    fn new(name: &[u8], value: Value, placing: Placing) -> Result<Self, ModificationError> {
        // Checks the name.
        Modification::delete_header(name, 1)?;
        let mut needs = Needs::none();
        if placing != Placing::Remove {
            needs = needs.action(Actions::ADD_HEADERS);
        }
        if placing.is_only() {
            needs = needs.action(Actions::CHANGE_HEADERS).record(Stage::Header);
        }
        let header = HeaderToSet {
            name: name.to_owned(),
            placing,
            value,
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
        let edits: Arc<HeaderToSet> = Arc::clone(&self.header);
        SetHeader::new(inner, edits)
    }
}

impl Edits for HeaderToSet {
    fn needs(&self) -> &Needs {
        &self.needs
    }

    // Postfix counts a name with white space before the colon as one without (cleanup_milter.c
    // cleanup_find_header_start)
    fn note(&self, header: &Header, seen: &mut Seen) {
        let name = header.name().as_bytes().trim_ascii_end();
        if self.placing.is_only() && name.eq_ignore_ascii_case(&self.name) {
            seen.count = seen.count.saturating_add(1);
        }
    }

    fn edit(&self, response: Response, session: &Session, seen: &Seen) -> Response {
        let place = self.placing.at(seen.count);
        let edit = self.made(session, place);
        if !self.placing.is_only() {
            return response.edit_all(edit);
        }
        let response = response.retain_edits(|edit| !names(edit, &self.name));
        // From the last to the first: so the indices count the same on all MTAs (C71).
        let others = |first| (first..=seen.count).rev();
        match edit {
            Some(edit) if place == Place::First => {
                delete(others(2), &self.name, response.edit(edit))
            }
            edit => delete(others(1), &self.name, response).edit_all(edit),
        }
    }
}

impl HeaderToSet {
    fn made(&self, session: &Session, place: Place) -> Option<Modification> {
        // Values that keep their leading space need one of their own.
        let is_spaced = session.agreement().is_some_and(Agreement::leading_space);
        let made = match &self.value {
            Value::None => return None,
            Value::Fixed(forms) => {
                let [plain, spaced] = &**forms;
                let forms = if is_spaced { spaced } else { plain };
                return Some(match place {
                    Place::First => forms.replaced.clone(),
                    Place::End | Place::Top => forms.new.clone(),
                });
            }
            Value::Of(make) => make(session, &self.name, place, is_spaced)?,
        };
        let warned = |error: &ModificationError| {
            let name = self.name.escape_ascii();
            warn!(header = %name, error = error as &dyn std::error::Error, "a header is left out");
        };
        made.inspect_err(warned).ok()
    }
}
