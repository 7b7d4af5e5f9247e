//! A mail server's session with a filter that may say anything.
//!
//! The input is the settings, and then the mail server's calls (capitals, those of the target
//! `connection`) and what the filter sends (small letters):
//!
//! | settings | |
//! | --- | --- |
//! | `s` `q` `y` | strict, goodbye without abort, commands in any order |
//! | `e` `m` | an empty list of macros means the mail server's own; it has macros of its own |
//! | `p` `r` `b` | no progress before the end, small frames only, few bytes of edits |
//! | `o` | an offer, as in the target `negotiation` |
//!
//! | what the filter sends | |
//! | --- | --- |
//! | `o` `w` | an answer to the offer that fits, by the needs that follow; one of any three words |
//! | `c` `a` `r` `t` `d` `s` `p` `4` `f` | the reply of that letter |
//! | `y` | a reply of any text, its length before it |
//! | `m` | modifications, as in the target `connection` |
//! | `X` `G` | a frame of any letter and payload; bytes without a frame |
//! | `z` | nothing for too long |

use bytes::{Bytes, BytesMut};
use milter_core::client::{Answer, Awaited, Config, EmptyList, Failure, Heard, SendError, Session};
use milter_core::state::{StateMachine, Step};
use milter_core::{
    Actions, Command, FilterCodec, MAX_PAYLOAD, MacroLists, MacroStage, Modification, MtaCodec,
    Needs, Offer, OfferReply, Reply, ReplyMode, Stage, Stages, Steps, Verdict, negotiate,
};
use tokio_util::codec::{Decoder, Encoder};

use super::connection::{command, edits};
use super::input::Choices;
use super::negotiation;

const CALLS: &[u8] = b"OCHMRTULNBEAQKcarotdsp4fymwXGz";
/// Most calls and replies.
const MOST: usize = 200;
/// Few bytes of edits.
const FEW: usize = 300;
/// Small frames.
const SMALL: usize = 200;

/// A session of the core client and its codec with a filter that answers legally or not, or sends
/// garbage. Whatever it sends:
///
/// - Nothing is sent but what the filter agreed to, and its macros before it; a filter that keeps to
///   the protocol can follow all of it.
/// - Who failed stays so, and a call that is refused changes nothing.
/// - An answer is one that its stage allows, with no edits but those agreed on, and none beyond the
///   bound.
/// - What is awaited can be answered, and the goodbye can be said always.
///
/// # Panics
///
/// If something is wrong.
pub fn client(data: &[u8]) {
    let mut input = Choices::new(data);
    let mut line = Choices::new(input.line());
    let mut run = Run::new(&mut line);
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let letter = input.letter(CALLS);
        if letter.is_ascii_uppercase() && !b"XG".contains(&letter) {
            run.call(letter, &mut input);
        } else {
            run.filter_sends(letter, &mut input);
        }
        run.holds();
    }
    run.ends();
}

struct Run {
    session: Session,
    offer: Offer,
    max_edit_bytes: usize,
    strict: bool,
    codec: MtaCodec,
    /// Came from the filter and is not read.
    input: BytesMut,
    /// A filter that was told all that was sent; none where it or the mail server broke a rule.
    filter: Option<StateMachine>,
    /// The first failure.
    failed: Option<Failure>,
    /// Bytes of the edits of the message at hand.
    edit_bytes: usize,
    said_goodbye: bool,
    /// HELO came within the message at hand.
    greeted: bool,
}

