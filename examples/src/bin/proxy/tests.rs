use milter_tower::testing::{Mail, MockMta, MtaProfile};
use milter_tower::{Event, MacroStage, Needs, SmtpReply, Stage, assert_accepted, assert_refused};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tower::service_fn;

use super::*;

/// A milter that adds a header; its address.
async fn milter() -> Address {
    let listener = "inet:0@127.0.0.1".parse::<Address>().unwrap();
    let listener = listener.bind().await.unwrap();
    let address = listener.address();
    let filter = service_fn(async |request: Request| {
        Ok::<_, BoxError>(match request.event() {
            Event::EndOfMessage(_) => Response::accept().add_header("X-Elsewhere", "yes"),
            _ => Response::proceed(),
        })
    });
    tokio::spawn(async move { serve(listener, filter).await });
    address
}

/// An address at which nobody listens.
async fn nobody() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().into()
}

fn args(to: &[Address], more: &[&str]) -> Args {
    let to = to.iter().flat_map(|to| ["--to".to_owned(), to.to_string()]);
    let given = ["proxy".to_owned()].into_iter().chain(to);
    Args::parse_from(given.chain(more.iter().map(|one| (*one).to_owned())))
}

/// A proxy in this process; where it listens, and the folder that is in.
async fn proxy(to: &[Address], more: &[&str]) -> (Address, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let listen = format!("unix:{}", path.display());
    let args = args(to, &[more, &["--listen", &listen]].concat());
    tokio::spawn(async move { run(args).await.map_err(|error| error.to_string()) });
    let listening = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), listening).await;
    waited.expect("the proxy listens");
    (Address::unix(path), folder)
}

#[tokio::test]
async fn mail_goes_through_the_milter_elsewhere() {
    let (one, two, down) = (milter().await, milter().await, nobody().await);
    for to in [vec![one.clone()], vec![down, one, two]] {
        let (address, _folder) = proxy(&to, &[]).await;
        let profile = MtaProfile::postfix();
        let mut mta = MockMta::connect(profile, address);
        for _ in 0..5 {
            let done = mta.deliver(Mail::new()).await;
            assert_accepted!(done);
            let seen = done.message.headers().get_str("X-Elsewhere");
            assert_eq!(seen, Some("yes"), "{done}");
        }
    }
}

#[tokio::test]
async fn what_becomes_of_mail_is_a_setting() {
    let down = nobody().await;
    for (setting, code) in [("tempfail", 451), ("reject", 550)] {
        let (address, _folder) =
            proxy(std::slice::from_ref(&down), &["--on-failure", setting]).await;
        let profile = MtaProfile::sendmail();
        let done = MockMta::connect(profile, address)
            .deliver(Mail::new())
            .await;
        assert_refused!(done, code);
    }
    let (address, _folder) = proxy(&[down], &["--on-failure", "accept"]).await;
    let profile = MtaProfile::postfix();
    assert_accepted!(
        MockMta::connect(profile, address)
            .deliver(Mail::new())
            .await
    );
}

/// A milter that takes more time than Sendmail bears, and has the MTA not say what it is.
#[tokio::test(start_paused = true)]
async fn a_slow_milter_behind_postfix() {
    let listener = "inet:0@127.0.0.1".parse::<Address>().unwrap();
    let listener = listener.bind().await.unwrap();
    let address = listener.address();
    let filter = service_fn(async |request: Request| {
        Ok::<_, BoxError>(match request.event() {
            Event::Negotiate(_) => {
                let needs = Needs::none().event(Stage::Rcpt);
                needs.macros_exact(MacroStage::Connect, ["j"]).into()
            }
            Event::Rcpt(_) => {
                tokio::time::sleep(Duration::from_secs(12)).await;
                Response::proceed()
            }
            _ => Response::proceed(),
        })
    });
    let patient = Settings::new().mta(Mta::Postfix);
    tokio::spawn(async move { serve(listener, filter).settings(patient).await });
    for (more, code) in [(&[][..], Some(451)), (&["--mta", "postfix"], None)] {
        let (proxy, _folder) = proxy(std::slice::from_ref(&address), more).await;
        let mut mta = MockMta::connect(MtaProfile::postfix(), proxy);
        let done = mta.deliver(Mail::new()).await;
        assert_eq!(done.reply().map(SmtpReply::code), code, "{more:?}: {done}");
    }
}

#[test]
fn the_command_line() {
    assert!(Args::try_parse_from(["proxy"]).is_err(), "nowhere to go");
    for wrong in ["0", "-1", "soon"] {
        let given = ["proxy", "--to", "inet:1@127.0.0.1", "--timeout", wrong];
        assert!(Args::try_parse_from(given).is_err(), "{wrong}");
    }
    let given = args(
        &[Address::inet("127.0.0.1", 1)],
        &["--connect-timeout", "2"],
    );
    assert_eq!(given.connect_timeout, Duration::from_secs(2));
    assert_eq!(given.on_failure, Failing::Tempfail);
}
