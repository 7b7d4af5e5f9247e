//! Filters that this process serves.

use std::thread;

use milter_tests::address::Address;
use milter_tower::{Address as Listening, BoxError, Request, Response, serve};
use tokio::runtime::Runtime;
use tower::Service;

/// A server of this process. It is stopped when this is dropped.
pub(crate) struct Serving {
    address: Address,
    shut_down: Box<dyn Fn()>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Serving {
    /// Serves a filter at a port that is free.
    pub(crate) fn start<S>(filter: S) -> Self
    where
        S: Service<Request, Response = Response, Future: Send> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
    {
        let runtime = Runtime::new().unwrap();
        let any = Listening::inet("127.0.0.1", 0);
        let listener = runtime.block_on(any.bind()).unwrap();
        let Listening::Inet { port, .. } = listener.address() else {
            panic!("not a port: {}", listener.address());
        };
        let server = serve(listener, filter);
        let handle = server.handle();
        let serving = thread::spawn(move || {
            runtime.block_on(server.into_future()).unwrap();
        });
        Self {
            address: Address::Tcp(port),
            shut_down: Box::new(move || handle.shutdown()),
            thread: Some(serving),
        }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        (self.shut_down)();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
