//! The first three lines of the input.

use std::time::Duration;

use milter_core::{Needs, Offer, SmtpReply, Verdict};
use milter_tower::{Mta, OnFailure, OnNegotiateFailure, Settings};

use super::super::input::Choices;
use super::super::negotiation;

/// The letters of the settings.
const SETTINGS: &[u8] = b".PScjyxmrktidDnuo";

/// What is settled before a connection begins.
pub(super) struct Plan {
    pub(super) settings: Settings,
    pub(super) offer: Offer,
    /// None for a filter that does not say what it needs.
    pub(super) needs: Option<Needs>,
    pub(super) acts: Vec<u8>,
    /// The mail server waits for each reply before it goes on.
    pub(super) in_turn: bool,
    /// Bytes that are on the way before whoever writes must wait.
    pub(super) buffer: usize,
    /// Largest payload that the server reads.
    pub(super) max_payload: usize,
    /// What the server takes the mail server for, whatever it says.
    pub(super) mta: Option<Mta>,
    /// What a failure becomes.
    pub(super) failure: Verdict,
    /// A failure in the negotiation closes the connection.
    pub(super) closes: bool,
    /// Clones that replace a broken one need more than the first one.
    pub(super) unfit: bool,
}

impl Plan {
    pub(super) fn read(input: &mut Choices<'_>) -> Self {
        let mut line = Choices::new(input.line());
        let mut plan = Self {
            settings: Settings::new(),
            offer: Offer::V6,
            needs: None,
            acts: Vec::new(),
            in_turn: true,
            buffer: 1 << 20,
            max_payload: 1 << 20,
            mta: None,
            failure: Verdict::TempFail,
            closes: false,
            unfit: false,
        };
        while !line.is_empty() {
            let letter = line.letter(SETTINGS);
            plan.set(letter, &mut line);
        }
        let needs = input.line();
        plan.needs = (!needs.is_empty()).then(|| negotiation::needs(&mut Choices::new(needs)));
        plan.acts = input.line().to_vec();
        plan
    }

    fn set(&mut self, letter: u8, line: &mut Choices<'_>) {
        let settings = self.settings.clone();
        let seconds = Duration::from_secs;
        self.settings = match letter {
            b'P' => {
                self.mta = Some(Mta::Postfix);
                settings.mta(Mta::Postfix)
            }
            b'S' => {
                self.mta = Some(Mta::Sendmail);
                settings.mta(Mta::Sendmail)
            }
            b'j' => {
                self.failure = Verdict::Reject;
                settings.on_failure(OnFailure::Reject)
            }
            b'y' => {
                let reply = SmtpReply::tempfail("100% out of order");
                self.failure = Verdict::Reply(reply.clone());
                settings.on_failure(OnFailure::Reply(reply))
            }
            b'x' => {
                self.closes = true;
                settings.on_negotiate_failure(OnNegotiateFailure::Close)
            }
            b'm' => {
                self.max_payload = 300;
                settings.max_payload(self.max_payload)
            }
            b'r' => settings.max_recipients(2),
            b'k' => settings.max_macro_bytes(20),
            b't' => settings.call_timeout(seconds(2)),
            b'i' => settings.idle_timeout(seconds(100)),
            b'n' => settings.progress_interval(seconds(100)),
            _ => {
                match letter {
                    b'c' => self.in_turn = false,
                    b'd' => self.buffer = 200,
                    b'D' => self.buffer = 5_000,
                    b'u' => self.unfit = true,
                    b'o' => self.offer = negotiation::offer(line),
                    _ => {}
                }
                settings
            }
        };
    }
}
