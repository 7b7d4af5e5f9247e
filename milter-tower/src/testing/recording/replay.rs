//! Replaying a recording, and what that comes to.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::timeout;
use tower_service::Service;

use super::Connection;
use super::compare::Ignored;
use super::play::play;
use crate::testing::Failures;
use crate::{BoxError, PeerAddr, Request, Response, Settings, serve_connection};

/// Bytes that the pipe between the two sides holds.
const PIPE: usize = 64 * 1024;
/// How long the filter's server may take to end behind its connection.
const PATIENCE: Duration = Duration::from_secs(400);

/// A recording that is about to be played before a filter: await it.
///
/// Each connection is played to an instance of its own, behind the real server
/// ([`serve_connection`](crate::serve_connection)) at the other end of a pipe in memory. What the MTA
/// said is sent byte for byte as it was recorded. Where the filter is due an answer, that is waited
/// for and compared: verdicts, replies and modifications in their order. Progress does not count, nor
/// how long anything took, nor how a new body is cut into pieces. Where the recording ends before
/// the answer, there is nothing to compare.
///
/// # Where the filter asks for something else
///
/// What the MTA said depends on what the milter of the recording had agreed to, so another agreement
/// is a difference, unless it is [ignored](Self::ignore_negotiation). Then what this filter declines
/// is left out, as the MTA would; and where it does not answer, that is the same as `continue`. What
/// only this filter wants is not in the recording, and cannot be played.
///
/// After a verdict that differs the rest of that message (at connect and HELO: of the session) is
/// left out where the MTA would not tell it to this filter.
///
/// A runtime of Tokio is needed; its time may be paused.
#[derive(Clone, Debug)]
#[must_use = "nothing is played before it is awaited"]
pub struct Replay<'r, S> {
    connections: &'r [Connection],
    filter: S,
    settings: Settings,
    ignored: Ignored,
}

impl<'r, S> Replay<'r, S> {
    pub(super) fn new(connections: &'r [Connection], filter: S) -> Self {
        Self {
            connections,
            filter,
            settings: Settings::new(),
            ignored: Ignored::default(),
        }
    }

    /// Does not compare what the filter agrees to: it may ask for more, less or other macros than
    /// the milter that was recorded, such as one that it was ported from.
    pub fn ignore_negotiation(mut self) -> Self {
        self.ignored.negotiation = true;
        self
    }

    /// Does not compare the values that headers of this name are given: for those with a time or a
    /// signature in them.
    pub fn ignore_value_of(mut self, header: impl AsRef<[u8]>) -> Self {
        self.ignored.values.push(header.as_ref().to_owned());
        self
    }

    /// Sets how the filter's server treats connections.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }
}

impl<S> Replay<'_, S>
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    async fn run(self) -> Replayed {
        let mut replayed = Replayed {
            connections: self.connections.len(),
            ..Replayed::default()
        };
        for connection in self.connections {
            let failures = Failures::default();
            let mut settings = self.settings.clone();
            settings.failures = Some(failures.clone());
            let (mta, io) = tokio::io::duplex(PIPE);
            let serving = serve_connection(io, self.filter.clone())
                .settings(settings)
                .peer(PeerAddr::Other);
            let server = tokio::spawn(serving.into_future());
            let played = play(connection, mta, &self.ignored).await;
            let ended = timeout(PATIENCE, server).await;
            replayed.answers += played.answers;
            replayed.differences.extend(played.differences);
            replayed.failures.extend(failures.take());
            if played.is_cut {
                replayed.failures.extend(match ended {
                    Ok(Ok(Ok(()))) => None,
                    Ok(Ok(Err(error))) => Some(error.to_string()),
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_) => Some("the server did not end with its connection".to_owned()),
                });
            }
        }
        replayed
    }
}

impl<'r, S> IntoFuture for Replay<'r, S>
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    type Output = Replayed;
    type IntoFuture = Pin<Box<dyn Future<Output = Replayed> + Send + 'r>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What a [replay](Replay) came to. Shown, it says how it differs from the recording.
#[derive(Clone, Debug, Default)]
pub struct Replayed {
    connections: usize,
    answers: usize,
    differences: Vec<Difference>,
    failures: Vec<String>,
}

impl Replayed {
    /// Whether the filter answered as recorded.
    pub fn is_same(&self) -> bool {
        self.differences.is_empty()
    }

    /// Where it did not.
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// How many times the filter was asked something and answered.
    pub fn answers(&self) -> usize {
        self.answers
    }

    /// How the filter failed, as the server would log it.
    pub fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Asserts that the filter was asked something, and answered as recorded.
    ///
    /// # Panics
    ///
    /// If it did not, with how it differs: `-` was recorded, `+` is this filter's.
    #[track_caller]
    pub fn assert_same(&self) {
        assert!(self.is_same(), "{self}");
        assert!(self.answers > 0, "the recording asks a filter nothing");
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connections,
            answers,
            differences,
            failures,
        } = self;
        let differ = differences.len();
        if differ == 0 {
            write!(f, "all {answers} answers are as recorded")?;
        } else {
            write!(f, "the filter does not answer as recorded: {differ} of ")?;
            write!(f, "{answers} answers differ")?;
        }
        writeln!(f, " (connections: {connections})")?;
        for difference in differences {
            write!(f, "{difference}")?;
        }
        for failure in failures {
            let failure = crate::show::Line(failure.as_bytes());
            writeln!(f, "the filter failed: {failure}")?;
        }
        Ok(())
    }
}

/// An answer that is not the recorded one. Shown, `-` was recorded, `+` is the filter's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub(super) connection: u64,
    pub(super) line: usize,
    pub(super) at: String,
    pub(super) recorded: Vec<String>,
    pub(super) answered: Vec<String>,
}

impl Difference {
    /// The number of the connection.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// The line of the recording in which the MTA asks.
    pub fn line(&self) -> usize {
        self.line
    }

    /// What the milter answered when it was recorded, a line for each verdict and modification.
    pub fn recorded(&self) -> &[String] {
        &self.recorded
    }

    /// What the filter answers now.
    pub fn answered(&self) -> &[String] {
        &self.answered
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            connection,
            line,
            at,
            recorded,
            answered,
        } = self;
        writeln!(f, "connection {connection}, line {line}, {at}:")?;
        let same = |pairs: &mut dyn Iterator<Item = (&String, &String)>| {
            pairs.take_while(|(one, other)| one == other).count()
        };
        let before = same(&mut recorded.iter().zip(answered));
        let (head, recorded) = recorded.split_at(before);
        let (_, answered) = answered.split_at(before);
        let after = same(&mut recorded.iter().rev().zip(answered.iter().rev()));
        let (recorded, tail) = recorded.split_at(recorded.len() - after);
        let (answered, _) = answered.split_at(answered.len() - after);
        for (mark, lines) in [(' ', head), ('-', recorded), ('+', answered), (' ', tail)] {
            for line in lines {
                writeln!(f, "  {mark} {line}")?;
            }
        }
        Ok(())
    }
}
