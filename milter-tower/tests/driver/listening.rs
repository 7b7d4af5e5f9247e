//! Where and how servers listen.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::time::Duration;

use milter_tower::{Address, Event, ListenOptions, Listener, Listeners, Response, serve};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::serving::{dial, stopped};
use crate::common::Scripted;

#[tokio::test]
async fn a_unix_socket_has_the_mode_and_the_group_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    // A group that this process may give: its own, or if it is root's any other.
    let own = std::fs::metadata(dir.path()).unwrap().gid();
    let group = if own == 0 { 1 } else { own };
    for mode in [0o600, 0o660, 0o666] {
        let options = ListenOptions::new().mode(mode).group(group.to_string());
        let listener = options.bind(&Address::unix(&path)).await.unwrap();
        let found = std::fs::symlink_metadata(&path).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o7777, mode);
        assert_eq!(found.gid(), group);
        drop(listener);
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn an_unknown_group_is_an_error_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let options = ListenOptions::new().group("no-such-group-here");
    let error = options.bind(&Address::unix(&path)).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("no group \"no-such-group-here\""),
        "{error}"
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_cannot_be_set_up_is_removed() {
    // Only root may give a socket to any group.
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let options = ListenOptions::new().group("0");
    assert!(options.bind(&Address::unix(&path)).await.is_err());
    assert!(!path.exists());
}

#[tokio::test]
async fn several_listeners_serve_one_filter_and_it_knows_which() {
    let dir = tempfile::tempdir().unwrap();
    let tcp = Address::inet("127.0.0.1", 0);
    let unix = Address::unix(dir.path().join("s"));
    for threads in [false, true] {
        let listeners = Listeners::new()
            .with(tcp.bind().await.unwrap().named("internal"))
            .with(unix.bind().await.unwrap());
        let addresses: Vec<_> = listeners.addresses().collect();
        let (service, log) = Scripted::new(|request, _| {
            let listener = request.session().peer().listener().unwrap_or("none");
            if let Event::EndOfMessage(_) = request.event() {
                return Response::accept().add_header("X-Listener", listener).into();
            }
            Response::proceed().into()
        });
        let server = serve(listeners, service);
        let handle = server.handle();
        let server = if threads {
            tokio::spawn(server.threads(2.try_into().unwrap()).into_future())
        } else {
            tokio::spawn(server.into_future())
        };
        let names = ["internal".to_owned(), unix.to_string()];
        for (address, name) in addresses.iter().zip(names) {
            let mut mta = dial(address).await;
            mta.greet().await;
            mta.send(crate::common::mail()).await;
            mta.reply().await;
            let (edits, _) = mta.end().await;
            assert!(format!("{edits:?}").contains(&name), "{edits:?}");
        }
        handle.shutdown();
        assert_eq!(stopped(server).await.accepted, 2);
        assert_eq!(log.count("close"), 2);
    }
}

#[test]
fn of_several_that_find_a_stale_socket_one_gets_it() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..200 {
        let address = Address::unix(dir.path().join(format!("s{round}")));
        let Address::Unix(path) = &address else {
            unreachable!()
        };
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let address = address.clone();
                std::thread::spawn(move || {
                    let mut runtime = tokio::runtime::Builder::new_current_thread();
                    let runtime = runtime.enable_all().build().unwrap();
                    let options = ListenOptions::new().mode(0o600);
                    // Kept until all have tried.
                    let bound = runtime.block_on(options.bind(&address));
                    bound.map(|listener| (listener, runtime))
                })
            })
            .collect();
        let ended: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        assert_eq!(ended.iter().filter(|bound| bound.is_ok()).count(), 1);
    }
}

#[tokio::test]
async fn a_socket_whose_queue_is_full_is_no_stale_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let live = tokio::net::UnixSocket::new_stream().unwrap();
    live.bind(&path).unwrap();
    let _live = live.listen(0).unwrap();
    let _waiting = UnixStream::connect(&path).await.unwrap();
    let address = Address::unix(&path);
    let bound = timeout(Duration::from_secs(5), address.bind());
    let error = bound.await.expect("it does not wait").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(path.exists());
}

#[tokio::test]
async fn a_socket_that_somebody_else_put_there_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = Address::unix(&path).bind().await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
}

#[tokio::test]
async fn no_listener_waits_for_a_busier_one() {
    let busy = Address::inet("127.0.0.1", 0).bind().await.unwrap();
    let quiet = Address::inet("127.0.0.1", 0).bind().await.unwrap();
    let addresses = [busy.address(), quiet.address()];
    // All are there before anybody is asked for.
    let mut waiting = Vec::new();
    for address in [0, 0, 0, 0, 1] {
        waiting.push(dial(&addresses[address]).await);
    }
    let mut listeners: Listeners = [busy.named("busy"), quiet.named("quiet")]
        .into_iter()
        .collect();
    let mut names = Vec::new();
    for _ in 0..3 {
        let accepted = listeners.accept().await.unwrap();
        names.push(accepted.listener.unwrap());
    }
    assert!(names.iter().any(|name| &**name == "quiet"), "{names:?}");
}