impl Run {
    fn new(line: &mut Choices<'_>) -> Self {
        let mut config = Config::new();
        let mut run = Self {
            session: Session::new(config.clone()),
            offer: Offer::V6,
            max_edit_bytes: usize::MAX,
            strict: false,
            codec: MtaCodec::new(),
            input: BytesMut::new(),
            filter: Some(StateMachine::new()),
            failed: None,
            edit_bytes: 0,
            said_goodbye: false,
            greeted: false,
        };
        while !line.is_empty() {
            config = match line.letter(b"sqyemprbo") {
                b's' => {
                    run.strict = true;
                    config.strict(true)
                }
                b'q' => config.abort_before_quit(false),
                b'y' => {
                    run.filter = None;
                    config.any_order(true)
                }
                b'e' => config.empty_list(EmptyList::MtasOwn),
                b'm' => config
                    .macros(MacroStage::Connect, ["j", "{daemon_name}"])
                    .macros(MacroStage::Mail, ["i", "none", ""]),
                b'p' => config.progress_at(Stages::NONE),
                b'r' => config.max_read(SMALL),
                b'b' => {
                    run.max_edit_bytes = FEW;
                    config.max_edit_bytes(FEW)
                }
                _ => {
                    run.offer = negotiation::offer(line);
                    config.offer(run.offer)
                }
            };
        }
        run.codec = config.codec();
        run.session = Session::new(config);
        run
    }

    /// The mail server's call of this letter.
    fn call(&mut self, letter: u8, input: &mut Choices<'_>) {
        let before = format!("{:?}", self.session);
        let refused = match letter {
            b'O' => self.session.offer().map(|offer| self.sent(&offer)).err(),
            b'A' => {
                let owed = self.session.owes_abort();
                let abort = self.session.abort();
                if let Ok(abort) = &abort {
                    assert_eq!(abort.is_some(), owed);
                    if let Some(abort) = abort {
                        self.sent(abort);
                    }
                    assert!(!self.session.owes_abort());
                    self.edit_bytes = 0;
                }
                abort.err()
            }
            b'Q' | b'K' => {
                let frames = if letter == b'Q' {
                    self.session.quit()
                } else {
                    self.session.quit_new_connection()
                };
                if let Ok(frames) = &frames {
                    for frame in frames.iter() {
                        self.sent(frame);
                    }
                    self.said_goodbye |= letter == b'Q';
                    assert_eq!(self.session.awaited(), None);
                    self.edit_bytes = 0;
                }
                frames.err()
            }
            letter => {
                let command = command(letter, self.offer, input);
                self.tell(&command)
            }
        };
        if let Some(refused) = refused {
            assert_eq!(before, format!("{:?}", self.session), "{refused}");
            if let Some(failed) = &self.failed {
                // To be told that it ended is as good.
                let known = [SendError::Failed(failed.clone()), SendError::Ended];
                assert!(known.contains(&refused), "{refused} and not {failed}");
            }
        }
    }

    fn tell(&mut self, command: &Command) -> Option<SendError> {
        let stage = command.stage().expect("a command with a stage");
        let decided = self.session.decided().cloned();
        let known =
            |name: milter_core::Text<'_>| (name != *"none").then(|| Bytes::from_static(b"v"));
        let frames = match self.session.send(command.clone(), known) {
            Ok(frames) => frames,
            Err(error) => return Some(error),
        };
        assert!(self.failed.is_none() && !self.said_goodbye);
        let agreement = self.session.agreement().clone();
        let told: Vec<Command> = frames.into_iter().collect();
        let Some((last, before)) = told.split_last() else {
            assert_eq!(self.session.awaited(), None);
            return None;
        };
        assert_eq!(last, command);
        assert!(agreement.delivers(stage), "{stage} was declined");
        let begins = matches!(stage, Stage::Mail | Stage::Helo);
        assert!(decided.is_none() || begins, "{stage} after {decided:?}");
        let silent = agreement.reply_mode(stage) == ReplyMode::Silent;
        let due = (!silent).then_some(Awaited::Verdict(stage));
        assert_eq!(self.session.awaited(), due);
        for macros in before {
            let Command::Macros(set) = macros else {
                panic!("{macros:?} before {stage}");
            };
            let at = MacroStage::from_command_code(last.code());
            assert!(set.stage() == at && at.is_some(), "{set:?} before {stage}");
            for (name, _) in set {
                let mut asked = self.session.macro_names(at.expect("one"));
                assert!(asked.any(|asked| asked == name), "{name:?} at {stage}");
            }
        }
        if begins || stage == Stage::EndOfMessage {
            self.edit_bytes = 0;
        }
        self.greeted = (stage == Stage::Helo || self.greeted) && self.session.owes_abort();
        for frame in &told {
            self.sent(frame);
        }
        None
    }

