//! The server that is attacked, as a process of its own so that its memory can be measured.

use std::time::Duration;

use clap::Args;
use milter_tower::{Address, BoxError, Settings, serve};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::filter::Summing;

/// A method of [`Settings`].
type Setter = fn(Settings, Duration) -> Settings;

/// How the server is set up; what is left out is as the library has it.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where to listen; may be given several times
    #[arg(long, required = true)]
    listen: Vec<Address>,
    /// How long a client may take to negotiate, in milliseconds
    #[arg(long)]
    handshake_timeout: Option<u64>,
    /// How long a frame may take to come whole, in milliseconds
    #[arg(long)]
    frame_timeout: Option<u64>,
    /// How long a client may take to read a reply, in milliseconds
    #[arg(long)]
    write_timeout: Option<u64>,
    /// How long a connection may be silent, in milliseconds
    #[arg(long)]
    idle_timeout: Option<u64>,
    /// How long the filter may take, also at the end of the message, in milliseconds
    #[arg(long)]
    call_timeout: Option<u64>,
}

impl Options {
    fn settings(&self) -> Settings {
        let times: [(Option<u64>, Setter); 6] = [
            (self.handshake_timeout, Settings::handshake_timeout),
            (self.frame_timeout, Settings::frame_timeout),
            (self.write_timeout, Settings::write_timeout),
            (self.idle_timeout, Settings::idle_timeout),
            (self.call_timeout, Settings::call_timeout),
            (self.call_timeout, Settings::end_of_message_timeout),
        ];
        let given = times.into_iter().filter_map(|(ms, set)| Some((ms?, set)));
        given.fold(Settings::new(), |settings, (ms, set)| {
            set(settings, Duration::from_millis(ms))
        })
    }
}

/// Serves until SIGTERM.
#[tokio::main]
pub(crate) async fn run(options: &Options) -> Result<(), BoxError> {
    // What is ordered need not be told; an hour of it would fill the disk.
    std::panic::set_hook(Box::new(|_| {}));
    // Before it listens: whoever sees it listen may count descriptors and send signals.
    let mut ended = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(());
    let mut servers = tokio::task::JoinSet::new();
    for address in &options.listen {
        let mut stopped = stopped.clone();
        let server = serve(address.clone().bind().await?, Summing::default())
            .settings(options.settings())
            .grace_period(Duration::from_secs(1))
            .with_graceful_shutdown(async move {
                let _ = stopped.changed().await;
            });
        servers.spawn(server.into_future());
    }
    ended.recv().await;
    drop(stop);
    while let Some(server) = servers.join_next().await {
        server??;
    }
    Ok(())
}
