#![doc = include_str!("README.md")]

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use milter_core::Offer;
use milter_core::edit::Profile;
use tower_service::Service;

pub use self::condition::Condition;
pub use self::decided::Decided;
pub use self::member::{Member, MemberFailure, OnMemberFailure};
pub use self::network::NetworkError;
use self::running::Running;
use crate::error::{BoxError, Failure};
use crate::message::{Budget, Place};
use crate::request::{Event, Request};
use crate::response::Response;
use crate::session::{Peer, PeerAddr, Session};

mod ask;
mod call;
mod condition;
mod content;
mod decide;
mod decided;
mod end;
mod feed;
mod hold;
mod introduce;
mod judge;
mod live;
mod lost;
mod member;
mod negotiate;
mod net;
mod network;
mod pass;
mod prototype;
mod running;
#[cfg(test)]
mod tests;
mod time;
mod usual;

/// Several filters that an MTA sees as one: see the [module](self).
///
/// A clone is a fresh, unconnected chain; its members are cloned when it is first called.
///
/// ```
/// # use std::convert::Infallible;
/// use milter_tower::{Chain, Condition, Member, OnMemberFailure};
/// # use milter_tower::{Request, Response};
/// # let (greylist, dkim) = (tower::service_fn(service), tower::service_fn(service));
/// # let (dnsbl, spf, scanner) = (greylist, greylist, greylist);
/// # async fn service(_: Request) -> Result<Response, Infallible> { Ok(Response::proceed()) }
///
/// let chain = Chain::new()
///     .with_parallel([("dnsbl", dnsbl), ("spf", spf)])
///     .with_when("greylist", !Condition::authenticated(), greylist)
///     .with_member(Member::new("dkim", dkim).on_failure(OnMemberFailure::leave_out()))
///     .with("scanner", scanner);
/// assert_eq!(chain.names().collect::<Vec<_>>(), ["dnsbl", "spf", "greylist", "dkim", "scanner"]);
/// ```
pub struct Chain {
    spec: Arc<Spec>,
    /// Made when it is first called.
    running: Option<Arc<Mutex<Running>>>,
}

/// What a chain is made of.
#[derive(Clone, Debug)]
struct Spec {
    members: Vec<Member>,
    /// Those that are asked at the same time.
    groups: Vec<Range<usize>>,
    has_conditions: bool,
    profile: Option<Profile>,
    /// Where a body is held, and how much of it.
    place: Place,
    body_limit: u64,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            groups: Vec::new(),
            has_conditions: false,
            profile: None,
            place: Place::default(),
            body_limit: 100 * 1024 * 1024,
        }
    }
}

impl Spec {
    /// How many groups come behind that of a member.
    fn behind(&self, at: usize) -> usize {
        let behind = self.groups.iter().rev();
        behind.take_while(|group| group.start > at).count()
    }

    /// Whether a member is asked at the same time as others.
    fn is_parallel(&self, at: usize) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| group.contains(&at) && group.len() > 1)
    }
}

impl Chain {
    /// A chain without members: it accepts everything.
    pub fn new() -> Self {
        Self {
            spec: Arc::default(),
            running: None,
        }
    }

