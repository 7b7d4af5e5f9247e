//! A filter that has no descriptor left.

use std::process::Command;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use milter_core::{ClientAddr, Command as Milter, Connect, MtaCodec, Offer, Reply, Steps};
use milter_tests::address::Address;
use milter_tests::process::{Filter, program};
use milter_tests::wait::PATIENCE;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::codec::Framed;

/// More than the process needs for itself.
const DESCRIPTORS: usize = 30;

struct Mta(Framed<TcpStream, MtaCodec>);

impl Mta {
    async fn dial(address: &Address) -> Self {
        let Address::Tcp(port) = address else {
            panic!("no TCP address")
        };
        let stream = TcpStream::connect(("127.0.0.1", *port)).await.unwrap();
        Self(Framed::new(stream, MtaCodec::new()))
    }

    async fn ask(&mut self, command: Milter) -> Reply {
        self.0.send(command).await.unwrap();
        let reply = timeout(PATIENCE, self.0.next()).await;
        reply.expect("an answer").expect("no end").unwrap()
    }

    /// The answer at connect, or to the end of a message if there is none.
    async fn greet(&mut self) -> Reply {
        let Reply::Negotiate(agreed) = self.ask(Milter::Negotiate(Offer::V6)).await else {
            panic!("no agreement")
        };
        let silent = Steps::NO_CONNECT | Steps::NR_CONNECT;
        if agreed.steps.intersects(silent) {
            return self.message().await;
        }
        let client = Connect::new("localhost", ClientAddr::Unknown);
        self.ask(Milter::Connect(client)).await
    }

    async fn message(&mut self) -> Reply {
        let mut reply = self.ask(Milter::EndOfMessage(bytes::Bytes::new())).await;
        while let Reply::Modify(_) = reply {
            reply = self.0.next().await.unwrap().unwrap();
        }
        reply
    }
}

#[tokio::test]
async fn without_a_descriptor_left_it_says_so_to_the_mta_and_recovers() {
    let address = Address::free_tcp();
    let mut command = Command::new("sh");
    let limited = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" --listen {address}");
    command.args(["-c", &limited]).arg(program("hello"));
    let mut filter = Filter::start_command(&mut command, &address);

    let mut served = Vec::new();
    let turned_away = loop {
        let mut mta = Mta::dial(&address).await;
        match mta.greet().await {
            Reply::Accept => served.push(mta),
            other => break other,
        }
        assert!(served.len() < DESCRIPTORS, "the limit is not in force");
    };
    assert_eq!(turned_away, Reply::TempFail);
    assert!(
        served.len() > 4,
        "{} connections\n{}",
        served.len(),
        filter.output()
    );
    // One that says nothing does not keep the next one waiting for long.
    let silent = Mta::dial(&address).await;
    assert_eq!(Mta::dial(&address).await.greet().await, Reply::TempFail);
    drop(silent);
    for mta in &mut served {
        assert_eq!(
            mta.message().await,
            Reply::Accept,
            "the others do not notice"
        );
    }
    assert!(filter.output().contains("cannot accept a connection"));

    served.truncate(2);
    let recovered = async {
        while Mta::dial(&address).await.greet().await != Reply::Accept {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, recovered).await.expect("it serves again");
    assert!(filter.stop().unwrap().success());
}
