//! Several backends of one job.

use std::convert::Infallible;
use std::time::Duration;

use milter_tower::remote::CircuitBreakerLayer;
use milter_tower::testing::{Mail, MockMta};
use milter_tower::{Address, Event, RemotePool, Request, Response, serve};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tower::service_fn;

/// A filter that says where it is, at a port of its own.
struct Server {
    address: Address,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = "inet:0@127.0.0.1".parse::<Address>().unwrap();
        let listener = listener.bind().await.unwrap();
        let address = listener.address();
        let name = address.to_string();
        let filter = service_fn(move |request: Request| {
            let name = name.clone();
            async move {
                Ok::<_, Infallible>(match request.event() {
                    Event::EndOfMessage(_) => Response::accept().add_header("X-At", name),
                    _ => Response::proceed(),
                })
            }
        });
        let (stop, stopped) = oneshot::channel();
        let server = serve(listener, filter).with_graceful_shutdown(async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(async move {
            server.await.expect("a good end");
        });
        Self {
            address,
            stop,
            task,
        }
    }

    async fn stop(self) {
        self.stop.send(()).expect("it runs");
        let stopped = timeout(Duration::from_secs(10), self.task).await;
        stopped.expect("it stops").expect("without a panic");
    }
}

/// A port at which nobody listens.
async fn nobody() -> Address {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().into()
}

fn counts(pool: &RemotePool) -> Vec<usize> {
    pool.sessions().map(|(_, sessions)| sessions).collect()
}

#[tokio::test]
async fn sessions_go_to_the_one_with_fewer() {
    let (one, two, three) = (
        Server::start().await,
        Server::start().await,
        Server::start().await,
    );
    let pool = RemotePool::new([
        one.address.clone(),
        two.address.clone(),
        three.address.clone(),
    ]);
    let mut mta = MockMta::postfix(pool.clone());
    let mut sessions = Vec::new();
    for _ in 0..60 {
        sessions.push(mta.open().await);
    }
    let open = counts(&pool);
    assert_eq!(open.iter().sum::<usize>(), 60);
    // By chance alone it would hardly be so even.
    assert!(
        open.iter().all(|count| (15..=25).contains(count)),
        "{open:?}"
    );
    for session in sessions {
        session.quit().await;
    }
    assert_eq!(counts(&pool), [0, 0, 0]);
    for server in [one, two, three] {
        server.stop().await;
    }
}

#[tokio::test]
async fn another_address_is_tried_and_the_dead_one_left_alone() {
    let (dead, live) = (nobody().await, Server::start().await);
    let circuit = CircuitBreakerLayer::new().failures(2);
    let pool = RemotePool::new([dead.clone(), live.address.clone()]).circuit_breaker(circuit);
    let mut mta = MockMta::postfix(pool.clone());
    for _ in 0..20 {
        let done = mta.deliver(Mail::new()).await;
        assert!(done.is_accepted() && done.failures.is_empty(), "{done}");
        let at = done.message.headers().get_str("X-At").map(str::to_owned);
        assert_eq!(at, Some(live.address.to_string()));
    }
    let was = live.address.to_string();
    live.stop().await;
    let done = mta.deliver(Mail::new()).await;
    assert_eq!(done.reply().unwrap().code(), 451, "{done}");
    let told = &done.failures[0];
    let dead = format!("{dead} is not tried for another");
    assert!(told.contains(&dead) && told.contains(&was), "{told}");
    assert_eq!(counts(&pool), [0, 0]);
}

#[tokio::test]
async fn a_backend_that_is_lost_between_messages_gives_way_to_another() {
    let (one, two) = (Server::start().await, Server::start().await);
    let pool = RemotePool::new([one.address.clone(), two.address.clone()]);
    let mut mta = MockMta::postfix(pool.clone());
    let mut session = mta.open().await;
    let at = |done: &milter_tower::testing::Delivery| {
        done.message.headers().get_str("X-At").map(str::to_owned)
    };
    let first = at(&session.deliver(Mail::new()).await).unwrap();
    let (lost, stays) = if first == one.address.to_string() {
        (one, two)
    } else {
        (two, one)
    };
    lost.stop().await;
    let done = session.deliver(Mail::new()).await;
    assert!(done.failures.is_empty(), "{done}");
    assert_eq!(at(&done), Some(stays.address.to_string()), "{done}");
    session.quit().await;
    stays.stop().await;
}

/// One that accepts connections and says nothing takes only its part of the time.
#[tokio::test]
async fn a_backend_that_hangs_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs: Address = listener.local_addr().unwrap().into();
    let live = Server::start().await;
    let circuit = CircuitBreakerLayer::new().failures(1);
    let pool = RemotePool::new([hangs, live.address.clone()])
        .circuit_breaker(circuit)
        .connect_timeout(Duration::from_millis(600));
    let mut mta = MockMta::postfix(pool);
    // Which one is first is chance.
    for _ in 0..12 {
        let done = mta.deliver(Mail::new()).await;
        assert!(done.is_accepted(), "{done}");
    }
    live.stop().await;
}

/// The time of the last one that is left ends when the session's does: that it hangs is taken note
/// of all the same.
#[tokio::test]
async fn the_only_backend_hangs_and_is_left_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs: Address = listener.local_addr().unwrap().into();
    let circuit = CircuitBreakerLayer::new().failures(1);
    let pool = RemotePool::new([hangs])
        .circuit_breaker(circuit)
        .connect_timeout(Duration::from_millis(50));
    let mut mta = MockMta::postfix(pool);
    for text in ["did not answer in time", "is not tried for another"] {
        let done = mta.deliver(Mail::new()).await;
        assert_eq!(done.reply().unwrap().code(), 451, "{done}");
        assert!(done.failures[0].contains(text), "{done}");
    }
}

#[tokio::test]
async fn a_pool_without_addresses() {
    let mut mta = MockMta::postfix(RemotePool::new([]));
    let done = mta.deliver(Mail::new()).await;
    assert_eq!(done.reply().unwrap().code(), 451, "{done}");
    assert!(done.failures[0].contains("no addresses"), "{done}");
}
