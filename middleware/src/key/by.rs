use std::fmt;
use std::sync::Arc;

#[cfg(feature = "rate-limit")]
use milter_tower::{Event, domain_key, macros::names, mailbox_key};
use milter_tower::{Needs, Request, Session, Stage};

use super::Key;

type Function = dyn Fn(&Session) -> Option<Key> + Send + Sync;

/// What of a session a key is made of.
#[derive(Clone)]
pub(crate) enum By {
    Network {
        v4: u8,
        v6: u8,
    },
    #[cfg(feature = "rate-limit")]
    Sender,
    #[cfg(feature = "rate-limit")]
    SenderDomain,
    #[cfg(feature = "rate-limit")]
    User,
    #[cfg(feature = "rate-limit")]
    Recipient,
    Function(Arc<Function>),
}

impl By {
    /// The client. What one of IPv6 has for itself is a network of 64 bits (RFC 6177 3).
    pub(crate) const CLIENT: Self = Self::Network { v4: 32, v6: 64 };

    pub(crate) fn function<K: Into<Key>>(
        function: impl Fn(&Session) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        Self::Function(Arc::new(move |session| function(session).map(Into::into)))
    }

    /// The key at an event; none where what it is made of is not known, or not there.
    pub(crate) fn key(&self, request: &Request) -> Option<Key> {
        let session = request.session();
        match self {
            Self::Network { v4, v6 } => Some(Key::network(session.client_ip()?, *v4, *v6)),
            #[cfg(feature = "rate-limit")]
            Self::Sender => {
                let sender = session.sender().filter(|sender| !sender.is_null())?;
                Some(mailbox_key(sender.mailbox()).into())
            }
            #[cfg(feature = "rate-limit")]
            Self::SenderDomain => Some(domain_key(session.sender()?.domain()?).into()),
            #[cfg(feature = "rate-limit")]
            Self::User => {
                // Stalwart tells no {auth_type}. A user who writes the name another way is the same.
                let user = session.macros().get(names::AUTH_AUTHEN)?;
                (!user.is_empty()).then(|| mailbox_key(user).into())
            }
            #[cfg(feature = "rate-limit")]
            Self::Recipient => match request.event() {
                Event::Rcpt(recipient) => Some(mailbox_key(recipient.mailbox()).into()),
                _ => None,
            },
            Self::Function(function) => function(session),
        }
    }

    /// What has to be known for it.
    pub(crate) fn needs(&self) -> Needs {
        match self {
            Self::Network { .. } => Needs::none().record(Stage::Connect),
            #[cfg(feature = "rate-limit")]
            Self::Sender | Self::SenderDomain | Self::User => Needs::none().record(Stage::Mail),
            #[cfg(feature = "rate-limit")]
            Self::Recipient => Needs::none().record(Stage::Rcpt),
            Self::Function(_) => Needs::none()
                .record(Stage::Connect)
                .record(Stage::Helo)
                .record(Stage::Mail),
        }
    }
}

impl fmt::Debug for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { v4, v6 } => write!(f, "Network(/{v4}, /{v6})"),
            #[cfg(feature = "rate-limit")]
            Self::Sender => f.write_str("Sender"),
            #[cfg(feature = "rate-limit")]
            Self::SenderDomain => f.write_str("SenderDomain"),
            #[cfg(feature = "rate-limit")]
            Self::User => f.write_str("User"),
            #[cfg(feature = "rate-limit")]
            Self::Recipient => f.write_str("Recipient"),
            Self::Function(_) => f.write_str("Function"),
        }
    }
}
