//! The second and the third line of the input: a chain, and what its members do.
//!
//! | letter | |
//! | --- | --- |
//! | `p` `r` `f` | a plain service, a router, a `Filter`; the byte behind it says what it needs |
//! | `m` `i` | a `message` filter, or one that gets it as it comes; the byte behind it says how |
//! | `(` `)` | the members of a chain that is a member |
//! | `[` `]` | members that are asked at the same time |
//! | `t` | the next member has a time-out of 3 s |
//! | `?` | the next member has a condition, which the byte behind says |
//! | `!` | the next member has a policy for its failures, which the byte behind says |
//! | `F` | the chain holds bodies in a file |
//!
//! The acts of a plain service are those of the target `connection`; of the others, those of
//! [`leaves`](super::leaves).

use std::time::Duration;

use milter_core::{SmtpReply, Stage};
use milter_tower::{
    BoxError, Chain, Condition, Member, MemberFailure, OnMemberFailure, Request, Response, filter,
};
use tower::timeout::Timeout;
use tower_service::Service;

use super::super::filter::Scripted;
use super::super::trace::Trace;
use super::leaves::{self, Acts, Methods};
use super::spy::{Kind, Log, Spy};
use crate::fuzz::input::Choices;

const LETTERS: &[u8] = b"prfmi()[]t?!F";
/// Most members, of all chains together.
const MOST: usize = 12;
/// How deep chains are in chains.
const DEEPEST: usize = 3;

/// The chain, and what is known of it.
pub(super) struct Members {
    pub(super) chain: Chain,
    /// The policy of a member is to let mail pass that it failed at.
    pub(super) may_pass: bool,
    /// Bodies go to files, which is work for threads.
    pub(super) uses_files: bool,
}

impl Members {
    pub(super) fn read(tree: &[u8], acts: &[u8], log: &Log) -> Self {
        let mut reader = Reader {
            input: Choices::new(tree),
            acts: acts
                .split(|&byte| byte == b',')
                .collect::<Vec<_>>()
                .into_iter(),
            log,
            count: 0,
            may_pass: false,
            uses_files: false,
        };
        let chain = reader.chain(0, 0);
        Self {
            chain,
            may_pass: reader.may_pass,
            uses_files: reader.uses_files,
        }
    }
}

struct Reader<'a> {
    input: Choices<'a>,
    /// Those of the leaves that come.
    acts: std::vec::IntoIter<&'a [u8]>,
    log: &'a Log,
    count: usize,
    may_pass: bool,
    uses_files: bool,
}

/// What is said of a member before it.
#[derive(Default)]
struct Said {
    timeout: bool,
    condition: Option<Condition>,
    policy: OnMemberFailure,
}

impl Reader<'_> {
    fn chain(&mut self, number: usize, depth: usize) -> Chain {
        let mut chain = Chain::new();
        let mut said = Said::default();
        let mut section = None;
        while !self.input.is_empty() {
            match self.input.letter(LETTERS) {
                b')' if depth > 0 => break,
                b'[' => _ = section.get_or_insert_with(Vec::new),
                b']' => chain = chain.with_parallel(section.take().into_iter().flatten()),
                b't' => said.timeout = true,
                b'?' => said.condition = Some(self.condition()),
                b'!' => said.policy = self.policy(),
                b'F' => {
                    self.uses_files = true;
                    chain = chain.memory_limit(100);
                }
                letter if self.count < MOST => {
                    self.count += 1;
                    let Some(member) =
                        self.member(letter, number, depth, std::mem::take(&mut said))
                    else {
                        continue;
                    };
                    match &mut section {
                        Some(section) => section.push(member),
                        None => chain = chain.with_member(member),
                    }
                }
                _ => {}
            }
        }
        chain.with_parallel(section.into_iter().flatten())
    }

    fn member(&mut self, letter: u8, within: usize, depth: usize, said: Said) -> Option<Member> {
        let around = if said.timeout {
            self.log.add(Some(within), Kind::Layer)
        } else {
            within
        };
        let is_chain = letter == b'(';
        let kind = if is_chain { Kind::Chain } else { Kind::Leaf };
        let number = self.log.add(Some(around), kind);
        let at = (around, number);
        if is_chain {
            if depth == DEEPEST {
                return None;
            }
            let chain = self.chain(number, depth + 1);
            return Some(self.made(chain, at, said));
        }
        let acts = self.acts.next().unwrap_or_default();
        let how = self.input.below(10);
        let handlers = Acts::new(acts);
        Some(match letter {
            b'r' => self.made(leaves::router(how, &handlers), at, said),
            b'f' => {
                let needs = leaves::needs(how).unwrap_or_default();
                let methods = move || Methods {
                    needs: needs.clone(),
                    acts: handlers.clone(),
                };
                self.made(filter(methods), at, said)
            }
            b'm' => self.made(leaves::whole(how, &handlers), at, said),
            b'i' => self.made(leaves::streaming(how, &handlers), at, said),
            _ => {
                let plain = Scripted::with(leaves::needs(how), acts, Trace::default());
                self.made(plain, at, said)
            }
        })
    }

    /// A member, with spies around the service and around its layer.
    fn made<S>(&self, service: S, (around, number): (usize, usize), said: Said) -> Member
    where
        S: Service<Request, Response = Response> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send,
    {
        let name = number.to_string();
        let service = Spy::new(service, number, self.log);
        let member = if said.timeout {
            let service = Timeout::new(service, Duration::from_secs(3));
            Member::new(name, Spy::new(service, around, self.log))
        } else {
            Member::new(name, service)
        };
        let member = member.on_failure(said.policy);
        match said.condition {
            Some(condition) => member.when(condition),
            None => member,
        }
    }

    fn condition(&mut self) -> Condition {
        match self.input.below(8) {
            0 => Condition::authenticated(),
            1 => Condition::sender(|_| true),
            2 => !Condition::announced_size(..10),
            3 => Condition::recipient(|to| to.mailbox().starts_with(b"b")),
            4 => Condition::header("Subject", |header| header.value().len() > 3),
            5 => Condition::client(|client| client.client().ip().is_some()),
            6 => !Condition::recipient(|to| to.mailbox().starts_with(b"b")),
            _ => Condition::sender(|_| std::panic::resume_unwind(Box::new("wanted"))),
        }
    }

    fn policy(&mut self) -> OnMemberFailure {
        let reply = MemberFailure::Reply(SmtpReply::tempfail("member"));
        let number = self.input.below(5);
        self.may_pass |= number > 1;
        match number {
            0 => OnMemberFailure::reject(),
            1 => reply.into(),
            2 => OnMemberFailure::leave_out(),
            3 => OnMemberFailure::tempfail().at(Stage::EndOfMessage, MemberFailure::LeaveOut),
            _ => OnMemberFailure::leave_out().at(Stage::EndOfMessage, MemberFailure::Reject),
        }
    }
}
