//! A filter elsewhere that does as its script says, and writes down what it is told.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use milter_core::{Agreement, Command, FilterCodec, Needs, OfferReply, Reply, negotiate};
use milter_tower::client::Connection;
use milter_tower::remote::{Connector, Target};
use milter_tower::{BoxError, Remote, ReplyMode, Stage, Stages};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio_util::codec::Framed;
use tower::Service;

/// What a backend does when it was told something.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Act {
    /// It goes on, as far as a reply is due.
    Go,
    /// It says this, whether or not a reply is due.
    Say(Vec<Reply>),
    /// It says this bit by bit, each after that time.
    SayLater(Duration, Vec<Reply>),
    /// It writes bytes.
    Write(&'static [u8]),
    /// It says this, and goes away.
    SayAndDie(Vec<Reply>),
    /// It goes away.
    Die,
    /// It says nothing more, and reads nothing.
    Hang,
}

impl From<Reply> for Act {
    fn from(reply: Reply) -> Self {
        Self::Say(vec![reply])
    }
}

type Script = dyn Fn(usize, &Command) -> Act + Send + Sync;
type Asks = dyn Fn(usize) -> Needs + Send + Sync;

/// The backend: each connection with it is another one, counted from 1.
#[derive(Clone)]
pub(crate) struct Backend {
    shared: Arc<Shared>,
}

struct Shared {
    script: Box<Script>,
    needs: Box<Asks>,
    /// Which connections cannot be made.
    refuses: Box<dyn Fn(usize) -> bool + Send + Sync>,
    lists: Option<OfferReply>,
    seen: Mutex<Vec<Vec<Command>>>,
    tried: AtomicUsize,
    open: AtomicUsize,
}

impl Backend {
    pub(crate) fn new(
        needs: Needs,
        script: impl Fn(usize, &Command) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                script: Box::new(script),
                needs: Box::new(move |_| needs.clone()),
                refuses: Box::new(|_| false),
                lists: None,
                seen: Mutex::default(),
                tried: AtomicUsize::new(0),
                open: AtomicUsize::new(0),
            }),
        }
    }

    /// One that goes on whatever it is told.
    pub(crate) fn going_on(needs: Needs) -> Self {
        Self::new(needs, |_, _| Act::Go)
    }

    fn with(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        change(Arc::get_mut(&mut self.shared).expect("not shared yet"));
        self
    }

    /// Lets each connection ask for something else.
    pub(crate) fn asking(self, needs: impl Fn(usize) -> Needs + Send + Sync + 'static) -> Self {
        self.with(|shared| shared.needs = Box::new(needs))
    }

    /// Lets some connections not be made.
    pub(crate) fn refusing(self, refuses: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        self.with(|shared| shared.refuses = Box::new(refuses))
    }

    /// Answers each offer with this.
    pub(crate) fn answering(self, answer: OfferReply) -> Self {
        self.with(|shared| shared.lists = Some(answer))
    }

    pub(crate) fn remote(&self) -> Remote<Opens> {
        Remote::with_connector(self.connector())
    }

    pub(crate) fn connector(&self) -> Opens {
        Opens(self.clone())
    }

    /// The other end of a new connection.
    pub(crate) fn start(&self) -> DuplexStream {
        let (theirs, mine) = tokio::io::duplex(1 << 20);
        let number = {
            let mut seen = self.shared.seen.lock().unwrap();
            seen.push(Vec::new());
            seen.len()
        };
        self.shared.open.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            serve(&shared, mine, number).await;
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
        theirs
    }

    /// What was told over a connection.
    pub(crate) fn seen(&self, number: usize) -> Vec<Command> {
        let seen = self.shared.seen.lock().unwrap();
        seen.get(number - 1).cloned().unwrap_or_default()
    }

    /// The letters of it, without those of macros.
    pub(crate) fn letters(&self, number: usize) -> String {
        let seen = self.seen(number).into_iter();
        let letters = seen.map(|command| char::from(command.code()));
        letters.filter(|letter| *letter != 'D').collect()
    }

    /// The macros that were told for commands of this letter: each set's names and values.
    pub(crate) fn macros(&self, number: usize, code: u8) -> Vec<String> {
        let seen = self.seen(number).into_iter();
        seen.filter_map(|command| match command {
            Command::Macros(set) if set.command_code() == code => {
                let pairs = set.iter().map(|(name, value)| format!("{name}={value}"));
                Some(pairs.collect::<Vec<_>>().join(" "))
            }
            _ => None,
        })
        .collect()
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.shared.seen.lock().unwrap().len()
    }

    /// How often it was tried to make one.
    pub(crate) fn tried(&self) -> usize {
        self.shared.tried.load(Ordering::SeqCst)
    }

    /// How many are open, once those that end have ended.
    pub(crate) async fn open(&self) -> usize {
        settled().await;
        self.shared.open.load(Ordering::SeqCst)
    }
}

/// Lets everyone do what they can do at once.
pub(crate) async fn settled() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

async fn serve(shared: &Shared, io: DuplexStream, number: usize) {
    let mut framed = Framed::new(io, FilterCodec::new());
    let mut agreed = Agreement::default();
    while let Some(Ok(command)) = framed.next().await {
        shared.seen.lock().unwrap()[number - 1].push(command.clone());
        let mut replies = match (shared.script)(number, &command) {
            Act::Go => Vec::new(),
            Act::Say(replies) => replies,
            Act::SayLater(time, replies) => {
                for reply in &replies {
                    tokio::time::sleep(time).await;
                    let _ = framed.send(reply).await;
                }
                continue;
            }
            Act::SayAndDie(replies) => {
                for reply in &replies {
                    let _ = framed.send(reply).await;
                }
                return;
            }
            Act::Write(bytes) => {
                let _ = framed.get_mut().write_all(bytes).await;
                continue;
            }
            Act::Die => return,
            Act::Hang => {
                std::future::pending::<()>().await;
                return;
            }
        };
        if replies.is_empty() {
            replies.extend(match &command {
                Command::Negotiate(offer) => {
                    agreed = negotiate(offer, &(shared.needs)(number)).expect("what was offered");
                    let answer = shared.lists.clone();
                    let answer = answer.unwrap_or_else(|| agreed.to_reply());
                    Some(Reply::Negotiate(answer))
                }
                command => command
                    .stage()
                    .filter(|stage| agreed.reply_mode(*stage) != ReplyMode::Silent)
                    .map(|_| Reply::Continue),
            });
        }
        for reply in &replies {
            let _ = framed.feed(reply).await;
        }
        let _ = SinkExt::<&Reply>::flush(&mut framed).await;
        if command == Command::Quit {
            return;
        }
    }
}

/// Opens connections with a backend.
#[derive(Clone)]
pub(crate) struct Opens(Backend);

impl Service<Target> for Opens {
    type Response = Connection<DuplexStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Target) -> Self::Future {
        let shared = &self.0.shared;
        let tried = shared.tried.fetch_add(1, Ordering::SeqCst) + 1;
        if (shared.refuses)(tried) {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            return Box::pin(async { Err(refused.into()) });
        }
        let io = self.0.start();
        Box::pin(async move { Ok(target.client_without_address().over(io).await?) })
    }
}

/// It is one.
const _: fn(Opens) = |opens| {
    fn is_connector(_: impl Connector) {}
    is_connector(opens);
};

/// The needs of who wants everything without replies.
pub(crate) fn silent() -> Needs {
    Stages::ALL.iter().fold(Needs::none(), Needs::record)
}

/// Whether a command is of this stage.
pub(crate) fn is_at(command: &Command, stage: Stage) -> bool {
    command.stage() == Some(stage)
}
