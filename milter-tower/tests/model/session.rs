//! One connection: random commands, and a look at each reply.

use milter_core::{Command, Reply};
use milter_tower::{Settings, Stage, Steps};

use crate::check;
use crate::common::{Mta, ended, eom, start_with};
use crate::mta::{allows, command, offer};
use crate::rng::Rng;
use crate::script::filter;
use crate::trace::{Entry, Trace};

/// How many commands a connection has.
const COMMANDS: usize = 60;

/// Whether no reply is due at a stage.
pub(crate) fn is_silent(agreed: Steps, stage: Stage) -> bool {
    stage.silencing().is_some_and(|step| agreed.contains(step))
}

pub(crate) async fn run(seed: u64, trace: Trace) {
    let mut rng = Rng::new(seed);
    let (service, log) = filter(Rng::new(rng.next()), trace.clone());
    let (mut mta, run) = start_with(service, Settings::new());
    let agreed = mta.offer(offer(&mut rng)).await.steps;
    trace.add(Entry::Agreed(agreed));

    let batched = rng.one_in(3);
    let mut waiting = Vec::new();
    for _ in 0..COMMANDS {
        let command = command(&mut rng);
        let code = command.code();
        let due = command.stage().is_some_and(|s| !is_silent(agreed, s));
        trace.add(Entry::Sent { command: code, due });
        mta.send(command).await;
        if due {
            waiting.push(code);
        }
        if !batched || code == b'E' {
            for code in waiting.drain(..) {
                answer(&mut mta, code, &trace).await;
            }
        }
    }

    // Whatever was not due would come before the end.
    waiting.push(b'E');
    mta.send_all([eom(), Command::Quit]).await;
    for code in waiting {
        answer(&mut mta, code, &trace).await;
    }
    mta.closed().await;
    ended(run).await.expect("a good end");

    if !batched {
        check::failures(&trace.entries(), agreed);
    }
    check::clones(&trace.entries(), log.clones());
}

/// Waits for the reply to a command.
async fn answer(mta: &mut Mta, command: u8, trace: &Trace) {
    let mut edits = 0;
    let reply = loop {
        match mta.reply().await {
            Reply::Progress => trace.add(Entry::Progress),
            Reply::Modify(_) => edits += 1,
            last => break last.code(),
        }
    };
    trace.add(Entry::Answered {
        command,
        reply,
        edits,
    });
    assert!(edits == 0 || command == b'E', "a modification too early");
    assert!(allows(command, reply), "a reply that is not allowed");
}