    /// Adds a filter behind those that are there. The name is for logs.
    #[must_use]
    pub fn with<S>(self, name: impl Into<Arc<str>>, service: S) -> Self
    where
        S: Service<Request, Response = Response> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        self.with_member(Member::new(name, service))
    }

    /// Adds a filter behind those that are there, with what [`Member`] can say of it.
    #[must_use]
    pub fn with_member(self, member: impl Into<Member>) -> Self {
        self.with_parallel([member])
    }

    /// Adds a filter that sees only messages of which the condition holds.
    #[must_use]
    pub fn with_when<S>(self, name: impl Into<Arc<str>>, condition: Condition, service: S) -> Self
    where
        S: Service<Request, Response = Response> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        self.with_member(Member::new(name, service).when(condition))
    }

    /// Adds filters that are asked at the same time, and only judge; the
    /// [strictest](self#how-verdicts-combine) verdict wins. Members of different types are made
    /// with [`Member::new`].
    ///
    /// They are not offered to change mail, other than to quarantine it. One that cannot work
    /// without fails for all mail, which [`check`](Self::check) finds beforehand. Most milters in
    /// other processes are like that: add them by [`with`](Self::with).
    #[must_use]
    pub fn with_parallel(self, members: impl IntoIterator<Item: Into<Member>>) -> Self {
        self.set(|spec| {
            let start = spec.members.len();
            spec.members.extend(members.into_iter().map(Into::into));
            spec.has_conditions |= spec.members.iter().any(|one| one.condition.is_some());
            if start < spec.members.len() {
                spec.groups.push(start..spec.members.len());
            }
        })
    }

    /// How the MTA does things. By default as the session says; one that does not tell is taken
    /// for Postfix.
    #[must_use]
    pub fn profile(self, profile: Profile) -> Self {
        self.set(|spec| spec.profile = Some(profile))
    }

    /// How many bytes of a body are held in memory: by default 256 KiB. What is more goes to a
    /// file. A body is held only for members that see it later than it comes.
    #[must_use]
    pub fn memory_limit(self, bytes: usize) -> Self {
        self.set(|spec| spec.place.memory = bytes)
    }

    /// How many bytes of bodies are held in memory together, by all clones of this chain: by
    /// default 256 MiB. Beyond it a body goes to a file piece by piece as it comes.
    #[must_use]
    pub fn total_memory_limit(self, bytes: usize) -> Self {
        self.set(|spec| spec.place.total = Budget::new(bytes))
    }

    /// How many bytes of a body are held in all: by default 100 MiB. A message with more is refused
    /// with `552 5.3.4`.
    #[must_use]
    pub fn body_limit(self, bytes: u64) -> Self {
        self.set(|spec| spec.body_limit = bytes)
    }

    /// Where the files are made that hold bodies: by default in the system's directory for
    /// temporary files. They have no name there, and nothing is left when the program ends.
    #[must_use]
    pub fn spool_directory(self, directory: impl Into<PathBuf>) -> Self {
        let directory: Arc<Path> = directory.into().into();
        self.set(|spec| spec.place.directory = Some(directory))
    }

    /// A clone that was made before keeps what it has.
    fn set(mut self, set: impl FnOnce(&mut Spec)) -> Self {
        set(Arc::make_mut(&mut self.spec));
        self.running = None;
        self
    }

    /// Asks fresh clones of all members what they need, as an MTA would that offers everything. To
    /// be called when a program starts: what is found here would have mail refused later. A chain
    /// within it is asked as one member; check it by itself.
    ///
    /// # Errors
    ///
    /// The first member that cannot work, and why: it fails in the negotiation, judges what comes
    /// before its [condition](Condition) is known, has to change what it may only judge in a
    /// [parallel section](Self::with_parallel) (it is asked a second time then, and offered all, to
    /// find that out), or asks, together with those before it, for more
    /// macros at one stage than Sendmail takes.
    pub async fn check(&self) -> Result<(), ChainError> {
        let mut chain = self.clone();
        let session = Session::new(Peer::new(0, PeerAddr::Other), None);
        let mut running = Running::new(Arc::clone(&self.spec));
        running.is_check = true;
        let running = chain.running.insert(Arc::new(Mutex::new(running)));
        let running = Arc::clone(running);
        for event in [Event::Negotiate(Offer::V6), Event::Close] {
            // What there is to know is in what it leaves.
            let _ = chain.call(Request::new(event, session.clone())).await;
        }
        let failed = lock(&running).failed.take();
        match failed {
            None => Ok(()),
            Some((at, failure)) => Err(ChainError {
                member: self.names().nth(at).unwrap_or_default().to_owned(),
                source: failure,
            }),
        }
    }

    /// The names of the members, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.spec.members.iter().map(Member::name)
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

/// A clone serves another connection: its members are fresh clones and have seen nothing.
impl Clone for Chain {
    fn clone(&self) -> Self {
        Self {
            spec: Arc::clone(&self.spec),
            running: None,
        }
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Service<Request> for Chain {
    type Response = Response;
    type Error = BoxError;
    type Future = ChainFuture;

    /// Always ready: a member is asked whether it is directly before its own call.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> ChainFuture {
        let running = self
            .running
            .get_or_insert_with(|| Arc::new(Mutex::new(Running::new(Arc::clone(&self.spec)))));
        let call = lock(running).start(request);
        ChainFuture {
            running: Arc::clone(running),
            call,
            is_done: false,
        }
    }
}

/// The future of a [`Chain`].
#[must_use = "futures do nothing unless polled"]
pub struct ChainFuture {
    running: Arc<Mutex<Running>>,
    /// Which call it is of.
    call: u64,
    is_done: bool,
}

impl Future for ChainFuture {
    type Output = Result<Response, BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = lock(&self.running).poll(self.call, cx);
        self.is_done = polled.is_ready();
        polled
    }
}

impl Drop for ChainFuture {
    fn drop(&mut self) {
        if !self.is_done {
            lock(&self.running).cancel(self.call);
        }
    }
}

impl fmt::Debug for ChainFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainFuture").finish_non_exhaustive()
    }
}

// Nobody waits for it: there is one call at a time.
fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A member with which a [`Chain`] cannot work.
#[derive(Debug, thiserror::Error)]
#[error("the member {member:?} of the chain cannot work")]
pub struct ChainError {
    member: String,
    source: Failure,
}

impl ChainError {
    /// The member's name.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// Why it cannot work.
    pub fn failure(&self) -> &Failure {
        &self.source
    }
}

/// A call of the chain was dropped in the middle of a message.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("a call of the chain was dropped in the middle of this message")]
struct Interrupted;
