//! What every request carries (D2), and how long macros live (C27 to C34).

use std::sync::{Arc, Mutex};

use milter_core::{Command, Reply};
use milter_tower::{
    Event, MacroStage, Mta as Kind, Request, Response, Session, Settings, Text, Verdict,
};

use crate::common::{
    Mta, Run, Scripted, connect, eom, header, helo, macros as set, mail, name, rcpt, start,
    start_with,
};

type Snapshots = Arc<Mutex<Vec<(String, Session)>>>;

/// Keeps a snapshot of each event. Refuses recipients that begin with `no`.
fn keeping() -> (Scripted, Snapshots) {
    let kept = Snapshots::default();
    let keep = Arc::clone(&kept);
    let (service, _) = Scripted::new(move |request, _| {
        let entry = (name(request.event()), request.session().clone());
        keep.lock().unwrap().push(entry);
        match request.event() {
            Event::Rcpt(rcpt) if rcpt.mailbox().starts_with(b"no") => Response::reject().into(),
            _ => Response::proceed().into(),
        }
    });
    (service, kept)
}

/// The last snapshot of an event, from the n-th of its kind on.
fn at(kept: &Snapshots, event: &str, n: usize) -> Session {
    let kept = kept.lock().unwrap();
    let mut of = kept.iter().filter(|(name, _)| name == event);
    of.nth(n)
        .unwrap_or_else(|| panic!("no {event} {n}"))
        .1
        .clone()
}

fn text(text: Option<Text<'_>>) -> Option<String> {
    text.map(|text| text.to_string())
}

fn recipients(session: &Session) -> Vec<String> {
    let all = session.recipients().iter();
    all.map(|one| one.mailbox().to_string()).collect()
}

/// A session as Postfix tells it, as far as DATA.
async fn postfix() -> (Mta, Run, Snapshots) {
    let (service, kept) = keeping();
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    let version = [("v", "Postfix 3.7.11"), ("j", "mx.example"), ("_", "x")];
    mta.send(set(MacroStage::Connect, version)).await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    let tls = [
        ("{tls_version}", "TLSv1.3"),
        ("{cipher}", "AES"),
        ("{cipher_bits}", "256"),
    ];
    mta.send(set(MacroStage::Helo, tls)).await;
    assert_eq!(mta.ask(helo()).await, Reply::Continue);
    let auth = [("{auth_type}", "PLAIN"), ("{auth_authen}", "alice")];
    mta.send(set(MacroStage::Mail, auth)).await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    for (address, mailer) in [
        ("<b@example.net>", "smtp"),
        ("<no@example.net>", "smtp"),
        ("<gone@example.net>", "error"),
        ("<c@example.net>", "local"),
    ] {
        let macros = [
            ("i", "4XyZ"),
            ("{rcpt_mailer}", mailer),
            ("{rcpt_addr}", address),
        ];
        mta.send(set(MacroStage::Rcpt, macros)).await;
        mta.ask(rcpt(address)).await;
    }
    mta.send(set(MacroStage::Data, [("i", "4XyZ")])).await;
    assert_eq!(mta.ask(Command::Data).await, Reply::Continue);
    (mta, run, kept)
}

#[tokio::test(start_paused = true)]
async fn d2_each_event_sees_what_is_known_so_far() {
    let (mta, run, kept) = postfix().await;
    mta.quit(run).await;

    let negotiate = at(&kept, "negotiate", 0);
    assert!(negotiate.agreement().is_none() && negotiate.client().is_none());
    assert_eq!(negotiate.mta(), Kind::Unknown);

    let connect = at(&kept, "connect", 0);
    assert!(connect.agreement().is_some() && connect.helo().is_none());
    assert_eq!(connect.client_ip().unwrap().to_string(), "192.0.2.7");
    assert_eq!(connect.client().unwrap().host(), "client.example");
    assert_eq!(connect.mta(), Kind::Postfix);
    assert!(connect.tls().is_none());

    let helo = at(&kept, "helo", 0);
    assert_eq!(helo.helo().unwrap(), "client.example");
    let tls = helo.tls().unwrap();
    assert_eq!(
        (tls.version.as_bytes(), tls.cipher_bits),
        (&b"TLSv1.3"[..], Some(256))
    );
    assert!(helo.auth().is_none() && helo.sender().is_none());

    let mail = at(&kept, "mail", 0);
    assert_eq!(mail.auth().unwrap().user.unwrap(), "alice");
    let sender = mail.sender().unwrap();
    assert_eq!(sender.mailbox(), "a@example.org");
    assert_eq!(sender.args().size(), Some(7));
    assert!(mail.queue_id().is_none(), "Postfix has none yet (Q23)");

    assert!(recipients(&at(&kept, "rcpt", 0)).is_empty());
    assert_eq!(recipients(&at(&kept, "rcpt", 1)), ["b@example.net"]);
    let data = at(&kept, "data", 0);
    assert_eq!(recipients(&data), ["b@example.net", "c@example.net"]);
    assert_eq!(text(data.queue_id()).unwrap(), "4XyZ");

    let end = at(&kept, "end: aborted", 0);
    assert_eq!(end.sender().unwrap().mailbox(), "a@example.org");
    let close = at(&kept, "close", 0);
    assert!(close.sender().is_none() && close.recipients().is_empty());
    assert!(close.client().is_some());
}

