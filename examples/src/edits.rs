//! What a milter asks for, in words and as data.

use milter_tower::{Modification, ModificationKind, Text};
use serde::Serialize;

use crate::text::cut;

/// Behind every header that there may be.
const END: u32 = 100_000;

/// A modification.
#[derive(Debug, Default, Serialize)]
pub struct Edit {
    /// What is to be done.
    pub kind: &'static str,
    /// The number of a header, or its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The name of a header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The value of a header, or the reason of a quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A sender or a recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Its ESMTP arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
    /// The bytes of a piece of a new body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<usize>,
}

impl From<&Modification> for Edit {
    fn from(modification: &Modification) -> Self {
        let text = |text: Text<'_>| Some(text.to_string());
        let to = |kind, address, args: Option<Text<'_>>| Self {
            kind,
            address: text(address),
            args: args.and_then(text),
            ..Self::default()
        };
        match modification.kind() {
            ModificationKind::AddHeader { name, value } => Self {
                kind: "add header",
                name: text(name),
                value: text(value),
                ..Self::default()
            },
            ModificationKind::InsertHeader { index, name, value } => Self {
                kind: "insert header",
                index: Some(index),
                name: text(name),
                value: text(value),
                ..Self::default()
            },
            ModificationKind::ChangeHeader { name, index, value } => Self {
                kind: "change header",
                index: Some(index),
                name: text(name),
                value: text(value),
                ..Self::default()
            },
            ModificationKind::DeleteHeader { name, index } => Self {
                kind: "delete header",
                index: Some(index),
                name: text(name),
                ..Self::default()
            },
            ModificationKind::ReplaceBody { body } => Self {
                kind: "replace body",
                size: Some(body.len()),
                ..Self::default()
            },
            ModificationKind::ChangeSender { address, args } => to("change sender", address, args),
            ModificationKind::AddRecipient { address } => to("add recipient", address, None),
            ModificationKind::AddRecipientWithArgs { address, args } => {
                to("add recipient", address, args)
            }
            ModificationKind::DeleteRecipient { address } => to("delete recipient", address, None),
            ModificationKind::Quarantine { reason } => Self {
                kind: "quarantine",
                value: text(reason),
                ..Self::default()
            },
            // Kinds that do not exist yet.
            _ => Self {
                kind: "other",
                ..Self::default()
            },
        }
    }
}

impl Edit {
    /// In words, lines cut after so many bytes.
    pub fn words(&self, most: usize) -> String {
        let shown = |text: &Option<String>| {
            let text = text.as_deref().unwrap_or_default();
            cut(text.trim().as_bytes(), most)
        };
        let (name, value) = (shown(&self.name), shown(&self.value));
        let index = self.index.unwrap_or_default();
        match self.kind {
            "add header" => format!("add the header {name}: {value}"),
            "insert header" if index > END => {
                format!("insert the header {name}: {value} (at the end)")
            }
            "insert header" => format!("insert the header {name}: {value} (at {index})"),
            "change header" => format!("change the header {name} (number {index}) to {value}"),
            "delete header" => format!("delete the header {name} (number {index})"),
            "replace body" => format!("replace the body by {} bytes", self.size.unwrap_or(0)),
            "quarantine" => format!("quarantine: {value}"),
            kind => format!("{kind} {} {}", shown(&self.address), shown(&self.args))
                .trim_end()
                .to_owned(),
        }
    }
}
