//! `/metrics`, `/healthz` and `/readyz`, by as much HTTP as Prometheus, load balancers and curl speak.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use milter_middleware::metrics::record_stats;
use milter_tower::Stats;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

/// So many ask at the same time, the next ones wait.
const MOST: usize = 16;
/// The longest head of a request.
const MAX_HEAD: usize = 8 * 1024;
/// How long one may take to ask and to read.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be asked for.
pub(crate) struct Status {
    pub(crate) metrics: PrometheusHandle,
    /// True while mail is taken: until it is to stop.
    pub(crate) is_ready: Arc<AtomicBool>,
    /// What the server counted.
    pub(crate) stats: Box<dyn Fn() -> Stats + Send + Sync>,
}

impl Status {
    /// Answers whoever connects, for ever.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let status = Arc::new(self);
        let places = Arc::new(Semaphore::new(MOST));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let status = Arc::clone(&status);
                    tokio::spawn(async move {
                        match timeout(PATIENCE, status.answer(stream)).await {
                            Ok(Ok(())) => {}
                            Ok(Err(error)) => debug!(%error, "a status was not told"),
                            Err(_) => debug!("a status was not told in time"),
                        }
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "nobody can ask for the status");
                    // No more descriptors, say: those that end make place.
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        let head = read_head(&mut stream).await?;
        let answer = self.answer_to(&head);
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }

    /// The answer to a request, of which the first line counts.
    fn answer_to(&self, head: &[u8]) -> String {
        let line = head.split(|&byte| byte == b'\r' || byte == b'\n').next();
        let line = String::from_utf8_lossy(line.unwrap_or_default());
        let mut words = line.split(' ');
        let (method, target) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        if !words
            .next()
            .is_some_and(|version| version.starts_with("HTTP/1."))
        {
            return answer("400 Bad Request", "not HTTP/1\n", true);
        }
        let with_body = match method {
            "GET" => true,
            "HEAD" => false,
            _ => {
                return answer(
                    "405 Method Not Allowed\r\nAllow: GET, HEAD",
                    "GET or HEAD\n",
                    true,
                );
            }
        };
        match target.split('?').next().unwrap_or_default() {
            "/metrics" => {
                record_stats((self.stats)());
                answer("200 OK", &self.metrics.render(), with_body)
            }
            "/healthz" => answer("200 OK", "ok\n", with_body),
            "/readyz" if self.is_ready.load(Ordering::Relaxed) => {
                answer("200 OK", "ready\n", with_body)
            }
            "/readyz" => answer("503 Service Unavailable", "not ready\n", with_body),
            _ => answer(
                "404 Not Found",
                "/metrics, /healthz or /readyz\n",
                with_body,
            ),
        }
    }
}

/// Reads a request up to its empty line. A body, which none of ours has, is not read.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(1024);
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() >= MAX_HEAD {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too long a head",
            ));
        }
        if stream.read_buf(&mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(head)
}

/// The content type is that of Prometheus's text format, which is plain text to others.
fn answer(status: &str, body: &str, with_body: bool) -> String {
    let head = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
         Content-Length: {}\r\n\
         Cache-Control: no-store\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    if with_body { head + body } else { head }
}