#[tokio::test(start_paused = true)]
async fn c34_each_recipient_sees_its_own_macros() {
    let (mta, run, kept) = postfix().await;
    mta.quit(run).await;
    for (n, address) in ["<b@example.net>", "<no@example.net>"].iter().enumerate() {
        let session = at(&kept, "rcpt", n);
        let found = session.macros().get("{rcpt_addr}").unwrap();
        assert_eq!(found, *address);
    }
}

#[tokio::test(start_paused = true)]
async fn c31_c33_a_recipient_forgets_what_came_with_others_and_after_them() {
    let (mut mta, run, kept) = postfix().await;
    // DATA was told {i}; this recipient is told nothing.
    assert_eq!(mta.ask(rcpt("<d@example.net>")).await, Reply::Continue);
    mta.quit(run).await;
    let session = at(&kept, "rcpt", 4);
    assert!(session.macros().get("{rcpt_addr}").is_none());
    assert!(session.queue_id().is_none());
    assert!(session.auth().is_some());
}

#[tokio::test(start_paused = true)]
async fn c31_c32_c57_macros_over_messages() {
    let (mut mta, run, kept) = postfix().await;
    assert_eq!(mta.ask(header()).await, Reply::Continue);
    mta.send(set(MacroStage::EndOfMessage, [("{msg_id}", "<1@x>")]))
        .await;
    assert_eq!(mta.ask(eom()).await, Reply::Continue);
    mta.send(Command::Abort).await;
    // Without authentication this time.
    mta.send(set(MacroStage::Mail, [("{mail_host}", "h")]))
        .await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.quit(run).await;

    assert_eq!(
        text(at(&kept, "end of message", 0).macros().get("msg_id")).unwrap(),
        "<1@x>"
    );
    let next = at(&kept, "mail", 1);
    assert_eq!(text(next.macros().get("mail_host")).unwrap(), "h");
    assert!(next.auth().is_none() && next.queue_id().is_none());
    assert!(next.macros().get("{msg_id}").is_none() && next.macros().get("rcpt_addr").is_none());
    assert!(next.recipients().is_empty());
    // What belongs to the connection stays.
    assert_eq!(next.tls().unwrap().version, "TLSv1.3");
    assert_eq!(text(next.macros().get("j")).unwrap(), "mx.example");
    assert_eq!(next.mta(), Kind::Postfix);
    assert_eq!(next.helo().unwrap(), "client.example");
}

