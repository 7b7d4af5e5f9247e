//! A `Filter` behind the server: what its methods see, and whose state is whose.

use std::time::Duration;

use bytes::Bytes;
use milter_core::{Command, Reply};
use milter_tower::{
    Actions, BoxError, Connect, Filter, Header, Helo, Needs, Offer, Outcome, Peer, Progress,
    Recipient, Request, Response, Sender, Settings, SmtpReply, Stage, Steps, UnknownCommand,
    filter, filter_with_peer, serve_connection,
};

use crate::common::{
    Log, Mta, body, connect, ended, header, helo, mail, message, proceeding, rcpt, seconds, start,
    start_with, unknown,
};

type Answer = Result<Response, BoxError>;

/// Writes down what it sees, and does as it is told by headers.
struct Noting {
    log: Log,
    id: usize,
    events: usize,
    needs: Needs,
}

/// What was seen of a message.
#[derive(Default)]
struct Message(Vec<&'static str>);

impl Noting {
    fn service(log: &Log, needs: &Needs) -> milter_tower::FilterService<Self> {
        // Has panics that are expected not shown.
        drop(proceeding());
        let (log, needs) = (log.clone(), needs.clone());
        let made = std::sync::atomic::AtomicUsize::new(0);
        filter(move || Self {
            log: log.clone(),
            id: made.fetch_add(1, std::sync::atomic::Ordering::SeqCst),
            events: 0,
            needs: needs.clone(),
        })
    }

    fn note(&mut self, what: impl Into<String>) {
        self.events += 1;
        self.log.add(self.id, what);
    }

    fn noted(&mut self, what: impl Into<String>) -> Response {
        self.note(what);
        Response::proceed()
    }
}

impl Filter for Noting {
    type Message = Message;

    fn needs(&self) -> Needs {
        self.needs.clone()
    }

    async fn negotiate(&mut self, offer: &Offer, _: &Request) -> Answer {
        Ok(self.noted(format!("negotiate {}", offer.version)))
    }

    async fn connect(&mut self, client: &Connect, _: &Request) -> Answer {
        Ok(self.noted(format!("connect {}", client.host())))
    }

    async fn helo(&mut self, helo: &Helo, _: &Request) -> Answer {
        Ok(self.noted(format!("helo {}", helo.name())))
    }

    async fn mail(&mut self, message: &mut Message, sender: &Sender, _: &Request) -> Answer {
        message.0.push("mail");
        Ok(self.noted(format!("mail {}", sender.mailbox())))
    }

    async fn rcpt(&mut self, message: &mut Message, to: &Recipient, _: &Request) -> Answer {
        message.0.push("rcpt");
        self.note(format!("rcpt {}", to.mailbox()));
        match to.mailbox().to_str()? {
            "refused" => Err(SmtpReply::reject("refused"))?,
            "broken" => Err("broken")?,
            _ => Ok(Response::proceed()),
        }
    }

    async fn data(&mut self, message: &mut Message, _: &Request) -> Answer {
        message.0.push("data");
        Ok(self.noted("data"))
    }

    async fn header(&mut self, message: &mut Message, header: &Header, _: &Request) -> Answer {
        message.0.push(if header.name() == "Slow-Abort" {
            "slow"
        } else {
            "header"
        });
        self.note(format!("header {}", header.name()));
        match header.name().to_str()? {
            "Hang" => {
                tokio::time::sleep(seconds(1000)).await;
                Ok(self.noted("never"))
            }
            "Panic" => panic!("expected"),
            "Accept" => Ok(Response::accept()),
            _ => Ok(Response::proceed()),
        }
    }

    async fn end_of_headers(&mut self, message: &mut Message, _: &Request) -> Answer {
        message.0.push("end of headers");
        Ok(self.noted("end of headers"))
    }

    async fn body(&mut self, message: &mut Message, piece: &Bytes, _: &Request) -> Answer {
        message.0.push("body");
        self.note(format!("body {}", piece.len()));
        Ok(Response::skip())
    }

    async fn end_of_message(
        &mut self,
        message: &mut Message,
        _: &Progress,
        request: &Request,
    ) -> Answer {
        self.note(message.0.join(" "));
        assert!(request.deadline().remaining() > seconds(100));
        Ok(Response::accept().add_header("X-Events", self.events.to_string()))
    }

    async fn unknown(&mut self, command: &UnknownCommand, _: &Request) -> Answer {
        Ok(self.noted(format!("unknown {}", command.line())))
    }

    async fn abort(&mut self, message: &mut Message, _: &Request) -> Result<(), BoxError> {
        self.note(format!("abort of {}", message.0.join(" ")));
        if message.0.contains(&"slow") {
            tokio::time::sleep(seconds(1000)).await;
            self.note("never");
        }
        message.0.clear();
        Ok(())
    }

    async fn message_end(
        &mut self,
        message: &mut Message,
        outcome: &Outcome,
        _: &Request,
    ) -> Result<(), BoxError> {
        self.note(format!("{outcome:?} after {}", message.0.len()));
        Ok(())
    }

    async fn close(&mut self, _: &Request) -> Result<(), BoxError> {
        self.note("close");
        Ok(())
    }
}

fn all() -> Needs {
    Needs::all().action(Actions::ADD_HEADERS).skip()
}

/// An MTA that can leave nothing out.
const OLD: Offer = Offer {
    steps: Steps::NO_CONNECT,
    ..Offer::V6
};

#[tokio::test(start_paused = true)]
async fn methods_see_all_events() {
    let log = Log::default();
    let (mut mta, run) = start(Noting::service(&log, &all()));
    mta.greet().await;
    for command in &message()[..6] {
        assert_eq!(mta.ask(command.clone()).await, Reply::Continue);
    }
    assert_eq!(mta.ask(body("text")).await, Reply::Skip);
    let (edits, last) = mta.end().await;
    assert_eq!((edits.len(), last), (1, Reply::Accept));
    mta.quit(run).await;
    assert_eq!(
        log.all(),
        [
            "negotiate 6",
            "connect client.example",
            "helo client.example",
            "mail a@example.org",
            "rcpt b@example.net",
            "data",
            "unknown XYZZY now",
            "header Subject",
            "end of headers",
            "body 4",
            "mail rcpt data header end of headers body",
            "Verdict(Accept) after 6",
            "close",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_not_asked_for_does_not_reach_a_method() {
    for offer in [Offer::V6, OLD] {
        let log = Log::default();
        let needs = Needs::none()
            .event(Stage::Rcpt)
            .action(Actions::ADD_HEADERS);
        let (mut mta, run) = start(Noting::service(&log, &needs));
        let steps = mta.offer(offer).await.steps;
        assert_eq!(
            steps.contains(Steps::NO_CONNECT | Steps::NO_MAIL),
            offer != OLD
        );
        if offer == OLD {
            assert_eq!(mta.ask(mail()).await, Reply::Continue);
        }
        assert_eq!(mta.ask(rcpt("<b@x>")).await, Reply::Continue);
        if offer == OLD {
            assert_eq!(mta.ask(header()).await, Reply::Continue);
        }
        mta.end().await;
        mta.quit(run).await;
        assert_eq!(log.all()[1..3], ["rcpt b@x", "rcpt"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_is_an_answer_or_a_failure() {
    let log = Log::default();
    let (mut mta, run) = start(Noting::service(&log, &all()));
    mta.negotiate().await;
    mta.ask(mail()).await;
    let refused = Reply::Smtp(SmtpReply::reject("refused"));
    assert_eq!(mta.ask(rcpt("<refused>")).await, refused);
    assert_eq!(mta.ask(rcpt("<broken>")).await, Reply::TempFail);
    assert_eq!(mta.ask(rcpt("<taken>")).await, Reply::Continue);
    mta.quit(run).await;
}

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Verdict,
    EarlyVerdict,
    Abort,
    Helo,
    Mail,
    NewConnection,
    Deadline,
    Panic,
    DeadlineAtAbort,
}

async fn end(mta: &mut Mta, ending: Ending) {
    let command = |name| Command::Header(Header::new(name, "x"));
    match ending {
        Ending::Verdict => drop(mta.end().await),
        Ending::EarlyVerdict => assert_eq!(mta.ask(command("Accept")).await, Reply::Accept),
        Ending::Abort => mta.send(Command::Abort).await,
        Ending::Helo => drop(mta.ask(helo()).await),
        Ending::Mail => {}
        Ending::NewConnection => mta.send(Command::QuitNewConnection).await,
        Ending::Deadline => assert_eq!(mta.ask(command("Hang")).await, Reply::TempFail),
        Ending::DeadlineAtAbort => {
            assert_eq!(mta.ask(command("Slow-Abort")).await, Reply::Continue);
            mta.send(Command::Abort).await;
        }
        Ending::Panic => assert_eq!(mta.ask(command("Panic")).await, Reply::TempFail),
    }
}

#[tokio::test(start_paused = true)]
async fn every_message_begins_afresh_however_the_last_one_ended() {
    use Ending::{
        Abort, Deadline, DeadlineAtAbort, EarlyVerdict, Helo, Mail, NewConnection, Panic, Verdict,
    };
    for ending in [
        Verdict,
        EarlyVerdict,
        Abort,
        Helo,
        Mail,
        NewConnection,
        Deadline,
        Panic,
        DeadlineAtAbort,
    ] {
        let log = Log::default();
        let (mut mta, run) = start(Noting::service(&log, &all()));
        mta.negotiate().await;
        mta.ask(mail()).await;
        mta.ask(rcpt("<b@x>")).await;
        end(&mut mta, ending).await;
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        assert_eq!(mta.ask(header()).await, Reply::Continue);
        mta.end().await;
        mta.quit(run).await;

        let seen = log.all();
        assert_eq!(log.count("mail header"), 1, "{ending:?}: {seen:?}");
        let aborts = seen.iter().filter(|s| s.starts_with("abort")).count();
        // What panicked hears nothing more.
        let decided = matches!(ending, Verdict | EarlyVerdict | Panic);
        assert_eq!(aborts, usize::from(!decided), "{ending:?}: {seen:?}");
        let closes = 1 + usize::from(ending == NewConnection);
        assert_eq!(log.count("close"), closes, "{ending:?}: {seen:?}");
        let filters = 1 + usize::from(matches!(ending, NewConnection | Panic));
        assert_eq!(log.of(filters - 1).last().unwrap(), "close", "{ending:?}");
        assert!(log.of(filters).is_empty(), "{ending:?}: {seen:?}");
        assert_eq!(log.count("never"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_comes_back_from_a_call_that_took_too_long() {
    let log = Log::default();
    let (mut mta, run) = start(Noting::service(&log, &all()));
    mta.negotiate().await;
    mta.ask(mail()).await;
    end(&mut mta, Ending::Deadline).await;
    mta.ask(mail()).await;
    let (edits, _) = mta.end().await;
    let Some(Reply::Modify(edit)) = edits.first() else {
        panic!("{edits:?}");
    };
    // It is the same one, and remembers all its events: negotiate, mail, header, abort, end, mail.
    assert!(format!("{edit:?}").contains("\"7\""), "{edit:?}");
    mta.quit(run).await;
    assert!(log.of(1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_an_abort() {
    let log = Log::default();
    let (mut mta, run) = start(Noting::service(&log, &all()));
    mta.negotiate().await;
    mta.ask(mail()).await;
    drop(mta);
    assert!(ended(run).await.is_err());
    let expected = ["abort of mail", "ConnectionLost after 0", "close"];
    assert_eq!(log.all()[2..], expected);
}

#[tokio::test(start_paused = true)]
async fn each_connection_has_a_filter_of_its_own_and_the_prototype_has_none() {
    let log = Log::default();
    let service = Noting::service(&log, &all());
    for id in 0..2 {
        let (mut mta, run) = start(service.clone());
        mta.negotiate().await;
        mta.quit(run).await;
        assert_eq!(log.of(id), ["negotiate 6", "close"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_can_know_who_it_is_for() {
    struct At(Option<String>);

    impl Filter for At {
        type Message = ();

        fn needs(&self) -> Needs {
            Needs::none().event(Stage::Connect)
        }

        async fn connect(&mut self, _: &Connect, _: &Request) -> Answer {
            Ok(SmtpReply::reject(self.0.as_deref().unwrap_or("?")).into())
        }
    }

    let service = filter_with_peer(|peer: &Peer| At(peer.listener().map(str::to_owned)));
    let (mta, io) = tokio::io::duplex(1 << 16);
    let run = tokio::spawn(
        serve_connection(io, service)
            .listener("inside")
            .into_future(),
    );
    let mut mta = Mta::new(mta);
    let agreed = mta.negotiate().await;
    assert!(!agreed.steps.contains(Steps::NO_CONNECT), "it asked for it");
    let reply = mta.ask(connect()).await;
    assert_eq!(reply, Reply::Smtp(SmtpReply::reject("inside")));
    mta.quit(run).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_is_skipped_once_on_every_mta() {
    let log = Log::default();
    let (mut mta, run) = start(Noting::service(&log, &all()));
    mta.offer(OLD).await;
    for _ in 0..2 {
        mta.ask(mail()).await;
        for _ in 0..3 {
            assert_eq!(mta.ask(body("four")).await, Reply::Continue);
        }
        mta.end().await;
    }
    mta.quit(run).await;
    assert_eq!(log.count("body 4"), 2);
}

#[tokio::test(start_paused = true)]
async fn d6_a_panic_that_a_layer_hides_fails_the_rest() {
    let log = Log::default();
    let inner = Noting::service(&log, &all());
    let hides = tower::util::BoxCloneService::new(Hides(inner));
    let settings = Settings::new().call_timeout(Duration::from_secs(5));
    let (mut mta, run) = start_with(hides, settings);
    mta.negotiate().await;
    mta.ask(mail()).await;
    end(&mut mta, Ending::Panic).await;
    assert_eq!(mta.ask(mail()).await, Reply::TempFail);
    assert_eq!(mta.ask(connect()).await, Reply::TempFail);
    mta.send(unknown()).await;
    assert_eq!(mta.reply().await, Reply::TempFail);
    mta.quit(run).await;
    assert_eq!(log.of(0).last().unwrap(), "header Panic");
    assert_eq!(mta_ends(&log), 0);
}

fn mta_ends(log: &Log) -> usize {
    log.count("close") + log.count("abort of mail header")
}

/// Makes of a panic within an error, as a layer may.
#[derive(Clone)]
struct Hides<S>(S);

impl<S> tower::Service<Request> for Hides<S>
where
    S: tower::Service<Request, Response = Response, Error = BoxError, Future: Send + 'static>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = futures::future::BoxFuture<'static, Answer>;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        use futures::FutureExt;
        let call = std::panic::AssertUnwindSafe(self.0.call(request)).catch_unwind();
        Box::pin(call.map(|ended| ended.unwrap_or_else(|_| Err("hidden".into()))))
    }
}

/// What is written in the trait is what runs: this compiles as a user would write it.
#[tokio::test(start_paused = true)]
async fn a_filter_without_methods_lets_all_pass() {
    struct Nothing;

    impl Filter for Nothing {
        type Message = ();

        fn needs(&self) -> Needs {
            Needs::all()
        }
    }

    let (mut mta, run) = start(filter(|| Nothing));
    mta.greet().await;
    assert_eq!(mta.message().await, "McRcTcUcLcNcBcEc");
    mta.quit(run).await;
}
