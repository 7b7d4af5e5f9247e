//! A load test: many messages as fast as the milter answers, and how long that took.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use milter_tower::Address;
use milter_tower::testing::{Mail, MockMta, MtaProfile, SmtpSession};
use serde::Serialize;
use tokio::pin;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use self::progress::Progress;
use self::tally::Tally;
use crate::args::Args;
use crate::ending::Ending;
use crate::letters;
use crate::link::dial;
use crate::output::Output;
use crate::run;
use crate::trouble::Trouble;

mod histogram;
mod progress;
mod show;
mod tally;

/// How often progress is shown.
const TICK: Duration = Duration::from_millis(100);

/// What the workers share.
struct Load {
    address: Address,
    connect_timeout: Duration,
    profile: MtaProfile,
    mails: Vec<Mail>,
    per_connection: u64,
    /// How many messages are sent.
    total: u64,
    /// How many were taken up.
    begun: AtomicU64,
    /// No more are taken up.
    stopped: AtomicBool,
    tally: Mutex<Tally>,
}

/// What was measured.
#[derive(Debug)]
pub(crate) struct Measured {
    tally: Tally,
    total: u64,
    connections: u32,
    took: Duration,
}

impl Measured {
    /// For people.
    pub(crate) fn text(&self) -> String {
        show::text(self)
    }

    /// The same where only errors are told.
    pub(crate) fn errors(&self) -> String {
        show::errors(self)
    }

    /// For programs.
    pub(crate) fn object(&self) -> impl Serialize + use<> {
        show::Object::from(self)
    }
}

/// Sends the messages, and says how it went.
pub(crate) async fn run(args: &Args, output: &mut Output) -> Result<ExitCode, Trouble> {
    let letters = letters::load(args)?;
    let total = args.load.bench.unwrap_or(1);
    // Nobody waits for the end of a long test to learn that the port was wrong.
    let profile = args.profile();
    let (session, opened) = run::open(args, &profile).await?;
    output.opened(&opened)?;
    session.quit().await;

    let load = Arc::new(Load {
        address: args.address.clone(),
        connect_timeout: args.connect_timeout(),
        profile,
        mails: letters.into_iter().map(|letter| letter.mail).collect(),
        per_connection: args.load.per_connection,
        total,
        begun: AtomicU64::new(0),
        stopped: AtomicBool::new(false),
        tally: Mutex::default(),
    });
    let began = Instant::now();
    let mut workers = JoinSet::new();
    // None is idle from the beginning.
    let connections = u32::try_from(total).map_or(args.load.connections, |total| {
        total.min(args.load.connections)
    });
    for _ in 0..connections {
        workers.spawn(work(Arc::clone(&load)));
    }
    attend(&load, &mut workers, output.shows_progress()).await;
    let took = began.elapsed();

    let tally = std::mem::take(&mut *load.tally());
    let code = tally.exit_code(args.output.expect);
    let measured = Measured {
        tally,
        total,
        connections,
        took,
    };
    output.measured(&measured)?;
    Ok(code.into())
}

/// Waits for the workers to end, and shows how far they are. The first Ctrl-C lets them finish what
/// they have begun.
async fn attend(load: &Load, workers: &mut JoinSet<()>, is_shown: bool) {
    let stop = milter_examples::stop_signal();
    pin!(stop);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut progress = Progress::new(load.total);
    loop {
        let is_stopped = load.stopped.load(Ordering::Relaxed);
        tokio::select! {
            ended = workers.join_next() => match ended {
                None => break,
                Some(Ok(())) => {}
                Some(Err(error)) => load.tally().fail(Ending::Failed, &error.to_string()),
            },
            () = &mut stop, if !is_stopped => load.stopped.store(true, Ordering::Relaxed),
            _ = tick.tick(), if is_shown => {
                let (done, failed) = load.tally().counts();
                progress.draw(done, failed);
            }
        }
    }
    progress.clear();
}

/// One connection after the other, one message after the other.
async fn work(load: Arc<Load>) {
    let mut link: Option<(SmtpSession, u64)> = None;
    while let Some(mail) = load.next() {
        let (mut session, sent) = match link.take() {
            Some(link) => link,
            None => match load.open().await {
                Ok(session) => (session, 0),
                Err(trouble) => {
                    let why = trouble.to_string();
                    let why = why.lines().next().unwrap_or_default();
                    load.tally().fail(Ending::Failed, why);
                    continue;
                }
            },
        };
        let began = Instant::now();
        let done = session.deliver(mail).await;
        let took = began.elapsed();
        let failure = session.protocol_failure().cloned();
        let mut why = session.failure().map(str::to_owned);
        let sent = sent + 1;
        if why.is_some() || sent >= load.per_connection {
            let late = session.quit().await;
            why = why.or(late.into_iter().next());
        } else {
            link = Some((session, sent));
        }
        let ending = Ending::of(&done, failure.as_ref());
        let mut tally = load.tally();
        match why {
            None => tally.count(ending, took, &done.steps),
            Some(why) if ending.is_verdict() => tally.fail(Ending::Failed, &why),
            Some(why) => tally.fail(ending, &why),
        }
    }
    if let Some((session, _)) = link {
        session.quit().await;
    }
}

impl Load {
    /// The next mail to be sent.
    fn next(&self) -> Option<&Mail> {
        if self.stopped.load(Ordering::Relaxed) {
            return None;
        }
        let nth = self.begun.fetch_add(1, Ordering::Relaxed);
        if nth >= self.total {
            return None;
        }
        let mails = u64::try_from(self.mails.len()).ok()?;
        self.mails
            .get(usize::try_from(nth.checked_rem(mails)?).ok()?)
    }

    async fn open(&self) -> Result<SmtpSession, Trouble> {
        let began = Instant::now();
        let io = dial(&self.address, self.connect_timeout).await?;
        let session = MockMta::over(self.profile.clone(), io).open().await;
        if session.failure().is_none() {
            self.tally().opened(began.elapsed());
        }
        Ok(session)
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
