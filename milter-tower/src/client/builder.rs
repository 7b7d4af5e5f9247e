//! How to reach a milter, and how to treat it.

use std::fmt;
use std::sync::Arc;

use milter_core::client::{Config, EmptyList};
use milter_core::{MacroStage, Offer, edit};
use tokio::io::{AsyncRead, AsyncWrite};

use super::dial::dial;
use super::lists::POSTFIX;
use super::{ClientError, ClientErrorKind, Connection, DefaultAction, Timeouts};
use crate::Address;

/// Where a milter is, and how a mail server treats it: what it offers, which macros it sends, how
/// long it waits.
///
/// It holds no connection; [`connect`](Self::connect) opens one, as often as it is called. The
/// settings are those that an MTA's administrator has.
///
/// ```no_run
/// # async fn example() -> Result<(), milter_tower::BoxError> {
/// use milter_tower::client::{Client, DefaultAction, Timeouts};
/// use milter_tower::{ClientAddr, Connect, MacroStage};
///
/// let client = Client::new("inet:8891@127.0.0.1".parse()?)
///     .macros(MacroStage::Mail, ["i", "{auth_authen}"])
///     .timeouts(Timeouts::sendmail())
///     .on_failure(DefaultAction::Accept);
///
/// let mut milter = client.connect().await?;
/// milter.set_macro("j", "mail.example.net");
/// let answer = milter.connect(Connect::new("client.example", ClientAddr::Unknown)).await?;
/// println!("{}", answer.verdict.name());
/// milter.quit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client<A = Address> {
    address: A,
    /// The address, for messages.
    name: Arc<str>,
    config: Config,
    settings: Settings,
}

/// What the session without I/O does not know.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) times: Timeouts,
    pub(super) on_failure: DefaultAction,
    pub(super) edits: edit::Profile,
}

impl Client {
    /// A client of the milter at this address.
    pub fn new(address: Address) -> Self {
        Self::named(address.to_string().into(), address)
    }

    /// Connects, and negotiates.
    ///
    /// # Errors
    ///
    /// The milter cannot be reached, or does not agree.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let stream = dial(&self.address, self.settings.times.dial()).await;
        let stream = stream
            .map_err(|error| ClientError::new(&self.name, None, ClientErrorKind::Connect(error)))?;
        self.over(stream).await
    }

    /// Where the milter is.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl Client<()> {
    /// A client of a milter that is reached in some other way: only for connections that are there
    /// already, which are [given](Self::over) to it.
    pub fn without_address() -> Self {
        Self::named("without address".into(), ())
    }
}

impl<A> Client<A> {
    fn named(name: Arc<str>, address: A) -> Self {
        let macros = POSTFIX.into_iter();
        Self {
            address,
            name,
            config: macros.fold(Config::new(), |config, (stage, names)| {
                config.macros(stage, names.iter().copied())
            }),
            settings: Settings {
                times: Timeouts::postfix(),
                on_failure: DefaultAction::default(),
                edits: edit::Profile::postfix(),
            },
        }
    }

    /// Negotiates over a connection that is there already.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), milter_tower::BoxError> {
    /// # use milter_tower::{BoxError, Request, Response, serve_connection};
    /// use milter_tower::client::Client;
    /// use milter_tower::Stage;
    ///
    /// # let filter = tower::service_fn(async |_: Request| Ok::<_, BoxError>(Response::proceed()));
    /// // A filter in this process.
    /// let (io, other_end) = tokio::io::duplex(4096);
    /// let serving = tokio::spawn(serve_connection(other_end, filter).into_future());
    ///
    /// let milter = Client::without_address().over(io).await?;
    /// assert!(milter.agreement().delivers(Stage::Body));
    /// milter.quit().await?;
    /// serving.await??;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The milter does not agree.
    pub async fn over<IO>(&self, io: IO) -> Result<Connection<IO>, ClientError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let (name, config) = (Arc::clone(&self.name), self.config.clone());
        Connection::open(io, name, config, self.settings.clone()).await
    }

    /// Sets what is offered: the version of the protocol (2 to 6), the actions that would be carried
    /// out, and the steps that could be left out or added, sizes of frames among them. By default
    /// all of version 6, as Postfix and Sendmail do.
    #[must_use]
    pub fn offer(mut self, offer: Offer) -> Self {
        self.config = self.config.offer(offer);
        self
    }

    /// Sets the macros that are sent at a stage if the milter does not ask for others; by default
    /// those of Postfix. Those without a [value](Connection::set_macro) are left out.
    #[must_use]
    pub fn macros<N: AsRef<[u8]>>(
        mut self,
        stage: MacroStage,
        names: impl IntoIterator<Item = N>,
    ) -> Self {
        let names = names.into_iter().map(|name| name.as_ref().to_vec());
        self.config = self.config.macros(stage, names);
        self
    }

    /// Sets how long the milter may take. By default as [Postfix](Timeouts::postfix) lets it.
    #[must_use]
    pub fn timeouts(mut self, times: Timeouts) -> Self {
        self.settings.times = times;
        self
    }

    /// Sets what becomes of mail if the milter fails: it is told by
    /// [`Connection::on_failure`], and [`Connection::deliver`] does it. By default
    /// [`DefaultAction::TempFail`].
    #[must_use]
    pub fn on_failure(mut self, action: DefaultAction) -> Self {
        self.settings.on_failure = action;
        self
    }

    /// Whether the milter fails for what Sendmail gives it up for, while Postfix makes the best of
    /// it: see [`Config::strict`]. By default not.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.config = self.config.strict(strict);
        self
    }

    /// Sets what a milter gets that asks for no macro at all at a stage (C25). By default none.
    #[must_use]
    pub fn empty_list(mut self, means: EmptyList) -> Self {
        self.config = self.config.empty_list(means);
        self
    }

    /// Sets the largest payload of a frame that is read, in bytes (C82). By default, and at most,
    /// 1 MiB.
    #[must_use]
    pub fn max_read(mut self, bytes: usize) -> Self {
        self.config = self.config.max_read(bytes);
        self
    }

    /// Sets how many bytes of modifications are taken for one message, a new body among them. By
    /// default 256 MiB.
    #[must_use]
    pub fn max_edit_bytes(mut self, bytes: usize) -> Self {
        self.config = self.config.max_edit_bytes(bytes);
        self
    }

    /// Sets how modifications are applied by [`Connection::deliver`]. By default as Postfix does.
    #[must_use]
    pub fn edits(mut self, profile: edit::Profile) -> Self {
        self.settings.edits = profile;
        self
    }

    /// The milter, for messages: its address.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl<A: fmt::Debug> fmt::Debug for Client<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .field("config", &self.config)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
