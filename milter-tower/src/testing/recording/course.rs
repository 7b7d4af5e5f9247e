//! What the MTA would still say to a filter that answers otherwise than recorded.

use milter_core::{Command, Reply, Stage};

/// Where the session is for the filter. As long as it answers as recorded that is where it was;
/// then, what the MTA would not tell it any more must be left out.
#[derive(Debug, Default)]
pub(super) struct Course {
    at: At,
    /// It wants no more of a body that was told on.
    is_skipping: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    /// Nothing is to be ended or left out.
    #[default]
    Free,
    /// It decided a message that was not decided here.
    Decided,
    /// It decided the session, which was not decided here.
    Over,
}

impl Course {
    /// Whether the MTA would say so to this filter.
    pub(super) fn takes(&mut self, command: &Command) -> bool {
        let is_decided = self.at == At::Decided;
        match command {
            Command::Quit => true,
            Command::Negotiate(_) | Command::QuitNewConnection => {
                *self = Self::default();
                true
            }
            _ if self.at == At::Over => false,
            Command::Macros(set) => !is_decided || matches!(set.command_code(), b'H' | b'M'),
            Command::Mail(_) | Command::Helo(_) => {
                if is_decided {
                    self.at = At::Free;
                }
                true
            }
            // A message that it decided needs no other end (C79).
            Command::Abort if is_decided => {
                self.at = At::Free;
                false
            }
            Command::Body(_) if self.is_skipping => false,
            _ => !is_decided,
        }
    }

    /// Goes on behind an answer.
    // sendmail/milter.c milter_connect, milter_helo; Postfix milter8.c milter8_event
    pub(super) fn follow(&mut self, command: &Command, reply: Option<&Reply>, is_same: bool) {
        let Some(stage) = command.stage() else {
            return;
        };
        let goes_on = matches!(reply, None | Some(Reply::Continue | Reply::Skip));
        let is_decision = match stage {
            // No message is open there, or it is over anyway.
            Stage::Connect | Stage::Helo | Stage::Unknown | Stage::EndOfMessage => false,
            // A refused recipient or DATA leaves the message open (Q24).
            Stage::Rcpt | Stage::Data => matches!(reply, Some(Reply::Accept | Reply::Discard)),
            _ => !goes_on,
        };
        let is_of_session = matches!(stage, Stage::Connect | Stage::Helo) && !goes_on;
        self.is_skipping = !is_same && matches!(reply, Some(Reply::Skip));
        if !is_same && (is_of_session || matches!(reply, Some(Reply::Shutdown))) {
            self.at = At::Over;
        } else if !is_same && is_decision {
            self.at = At::Decided;
        }
    }
}
