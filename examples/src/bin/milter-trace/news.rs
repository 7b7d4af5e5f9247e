//! What happens, on its way to be shown and recorded.

use std::time::{Duration, Instant};

use milter_tower::PeerAddr;
use milter_tower::testing::recording::{Entry, Said, Side};
use tokio::sync::mpsc::Sender;

/// Something that happened on a connection.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) connection: u64,
    /// Since the start.
    pub(crate) time: Duration,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Opened(PeerAddr),
    Said(Side, Said),
    /// Something that is no news from one of the sides.
    Trouble(String),
    Closed,
}

impl From<Entry> for News {
    fn from(entry: Entry) -> Self {
        Self {
            connection: entry.connection,
            time: entry.time,
            what: What::Said(entry.from, entry.said),
        }
    }
}

impl News {
    /// What a recording has of it.
    pub(crate) fn to_entry(&self) -> Option<Entry> {
        let What::Said(from, said) = &self.what else {
            return None;
        };
        Some(Entry::new(self.connection, self.time, *from, said.clone()))
    }
}

/// Tells the news of a connection.
pub(crate) struct Teller {
    connection: u64,
    start: Instant,
    news: Sender<News>,
}

impl Teller {
    pub(crate) fn new(connection: u64, start: Instant, news: Sender<News>) -> Self {
        Self {
            connection,
            start,
            news,
        }
    }

    /// Tells what happens now.
    pub(crate) async fn tell(&self, what: What) {
        self.tell_at(self.time(), what).await;
    }

    /// Tells what happened at this time since the start.
    pub(crate) async fn tell_at(&self, time: Duration, what: What) {
        let connection = self.connection;
        let news = News {
            connection,
            time,
            what,
        };
        // Where nobody listens any more, passing on is still to be done.
        let _ = self.news.send(news).await;
    }

    /// The time since the start, in the microseconds that a recording keeps: so what is shown of it
    /// is the same later.
    pub(crate) fn time(&self) -> Duration {
        let time = self.start.elapsed();
        Duration::new(time.as_secs(), time.subsec_micros() * 1000)
    }
}
