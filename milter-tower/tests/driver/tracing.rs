//! What the log shows: a span a connection, one a message, and nothing for a port probe.

use milter_core::Reply;
use milter_tower::{Address, Event, MacroStage, Response, serve};

use crate::common::{Act, Scripted, eom, listen, macros, mail, proceeding, rcpt, start};

#[tokio::test(start_paused = true)]
async fn a_span_for_the_connection_and_for_each_message() {
    let (lines, _guard) = listen();
    let (mut mta, run) = start(proceeding().0);
    mta.greet().await;
    for id in ["4XyZ", "5AbC"] {
        assert_eq!(mta.ask(mail()).await, Reply::Continue);
        mta.send(macros(MacroStage::Rcpt, [("i", id)])).await;
        assert_eq!(mta.ask(rcpt("<b@x>")).await, Reply::Continue);
        assert_eq!(mta.ask(eom()).await, Reply::Continue);
    }
    mta.quit(run).await;
    assert_eq!(lines.count("new milter connection="), 1);
    assert_eq!(lines.count("new message client=192.0.2.7"), 2);
    assert_eq!(lines.count("record message queue_id=4XyZ"), 1);
    assert_eq!(lines.count("record message queue_id=5AbC"), 1);
}

#[tokio::test(start_paused = true)]
async fn d6_a_failure_is_logged_with_connection_and_queue_id() {
    let (lines, _guard) = listen();
    let (service, _) = Scripted::new(|request, _| match request.event() {
        Event::EndOfMessage(_) => Act::Fail,
        _ => Response::proceed().into(),
    });
    let (mut mta, run) = start(service);
    mta.greet().await;
    mta.send(macros(MacroStage::Mail, [("i", "4XyZ")])).await;
    assert_eq!(mta.ask(mail()).await, Reply::Continue);
    assert_eq!(mta.ask(eom()).await, Reply::TempFail);
    mta.quit(run).await;
    let warned: Vec<_> = lines.above_debug();
    let line = warned
        .iter()
        .find(|line| line.contains("the filter failed"));
    let line = line.unwrap_or_else(|| panic!("{warned:?}"));
    assert!(
        line.contains("connection=") && line.contains("queue_id=4XyZ"),
        "{line}"
    );
}

#[tokio::test]
async fn port_probes_are_quiet() {
    let (lines, _guard) = listen();
    let listener = Address::inet("127.0.0.1", 0).bind().await.unwrap();
    let Address::Inet { port, .. } = listener.address() else {
        panic!()
    };
    let (probed, done) = tokio::sync::oneshot::channel::<()>();
    let server = serve(listener, proceeding().0).with_graceful_shutdown(async {
        drop(done.await);
    });
    let server = tokio::spawn(server.into_future());
    for resets in [false, true] {
        let probe = tokio::net::TcpStream::connect(("127.0.0.1", port))
            .await
            .unwrap();
        if resets {
            // As load balancers do: a reset instead of an orderly end.
            probe.set_zero_linger().unwrap();
        }
        drop(probe);
    }
    let closed = async {
        while lines.count("connection closed") + lines.count("connection ended") < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), closed)
        .await
        .unwrap();
    assert_eq!(lines.above_debug(), Vec::<String>::new());
    drop(probed);
    server.await.unwrap().unwrap();
}
