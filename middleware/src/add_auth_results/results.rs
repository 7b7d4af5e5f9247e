use std::error::Error;
use std::fmt;

use milter_tower::Session;

use super::write::is_keyword;

/// What a filter found out about a mail's origin by one method: `spf=pass
/// smtp.mailfrom=example.net`.
///
/// Method, result and the names of properties are keywords (letters, digits and `-`, at most 64
/// bytes), for which there are registries; see RFC 8601 2.7 and the IANA's
/// [Email Authentication Parameters](https://www.iana.org/assignments/email-auth). Values may be
/// anything: they are written so that they cannot end their place. Control characters, and what is not
/// UTF-8, become `?`.
///
/// ```
/// use milter_middleware::add_auth_results::AuthResult;
///
/// let result = AuthResult::new("dkim", "fail")?
///     .with_reason("body hash did not verify")
///     .with_property("header.d", "example.net")?
///     .with_property("header.s", "2024")?;
/// assert_eq!(result.property("header.d"), Some("example.net"));
/// assert_eq!(
///     result.to_string(),
///     r#"dkim=fail reason="body hash did not verify" header.d=example.net header.s=2024"#,
/// );
/// assert!(AuthResult::new("dkim", "fail; spf=pass").is_err());
/// # Ok::<(), milter_tower::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AuthResult {
    method: String,
    result: String,
    reason: Option<String>,
    properties: Vec<(String, String)>,
}

/// The most bytes of a reason that are kept, and of the value of a property.
const REASON: usize = 256;
const VALUE: usize = 512;
/// The most bytes of all properties of a result: so one always fits into the header.
const PROPERTIES: usize = 4 * 1024;

impl AuthResult {
    /// The result of a method: `("spf", "pass")`.
    ///
    /// # Errors
    ///
    /// One of them is no keyword.
    pub fn new(
        method: impl Into<String>,
        result: impl Into<String>,
    ) -> Result<Self, AuthResultError> {
        Ok(Self {
            method: keyword(method.into())?,
            result: keyword(result.into())?,
            reason: None,
            properties: Vec::new(),
        })
    }

    /// Why that is the result, for people. White space becomes one space, and what is behind 256 bytes
    /// is left out. A blank reason is none.
    #[must_use]
    pub fn with_reason(mut self, reason: impl AsRef<[u8]>) -> Self {
        let reason = String::from_utf8_lossy(reason.as_ref());
        let words: Vec<&str> = reason.split_whitespace().collect();
        let mut reason = clean(&words.join(" "));
        while reason.len() > REASON {
            reason.pop();
        }
        reason.truncate(reason.trim_end().len());
        self.reason = Some(reason).filter(|reason| !reason.is_empty());
        self
    }

    /// What was looked at, by type and name: `("smtp.mailfrom", "alice@example.net")`. Types are
    /// `smtp`, `header`, `body` and `policy`. An address is given without `<>`.
    ///
    /// A value of more than 512 bytes, as no address or domain has, is left out, and the property
    /// with it: cut it could be another's. So are those behind 4 KiB of names and values.
    ///
    /// # Errors
    ///
    /// The name is not two keywords with a dot between them.
    pub fn with_property(
        mut self,
        name: impl Into<String>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, AuthResultError> {
        let name = name.into();
        let is_right = |(kind, property)| is_keyword(kind) && is_keyword(property);
        if !name.split_once('.').is_some_and(is_right) {
            return Err(AuthResultError::Property(name));
        }
        let value = value.as_ref();
        let kept = self
            .properties()
            .map(|(name, value)| name.len() + value.len());
        let all = kept.sum::<usize>() + name.len() + value.len();
        if value.len() <= VALUE && all <= PROPERTIES {
            let value = clean(&String::from_utf8_lossy(value));
            self.properties.push((name, value));
        }
        Ok(self)
    }

    /// Tells it to the [`AddAuthResults`](super::AddAuthResults) around: see
    /// [`AuthResults::add`].
    pub fn add_to(self, session: &Session) {
        AuthResults::add(session, self);
    }

    /// The method: `spf`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// What came of it: `pass`.
    pub fn result(&self) -> &str {
        &self.result
    }

    /// Why, if that was said.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// What was looked at: names (`smtp.mailfrom`) and values, in order.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let properties = self.properties.iter();
        properties.map(|(name, value)| (&**name, &**value))
    }

