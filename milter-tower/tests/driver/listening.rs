//! Where and how servers listen.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use milter_tower::{Address, Event, ListenOptions, Listeners, Response, serve};

use super::serving::{dial, stopped};
use crate::common::Scripted;

#[tokio::test]
async fn a_unix_socket_has_the_mode_and_the_group_that_were_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    // A group that this process may give: its own.
    let group = std::fs::metadata(dir.path()).unwrap().gid();
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