#[tokio::test(start_paused = true)]
async fn c27_c28_c33_macros_get_no_reply_in_any_state() {
    let (service, kept) = keeping();
    let (mut mta, run) = start(service);
    mta.send_raw(b"\0\0\0\x02DC").await;
    mta.negotiate().await;
    for payload in [
        &b"\0\0\0\x02DC"[..],
        b"\0\0\0\x02DL",
        b"\0\0\0\x02D?",
        b"\0\0\0\x04DCi\0",
        b"\0\0\0\x06DCi\x001\0",
        b"\0\0\0\x06DLi\x002\0",
        b"\0\0\0\x06DBi\x003\0",
        b"\0\0\0\x06DUi\x004\0",
        // For a recipient that does not come.
        b"\0\0\0\x06DRi\x005\0",
    ] {
        mta.send_raw(payload).await;
    }
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    mta.send_raw(b"\0\0\0\x02DE").await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    mta.send_raw(b"\0\0\0\x06DRi\x005\0").await;
    assert_eq!(mta.ask(Command::Data).await, Reply::Continue);
    mta.quit(run).await;
    assert_eq!(text(at(&kept, "connect", 0).queue_id()).unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn c45_c57_a_new_session_on_the_connection_forgets_the_old_one() {
    let (mut mta, run, kept) = postfix().await;
    mta.send(Command::QuitNewConnection).await;
    assert_eq!(mta.ask(connect()).await, Reply::Continue);
    mta.quit(run).await;
    let end = at(&kept, "session end", 0);
    assert!(end.client().is_some() && end.sender().is_none());
    let next = at(&kept, "connect", 1);
    assert!(next.helo().is_none() && next.tls().is_none() && next.queue_id().is_none());
    assert_eq!(next.mta(), Kind::Postfix, "the other end is the same");
    assert!(next.client().is_some());
}

#[tokio::test(start_paused = true)]
async fn d2_the_kind_of_the_mta() {
    for (setting, version, kind) in [
        (None, "8.17.1.9", Kind::Sendmail),
        (None, "Postfix 3.7.11", Kind::Postfix),
        (None, "KumoMTA", Kind::Unknown),
        (Some(Kind::Postfix), "8.17.1.9", Kind::Postfix),
        (Some(Kind::Sendmail), "Postfix 3.7.11", Kind::Sendmail),
    ] {
        let (service, kept) = keeping();
        let mut settings = Settings::new();
        if let Some(kind) = setting {
            settings = settings.mta(kind);
        }
        let (mut mta, run) = start_with(service, settings);
        mta.negotiate().await;
        mta.send(set(MacroStage::Connect, [("{v}", version)])).await;
        assert_eq!(mta.ask(connect()).await, Reply::Continue);
        mta.quit(run).await;
        assert_eq!(at(&kept, "connect", 0).mta(), kind);
    }
}

#[tokio::test(start_paused = true)]
async fn d2_values_of_the_connection_the_message_and_the_request() {
    #[derive(Clone, Default)]
    struct Events(usize);
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let (service, _) = Scripted::new(move |request: &Request, _| {
        let mut own = request.clone();
        assert!(own.extensions().get::<u8>().is_none(), "by value");
        own.extensions_mut().insert(1_u8);
        assert!(request.extensions().get::<u8>().is_none());
        let count = |events: &mut Events| {
            events.0 += 1;
            events.0
        };
        let session = own.session();
        let all = session.connection_data().with_default(count);
        let of_message = session.message_data().with_default(count);
        let entry = format!("{} {all} {of_message}", name(request.event()));
        keep.lock().unwrap().push(entry);
        Response::proceed().into()
    });
    let (mut mta, run) = start(service);
    mta.negotiate().await;
    for _ in 0..2 {
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        assert_eq!(mta.ask(eom()).await, Reply::Continue);
    }
    mta.quit(run).await;
    let seen = kept.lock().unwrap();
    assert_eq!(
        seen[seen.len() - 4..],
        [
            "mail 5 1",
            "end of message 6 2",
            "end: accept 7 3",
            "close 8 1"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn d2_a_refused_or_discarded_recipient_is_none() {
    for (verdict, known) in [
        (Verdict::Continue, 1),
        (Verdict::Reject, 0),
        (Verdict::TempFail, 0),
    ] {
        let kept = Arc::new(Mutex::new(None));
        let keep = Arc::clone(&kept);
        let (service, _) = Scripted::new(move |request, _| match request.event() {
            Event::Rcpt(_) => Response::from(verdict.clone()).into(),
            Event::Data => {
                *keep.lock().unwrap() = Some(request.session().recipients().len());
                Response::proceed().into()
            }
            _ => Response::proceed().into(),
        });
        let (mut mta, run) = start(service);
        mta.greet().await;
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        mta.ask(rcpt("<b@example.net>")).await;
        assert_eq!(mta.ask(Command::Data).await, Reply::Continue);
        mta.quit(run).await;
        assert_eq!(*kept.lock().unwrap(), Some(known));
    }
}
