//! A strict reader of RFC 8601 2.2, which knows nothing of how the header is written.

use crate::add_auth_results::AuthResults;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) id: String,
    pub(super) results: Vec<ParsedResult>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ParsedResult {
    method: String,
    result: String,
    reason: Option<String>,
    properties: Vec<(String, String)>,
}

impl Parsed {
    pub(super) fn of(id: &str, results: &AuthResults) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let results = results.iter().map(|result| ParsedResult {
            method: result.method().to_owned(),
            result: result.result().to_owned(),
            reason: result.reason().map(str::to_owned),
            properties: result.properties().map(owned).collect(),
        });
        Self {
            id: id.to_owned(),
            results: results.collect(),
        }
    }
}

/// What an unfolded value says; none if it is not in the grammar.
pub(super) fn parse(value: &str) -> Option<Parsed> {
    let mut rest = Rest(value);
    let id = rest.value()?;
    let mut results = Vec::new();
    rest.space();
    while !rest.0.is_empty() {
        rest.char(';')?;
        rest.space();
        if results.is_empty() && rest.0 == "none" {
            return Some(Parsed { id, results });
        }
        results.push(rest.result()?);
    }
    (!results.is_empty()).then_some(Parsed { id, results })
}

struct Rest<'t>(&'t str);

impl<'t> Rest<'t> {
    fn space(&mut self) -> bool {
        let before = self.0.len();
        self.0 = self.0.trim_start_matches(' ');
        self.0.len() < before
    }

    fn char(&mut self, char: char) -> Option<()> {
        self.0 = self.0.strip_prefix(char)?;
        Some(())
    }

    fn take(&mut self, is_inner: impl Fn(char) -> bool) -> &'t str {
        let end = self.0.find(|char| !is_inner(char)).unwrap_or(self.0.len());
        let (taken, rest) = self.0.split_at(end);
        self.0 = rest;
        taken
    }

    fn keyword(&mut self) -> Option<String> {
        let word = self.take(|char| char.is_ascii_alphanumeric() || char == '-');
        (!word.is_empty() && !word.ends_with('-')).then(|| word.to_owned())
    }

    fn result(&mut self) -> Option<ParsedResult> {
        let method = self.keyword()?;
        self.char('=')?;
        let result = self.keyword()?;
        let mut parsed = ParsedResult {
            method,
            result,
            ..ParsedResult::default()
        };
        loop {
            let spaced = self.space();
            if self.0.is_empty() || self.0.starts_with(';') {
                return Some(parsed);
            }
            if !spaced {
                return None;
            }
            let name = self.keyword()?;
            if self.0.starts_with('.') {
                self.char('.')?;
                let name = format!("{name}.{}", self.keyword()?);
                self.char('=')?;
                parsed.properties.push((name, self.pvalue()?));
            } else if name == "reason" && parsed.reason.is_none() && parsed.properties.is_empty() {
                self.char('=')?;
                parsed.reason = Some(self.value()?);
            } else {
                return None;
            }
        }
    }

    fn value(&mut self) -> Option<String> {
        if self.0.starts_with('"') {
            return self.quoted();
        }
        let special = |char| "()<>@,;:\\\"/[]?=".contains(char);
        let token = self.take(|char| char.is_ascii_graphic() && !special(char));
        (!token.is_empty()).then(|| token.to_owned())
    }

    fn quoted(&mut self) -> Option<String> {
        self.char('"')?;
        let mut text = String::new();
        let mut chars = self.0.char_indices();
        loop {
            match chars.next()? {
                (at, '"') => {
                    self.0 = &self.0[at + 1..];
                    return Some(text);
                }
                (_, '\\') => text.push(chars.next()?.1),
                (_, char) => text.push(char),
            }
        }
    }

    /// `value / [ [ local-part ] "@" ] domain-name`.
    fn pvalue(&mut self) -> Option<String> {
        if self.0.starts_with('"') {
            return self.quoted();
        }
        let atext =
            |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(char);
        let end = self.0.find([' ', ';']).unwrap_or(self.0.len());
        let Some((local, domain)) = self.0[..end].split_once('@') else {
            return self.value();
        };
        let is_atoms = local.is_empty()
            || local
                .split('.')
                .all(|atom| !atom.is_empty() && atom.chars().all(atext));
        let is_domain = domain.split('.').count() > 1
            && domain.split('.').all(|label| {
                let inner = |char: char| char.is_ascii_alphanumeric() || char == '-';
                let edges = label.starts_with('-') || label.ends_with('-');
                !label.is_empty() && !edges && label.chars().all(inner)
            });
        let address = self.0[..end].to_owned();
        self.0 = &self.0[end..];
        (is_atoms && is_domain).then_some(address)
    }
}