    /// A frame goes out: it can be written, and read by a filter, who expects it.
    fn sent(&mut self, frame: &Command) {
        let mut wire = BytesMut::new();
        let mut codec = MtaCodec::new();
        codec.set_max_write(self.session.agreement().max_payload());
        codec.encode(frame.clone(), &mut wire).expect("fits");
        let mut reader = FilterCodec::new();
        reader.set_max_read(MAX_PAYLOAD);
        let read = reader.decode(&mut wire).expect("readable");
        assert!(read.is_some() && wire.is_empty());
        let Some(filter) = &mut self.filter else {
            return;
        };
        let step = filter.step(frame).expect("the offer is the first").step;
        let fits = matches!(
            step,
            Step::Negotiate | Step::Macros | Step::Deliver { .. } | Step::Nothing | Step::Close
        );
        assert!(fits, "{frame:?} is {step:?}");
    }

    /// What the filter does.
    fn filter_sends(&mut self, letter: u8, input: &mut Choices<'_>) {
        match letter {
            b'z' => {
                let timeout = self.session.awaited().map(Awaited::timeout);
                let failure = timeout.map_or(Failure::ConnectionLost, Failure::Timeout);
                let failed = self.session.fail(failure.clone());
                assert_eq!(failed, self.failed.clone().unwrap_or(failure));
                self.failed = Some(failed);
            }
            b'X' => {
                let code = input.byte();
                let payload = input.text();
                let length = u32::try_from(payload.len() + 1).expect("small");
                self.input.extend_from_slice(&length.to_be_bytes());
                self.input.extend_from_slice(&[code]);
                self.input.extend_from_slice(payload);
                self.read();
            }
            b'G' => {
                let bytes = input.text();
                self.input.extend_from_slice(bytes);
                self.read();
            }
            letter => {
                for reply in replies(letter, self.offer, input) {
                    let mut codec = FilterCodec::new();
                    codec.set_max_write(MAX_PAYLOAD);
                    codec.encode(&reply, &mut self.input).expect("fits");
                }
                self.read();
            }
        }
    }

    /// Reads what came.
    fn read(&mut self) {
        loop {
            match self.codec.decode(&mut self.input) {
                Ok(None) => return,
                Ok(Some(reply)) => self.hear(&reply),
                Err(error) => {
                    let failure = self.session.fail(&error);
                    self.failed.get_or_insert(failure);
                    self.input.clear();
                    return;
                }
            }
        }
    }

    fn hear(&mut self, reply: &Reply) {
        let awaited = self.session.awaited();
        let heard = match self.session.receive(reply.clone()) {
            Ok(heard) => heard,
            Err(failure) => {
                assert_eq!(self.session.failure(), Some(&failure));
                self.failed.get_or_insert_with(|| failure.clone());
                assert_eq!(self.failed.as_ref(), Some(&failure), "another failure");
                return;
            }
        };
        assert!(self.failed.is_none(), "{heard:?} from one that failed");
        match heard {
            Heard::Agreed => {
                assert_eq!(awaited, Some(Awaited::Agreement));
                let agreed = self.session.agreement();
                let offered = self.offer.normalized();
                assert!(offered.actions.contains(agreed.actions()));
                assert!((2..=self.offer.version).contains(&agreed.version()));
                assert!(!self.strict || offered.steps.contains(agreed.steps()));
            }
            Heard::Progress => assert_eq!(self.session.awaited(), awaited),
            Heard::Edit => {
                assert_eq!(awaited, Some(Awaited::Verdict(Stage::EndOfMessage)));
                assert_eq!(self.session.awaited(), awaited);
                let Reply::Modify(edit) = reply else {
                    panic!("{reply:?} is no edit");
                };
                self.edit_bytes += edit.payload_len();
                assert!(self.edit_bytes <= self.max_edit_bytes);
            }
            Heard::Answer(answer) => {
                assert_eq!(awaited, Some(Awaited::Verdict(answer.stage)));
                assert_eq!(self.session.awaited(), None);
                self.answered(&answer, reply);
            }
            other => panic!("{other:?}"),
        }
    }

