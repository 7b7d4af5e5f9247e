//! Filters behind one socket are filters apart: for any filters and mails, the same answers and the
//! same messages, on both MTAs.

use std::sync::{Arc, Mutex};

use milter_core::edit::Profile;
use milter_tower::{
    Actions, Chain, Event, Modification, Needs, Request, Response, SmtpReply, Stage,
};
use proptest::prelude::*;
use proptest::sample::select;

use crate::apart::{Letter, Server, Session};
use crate::common::{Scripted, name};

/// What a filter is like.
#[derive(Clone, Debug)]
struct Plan {
    needs: Vec<(Stage, bool)>,
    actions: Actions,
    leading_space: bool,
    skip: bool,
    /// At the n-th event with this name, this verdict.
    verdict: Option<(&'static str, usize, Say)>,
    edits: Vec<Change>,
    /// Tells in a header what it saw.
    tells: bool,
}

#[derive(Clone, Copy, Debug)]
enum Say {
    Accept,
    Reject,
    TempFail,
    Reply,
    Discard,
    Skip,
}

#[derive(Clone, Debug)]
enum Change {
    Add(&'static str, &'static str),
    Insert(u32, &'static str, &'static str),
    Replace(&'static str, u32, &'static str),
    Delete(&'static str, u32),
    /// All of a name that it saw.
    DeleteAll(&'static str),
    Body(&'static str),
    Sender(&'static str),
    AddRecipient(&'static str),
    DeleteRecipient(&'static str),
    Quarantine(&'static str),
}

impl Change {
    const fn action(&self) -> Actions {
        match self {
            Self::Add(..) | Self::Insert(..) => Actions::ADD_HEADERS,
            Self::Replace(..) | Self::Delete(..) | Self::DeleteAll(_) => Actions::CHANGE_HEADERS,
            Self::Body(_) => Actions::CHANGE_BODY,
            Self::Sender(_) => Actions::CHANGE_SENDER,
            Self::AddRecipient(_) => Actions::ADD_RECIPIENTS,
            Self::DeleteRecipient(_) => Actions::DELETE_RECIPIENTS,
            Self::Quarantine(_) => Actions::QUARANTINE,
        }
    }
}

/// What a filter has seen of a message.
#[derive(Default)]
struct Seen {
    text: String,
    names: Vec<String>,
    counts: Vec<(String, usize)>,
}

impl Plan {
    fn needs(&self) -> Needs {
        let mut needs = Needs::none().optional_action(self.actions);
        for (stage, silent) in &self.needs {
            needs = if *silent {
                needs.record(*stage)
            } else {
                needs.event(*stage)
            };
        }
        if self.leading_space {
            needs = needs.leading_space();
        }
        if self.skip {
            needs = needs.skip();
        }
        needs
    }

    fn filter(&self, nth: usize) -> Scripted {
        let plan = self.clone();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let answer =
            move |request: &Request, _| plan.answer(nth, request, &mut seen.lock().unwrap()).into();
        Scripted::new(answer).0
    }

    fn answer(&self, nth: usize, request: &Request, seen: &mut Seen) -> Response {
        let event = request.event();
        match event {
            Event::Negotiate(_) => return Response::needs(self.needs()),
            Event::Header(header) => {
                let bare = header.value().to_string();
                seen.text += &[&*header.name().to_string(), "=", &bare, ";"].concat();
                seen.names.push(header.name().to_string());
            }
            Event::Body(piece) => seen.text += &String::from_utf8_lossy(piece).replace("\r\n", "/"),
            Event::MessageEnd(_) => {
                *seen = Seen::default();
                return Response::proceed();
            }
            _ => {}
        }
        let Some(stage) = event.stage() else {
            return Response::proceed();
        };
        let count = count(&mut seen.counts, name(event));
        let mut response = Response::proceed();
        if let Some((at, of, say)) = self.verdict {
            if at == name(event) && of == count {
                response = spoken(say, nth, request, stage);
            }
        }
        if stage == Stage::EndOfMessage && !response.verdict().is_refusal() {
            response = self.change(nth, request, response, seen);
        }
        response
    }

    fn change(&self, nth: usize, request: &Request, response: Response, seen: &Seen) -> Response {
        let agreement = request.session().agreement().expect("negotiated");
        let space = if self.leading_space { " " } else { "" };
        let value = |text: &str| format!("{space}{text}");
        let mut edits = Vec::new();
        for change in &self.edits {
            edits.extend(match change {
                Change::Add(name, text) => vec![Modification::add_header(name, value(text))],
                Change::Insert(at, name, text) => {
                    vec![Modification::insert_header(*at, name, value(text))]
                }
                Change::Replace(name, at, text) => {
                    vec![Modification::change_header(name, *at, value(text))]
                }
                Change::Delete(name, at) => vec![Modification::delete_header(name, *at)],
                Change::DeleteAll(name) => {
                    let named = |one: &&String| one.eq_ignore_ascii_case(name);
                    let count = u32::try_from(seen.names.iter().filter(named).count()).unwrap();
                    (1..=count)
                        .map(|at| Modification::delete_header(name, at))
                        .collect()
                }
                Change::Body(text) => vec![Ok(Modification::replace_body(*text))],
                Change::Sender(address) => vec![Modification::change_sender(address)],
                Change::AddRecipient(address) => vec![Modification::add_recipient(address)],
                Change::DeleteRecipient(address) => vec![Modification::delete_recipient(address)],
                Change::Quarantine(reason) => vec![Modification::quarantine(reason)],
            });
        }
        let mut edits: Vec<Modification> = edits.into_iter().map(|edit| edit.unwrap()).collect();
        if self.tells {
            let told = value(&format!("{nth} saw {}", seen.text));
            edits.extend(Modification::add_header("X-Told", told).ok());
        }
        edits.retain(|edit| agreement.permits(edit).is_ok());
        response.edit_all(edits)
    }
}

/// The verdict, if it can be given.
fn spoken(say: Say, nth: usize, request: &Request, stage: Stage) -> Response {
    let response = match say {
        Say::Accept => Response::accept(),
        Say::Reject => Response::reject(),
        Say::TempFail => Response::tempfail(),
        Say::Reply => SmtpReply::reject(format!("by {nth}")).into(),
        Say::Discard => Response::discard(),
        Say::Skip => Response::skip(),
    };
    let agreement = request.session().agreement().expect("negotiated");
    match response.verdict().check(stage, agreement) {
        Ok(()) => response,
        Err(_) => Response::proceed(),
    }
}

fn count(counts: &mut Vec<(String, usize)>, name: String) -> usize {
    let at = counts
        .iter()
        .position(|(of, _)| *of == name)
        .unwrap_or_else(|| {
            counts.push((name, 0));
            counts.len() - 1
        });
    counts[at].1 += 1;
    counts[at].1
}

const NAMES: [&str; 4] = ["X-A", "x-a", "X-B", "Subject"];
const ADDRESSES: [&str; 4] = ["<b@one>", "<c@two>", "<d@three>", "<e@four>"];

fn change() -> impl Strategy<Value = Change> {
    let name = || select(&NAMES[..]);
    let text = || select(&["1", "two words", "a\n\tb"][..]);
    let address = || select(&ADDRESSES[..]);
    prop_oneof![
        3 => (name(), text()).prop_map(|(name, text)| Change::Add(name, text)),
        3 => (0..6_u32, name(), text()).prop_map(|(at, name, text)| Change::Insert(at, name, text)),
        3 => (name(), 1..4_u32, text()).prop_map(|(name, at, text)| Change::Replace(name, at, text)),
        3 => (name(), 1..4_u32).prop_map(|(name, at)| Change::Delete(name, at)),
        1 => name().prop_map(Change::DeleteAll),
        2 => select(&["", "new\r\n", "no end", "a\nb\r\n"][..]).prop_map(Change::Body),
        1 => address().prop_map(Change::Sender),
        1 => address().prop_map(Change::AddRecipient),
        1 => address().prop_map(Change::DeleteRecipient),
        1 => select(&["spam", "virus"][..]).prop_map(Change::Quarantine),
    ]
}

fn verdict() -> impl Strategy<Value = Option<(&'static str, usize, Say)>> {
    let stages = [
        "connect",
        "helo",
        "mail",
        "rcpt",
        "rcpt",
        "rcpt",
        "data",
        "header",
        "header",
        "end of headers",
        "body",
        "body",
        "end of message",
        "end of message",
    ];
    let say = select(vec![
        Say::Accept,
        Say::Accept,
        Say::Reject,
        Say::TempFail,
        Say::Reply,
        Say::Discard,
        Say::Skip,
    ]);
    prop::option::of((select(stages.to_vec()), 1..4_usize, say))
}

fn plan() -> impl Strategy<Value = Plan> {
    let asked = prop_oneof![2 => Just(None), 3 => Just(Some(false)), 1 => Just(Some(true))];
    let needs = prop::collection::vec(asked, Stage::ALL.len());
    let edits = prop::collection::vec(change(), 0..5);
    let more = select(vec![Actions::empty(), Actions::CHANGES]);
    let flags = (any::<bool>(), any::<bool>(), prop::bool::weighted(0.7));
    (needs, more, flags, verdict(), edits).prop_map(|(needs, more, flags, verdict, edits)| {
        let needs = Stage::ALL.into_iter().zip(needs);
        let needs = needs
            .filter_map(|(stage, asked)| Some((stage, asked?)))
            .collect();
        let (leading_space, skip, tells) = flags;
        let own = edits
            .iter()
            .fold(more, |all, edit: &Change| all | edit.action());
        let tells_by = if tells {
            Actions::ADD_HEADERS
        } else {
            Actions::empty()
        };
        Plan {
            needs,
            actions: own | tells_by,
            leading_space,
            skip,
            verdict,
            edits,
            tells,
        }
    })
}

fn letter() -> impl Strategy<Value = Letter> {
    let value = select(&[" 1", " 2", "tight", "  wide", " folded\n line"][..]);
    let headers = prop::collection::vec((select(&NAMES[..]), value), 0..6);
    let recipients = prop::collection::vec(select(&ADDRESSES[..3]), 1..4);
    let body = prop::collection::vec(select(&["one\r\n", "two\r\n", "half"][..]), 0..4);
    (recipients, headers, body, prop::bool::weighted(0.1)).prop_map(
        |(mut recipients, headers, body, gives_up)| {
            recipients.dedup();
            Letter {
                recipients,
                headers,
                body: body.concat(),
                gives_up,
            }
        },
    )
}

fn run(profile: &Profile, plans: &[Plan], letters: &[Letter]) -> (Session, Session) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut apart = Server::new(profile.clone());
        let mut chain = Chain::new();
        for (nth, plan) in plans.iter().enumerate() {
            apart = apart.with(plan.filter(nth)).await;
            chain = chain.with(format!("{nth}"), plan.filter(nth));
        }
        let together = Server::new(profile.clone()).with(chain).await;
        (
            apart.session(letters).await,
            together.session(letters).await,
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_does_what_its_filters_do_apart(
        plans in prop::collection::vec(plan(), 1..4),
        letters in prop::collection::vec(letter(), 1..3),
        postfix in any::<bool>(),
    ) {
        let profile = if postfix { Profile::postfix() } else { Profile::sendmail() };
        let (apart, together) = run(&profile, &plans, &letters);
        prop_assert_eq!(apart, together);
    }
}