    /// The first value of that name; the case of letters does not count.
    pub fn property(&self, name: &str) -> Option<&str> {
        let mut properties = self.properties();
        let found = properties.find(|(of, _)| of.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value)
    }
}

/// As it stands in the header, but in one line.
impl fmt::Display for AuthResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::write::words(self).join(" "))
    }
}

fn keyword(text: String) -> Result<String, AuthResultError> {
    if is_keyword(&text) {
        Ok(text)
    } else {
        Err(AuthResultError::Keyword(text))
    }
}

/// Nothing that could break a line.
fn clean(text: &str) -> String {
    let is_bad = |char: char| char.is_control() || char == char::REPLACEMENT_CHARACTER;
    text.replace(is_bad, "?")
}

/// What filters found out about a message's origin, in the order in which they said so.
///
/// It is among the values of the message ([`Session::message_data`]), for all who want to know:
///
/// ```
/// use milter_middleware::add_auth_results::AuthResults;
/// use milter_tower::Session;
///
/// fn is_authentic(session: &Session) -> bool {
///     let results = AuthResults::of(session);
///     results.by("dkim").any(|dkim| dkim.result() == "pass")
/// }
/// ```
///
/// At most 100 are kept: a mail may have any number of signatures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthResults {
    results: Vec<AuthResult>,
}

const MOST: usize = 100;

impl AuthResults {
    /// None.
    pub const fn new() -> Self {
        let results = Vec::new();
        Self { results }
    }

    /// Adds a result to those of the session's message: a member of a chain to those of the chain.
    pub fn add(session: &Session, result: AuthResult) {
        let data = session.message_data().outer();
        data.with_default(|all: &mut Self| all.push(result));
    }

    /// Those of the session's message so far.
    pub fn of(session: &Session) -> Self {
        session.message_data().get().unwrap_or_default()
    }

    /// Adds a result, unless there are 100.
    pub fn push(&mut self, result: AuthResult) {
        if self.results.len() < MOST {
            self.results.push(result);
        }
    }

    /// Those of a method; the case of letters does not count.
    pub fn by<'a>(&'a self, method: &'a str) -> impl Iterator<Item = &'a AuthResult> {
        let results = self.results.iter();
        results.filter(move |result| result.method.eq_ignore_ascii_case(method))
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, AuthResult> {
        self.results.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.results.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.results.is_empty()
    }
}

impl<'a> IntoIterator for &'a AuthResults {
    type Item = &'a AuthResult;
    type IntoIter = std::slice::Iter<'a, AuthResult>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Extend<AuthResult> for AuthResults {
    fn extend<I: IntoIterator<Item = AuthResult>>(&mut self, results: I) {
        results.into_iter().for_each(|result| self.push(result));
    }
}

impl FromIterator<AuthResult> for AuthResults {
    fn from_iter<I: IntoIterator<Item = AuthResult>>(results: I) -> Self {
        let mut all = Self::new();
        all.extend(results);
        all
    }
}

/// Why something cannot stand in `Authentication-Results`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthResultError {
    /// An authserv-id that cannot be written, or not be read again.
    AuthservId(String),
    /// A method or a result that is no keyword.
    Keyword(String),
    /// The name of a property that is not two keywords with a dot between them.
    Property(String),
}

impl fmt::Display for AuthResultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AuthservId(id) => write!(f, "{id:?} is no authserv-id: give a domain"),
            Self::Keyword(text) => {
                write!(f, "{text:?} is no keyword of letters, digits and hyphens")
            }
            Self::Property(name) => {
                write!(f, "{name:?} is no property: give a type, a dot and a name")
            }
        }
    }
}

impl Error for AuthResultError {}
