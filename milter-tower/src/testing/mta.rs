//! A mail server in small.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use super::wire::{Io, Server, Wire};
use super::{Delivery, Failures, Mail, MtaProfile, SmtpSession};
use crate::client::dial::dial;
use crate::{Address, BoxError, PeerAddr, Request, Response, Settings, serve_connection};

/// Bytes that the pipe between MTA and filter holds.
const PIPE: usize = 64 * 1024;

/// A mail server in small, without sockets, that asks a filter what to do with mails and tells what
/// becomes of them.
///
/// It does what Postfix, Sendmail or another MTA would do, as its [profile](MtaProfile) says. The
/// filter runs behind the real server ([`serve_connection`]) at the other end of a pipe in memory,
/// so that the wire is part of the test. A runtime of Tokio is needed; its time may be paused.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::convert::Infallible;
/// use milter_tower::testing::{Mail, MockMta};
/// use milter_tower::{Event, Request, Response};
/// use tower::service_fn;
///
/// let filter = service_fn(async |request: Request| {
///     Ok::<_, Infallible>(match request.event() {
///         Event::EndOfMessage(_) => Response::accept().add_header("X-Filtered-By", "example"),
///         _ => Response::proceed(),
///     })
/// });
///
/// let mut mta = MockMta::postfix(filter);
/// let done = mta.deliver(Mail::new().from("a@example.org").to("b@example.net").body("hi")).await;
/// assert_eq!(done.message.headers().get_str("X-Filtered-By"), Some("example"));
/// # }
/// ```
///
/// [`deliver`](Self::deliver) sends a mail in an SMTP session of its own;
/// [`open`](Self::open) gives a [session](SmtpSession) to be driven step by step.
pub struct MockMta {
    profile: Arc<MtaProfile>,
    filter: Filter,
    settings: Settings,
    /// Counts messages, for their queue ids.
    messages: Arc<AtomicU64>,
}

/// Where the filter is.
enum Filter {
    Here(Box<dyn Serving>),
    At(Address),
    /// A connection that was there already, for the first session.
    Over(Option<Box<dyn Io>>),
}

/// A filter of which the type does not matter any more.
trait Serving: Send {
    /// Serves it on a connection of its own; gives the MTA's end.
    fn start(&mut self, settings: Settings) -> (Box<dyn Io>, Server);
}

impl<S> Serving for S
where
    S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
{
    fn start(&mut self, settings: Settings) -> (Box<dyn Io>, Server) {
        let (mta, io) = tokio::io::duplex(PIPE);
        let serving = serve_connection(io, self.clone())
            .settings(settings)
            .peer(PeerAddr::Other);
        (Box::new(mta), tokio::spawn(serving.into_future()))
    }
}

impl MockMta {
    /// Postfix before this filter.
    pub fn postfix<S>(filter: S) -> Self
    where
        S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
    {
        Self::with_profile(MtaProfile::postfix(), filter)
    }

    /// Sendmail before this filter.
    pub fn sendmail<S>(filter: S) -> Self
    where
        S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
    {
        Self::with_profile(MtaProfile::sendmail(), filter)
    }

    /// Stalwart before this filter, with what it [offers](MtaProfile::stalwart).
    pub fn stalwart<S>(filter: S) -> Self
    where
        S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
    {
        Self::with_profile(MtaProfile::stalwart(), filter)
    }

    /// An MTA that speaks [version 2](MtaProfile::version_2) of the protocol before this filter.
    pub fn version_2<S>(filter: S) -> Self
    where
        S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
    {
        Self::with_profile(MtaProfile::version_2(), filter)
    }

    /// Any MTA before this filter.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// # use std::convert::Infallible;
    /// # use milter_tower::{Request, Response};
    /// # use tower::service_fn;
    /// use milter_tower::testing::{Mail, MockMta, MtaProfile};
    ///
    /// # let filter = service_fn(async |_: Request| Ok::<_, Infallible>(Response::proceed()));
    /// // The same under each of them.
    /// for profile in [MtaProfile::postfix(), MtaProfile::sendmail(), MtaProfile::version_2()] {
    ///     let done = MockMta::with_profile(profile, filter).deliver(Mail::new()).await;
    ///     assert!(done.is_accepted(), "{done}");
    /// }
    /// # }
    /// ```
    pub fn with_profile<S>(profile: MtaProfile, filter: S) -> Self
    where
        S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
    {
        Self::new(profile, Filter::Here(Box::new(filter)))
    }

    /// An MTA whose filter listens at this address, any milter in whatever language. Each SMTP
    /// session connects anew. Tokio's time must not be paused: it would run on while the other
    /// side is at work.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), milter_tower::BoxError> {
    /// use milter_tower::testing::{Mail, MockMta, MtaProfile};
    ///
    /// let mut mta = MockMta::connect(MtaProfile::sendmail(), "inet:8891@127.0.0.1".parse()?);
    /// println!("{}", mta.deliver(Mail::new()).await);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(profile: MtaProfile, address: Address) -> Self {
        Self::new(profile, Filter::At(address))
    }

    /// An MTA that is connected with its filter already. That is good for one SMTP session; a second
    /// one finds no filter.
    pub fn over<IO>(profile: MtaProfile, io: IO) -> Self
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Self::new(profile, Filter::Over(Some(Box::new(io))))
    }

    fn new(profile: MtaProfile, filter: Filter) -> Self {
        Self {
            profile: Arc::new(profile),
            filter,
            settings: Settings::new(),
            messages: Arc::default(),
        }
    }

    /// Sets how the filter's server treats connections; of no effect for a filter elsewhere.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Which MTA is played.
    pub fn profile(&self) -> &MtaProfile {
        &self.profile
    }

    /// Delivers a mail in an SMTP session of its own, and says goodbye.
    ///
    /// When this returns a filter in this process has seen everything, also that the connection
    /// ended.
    pub async fn deliver(&mut self, mail: impl Borrow<Mail>) -> Delivery {
        let mut session = self.open().await;
        let mut delivery = session.deliver(mail).await;
        // Those at the very end.
        delivery.failures.extend(session.say_goodbye().await);
        delivery
    }

    /// Opens an SMTP session: connects to the filter, and negotiates. The client's connection is
    /// told by [`SmtpSession::connect`].
    ///
    /// A filter that cannot be reached, or does not agree, [fails](SmtpSession::failure) the
    /// session, in which nothing is then delivered.
    pub async fn open(&mut self) -> SmtpSession {
        let failures = Failures::default();
        let wire = match &mut self.filter {
            Filter::Here(filter) => {
                let mut settings = self.settings.clone();
                settings.failures = Some(failures.clone());
                let (io, server) = filter.start(settings);
                Ok(Wire::new(io, Some(server)))
            }
            Filter::At(address) => match dial(address, self.profile.times.dial()).await {
                Ok(stream) => Ok(Wire::new(Box::new(stream), None)),
                Err(error) => Err(format!("cannot connect to {address}: {error}")),
            },
            Filter::Over(io) => io
                .take()
                .map(|io| Wire::new(io, None))
                .ok_or_else(|| "the connection was used by a session before".to_owned()),
        };
        let (profile, messages) = (Arc::clone(&self.profile), Arc::clone(&self.messages));
        SmtpSession::open(profile, wire, messages, failures).await
    }
}

impl fmt::Debug for MockMta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MockMta")
            .field("profile", &self.profile.name())
            .finish_non_exhaustive()
    }
}