    fn answered(&mut self, answer: &Answer, reply: &Reply) {
        let Answer {
            stage,
            verdict,
            edits,
            ..
        } = answer;
        let allowed = verdict.is_allowed_at(*stage);
        assert!(
            allowed || *verdict == Verdict::Skip && !self.strict,
            "{answer:?}"
        );
        assert!(edits.is_empty() || *stage == Stage::EndOfMessage);
        for edit in edits {
            assert_eq!(self.session.agreement().permits(edit), Ok(()));
        }
        let bytes: usize = edits.iter().map(Modification::payload_len).sum();
        assert!(bytes <= self.max_edit_bytes);
        let Some(filter) = &mut self.filter else {
            return;
        };
        if verdict.to_reply() == *reply && allowed {
            filter.settle(*stage, verdict);
            // After a HELO within a message it knows by itself.
            let owes = self.session.owes_abort();
            assert!(owes || !filter.has_message(), "after {answer:?}");
            assert!(
                filter.has_message() || !owes || self.greeted,
                "after {answer:?}"
            );
        } else {
            // It takes the reply for something else.
            self.filter = None;
        }
    }

    /// What holds always.
    fn holds(&mut self) {
        assert_eq!(self.session.failure(), self.failed.as_ref());
        assert!(self.failed.is_none() || self.session.awaited().is_none());
        assert!(self.input.len() <= 4 + MAX_PAYLOAD);
        let mut other = self.session.clone();
        if let Some(Awaited::Verdict(stage)) = other.awaited() {
            let heard = other.receive(Reply::Continue);
            let answers = matches!(&heard, Ok(Heard::Answer(answer)) if answer.stage == stage);
            assert!(answers, "{heard:?}");
            assert_eq!(other.awaited(), None);
        }
        let fresh = format!("{:?}", self.session).contains("state: Fresh");
        let may_quit = self.failed.is_none() && !self.said_goodbye && !fresh;
        assert_eq!(self.session.clone().quit().is_ok(), may_quit);
    }

    /// The connection ends.
    fn ends(mut self) {
        let bytes = match self.codec.decode_eof(&mut self.input) {
            Ok(None) => return,
            Ok(Some(reply)) => panic!("{reply:?} came with the end"),
            Err(error) => error,
        };
        let failure = self.session.fail(&bytes);
        assert_eq!(failure, self.failed.unwrap_or(Failure::ConnectionLost));
    }
}

/// What a filter sends that was made this offer.
pub(super) fn replies(letter: u8, offer: Offer, input: &mut Choices<'_>) -> Vec<Reply> {
    vec![match letter {
        b'o' => {
            let needs = negotiation::needs(&mut Choices::new(input.text()));
            let agreed = negotiate(&offer, &needs);
            let agreed = agreed.or_else(|_| negotiate(&offer, &Needs::none()));
            match agreed {
                Ok(agreement) => Reply::Negotiate(agreement.to_reply()),
                Err(_) => Reply::Continue,
            }
        }
        b'w' => Reply::Negotiate(OfferReply {
            version: input.word(),
            actions: Actions::from_bits_retain(input.word()),
            steps: Steps::from_bits_retain(input.word()),
            macros: MacroLists::default(),
        }),
        b'a' => Reply::Accept,
        b'r' => Reply::Reject,
        b't' => Reply::TempFail,
        b'd' => Reply::Discard,
        b's' => Reply::Skip,
        b'p' => Reply::Progress,
        b'4' => Reply::Shutdown,
        b'f' => Reply::ConnectionFailed,
        b'y' => return text(input.text()),
        b'm' => {
            let made = edits::add(milter_tower::Response::proceed(), input);
            return made.edits().iter().cloned().map(Reply::Modify).collect();
        }
        _ => Reply::Continue,
    }]
}

fn text(text: &[u8]) -> Vec<Reply> {
    let reply = milter_core::SmtpReply::from_wire(text);
    vec![match reply {
        Ok(reply) => Reply::Smtp(reply),
        Err(_) => Reply::InvalidSmtp(Bytes::copy_from_slice(text)),
    }]
}
