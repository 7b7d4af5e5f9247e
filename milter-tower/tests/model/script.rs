//! What a random filter needs and does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milter_tower::{Actions, Event, Needs, Response, SmtpReply, Stage};

use crate::common::{Act, Log, Scripted, name};
use crate::rng::Rng;
use crate::trace::{Entry, Trace};

/// What comes of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// An answer, if maybe one that is not allowed here.
    Answers,
    /// A failure that the filter survives.
    Fails,
    /// A failure after which the clone is of no use.
    Breaks,
}

/// A filter that writes down all that it does, and what its first clone needs.
pub(crate) fn filter(mut rng: Rng, trace: Trace) -> (Scripted, Log) {
    let first = needs(&mut rng);
    trace.add(Entry::Needs(format!("{first:?}")));
    // Clones that need more than was agreed are of no use, so most need the same.
    let same = !rng.one_in(3);
    let rng = Arc::new(Mutex::new(rng));
    Scripted::new(move |request, clone| {
        let mut rng = rng.lock().unwrap();
        let event = request.event();
        let (act, effect) = if let Event::Negotiate(_) = event {
            let needs = if same || clone == 1 {
                first.clone()
            } else {
                needs(&mut rng)
            };
            introduction(&mut rng, needs)
        } else {
            act(&mut rng)
        };
        trace.add(Entry::Called {
            clone,
            event: name(event),
            stage: event.stage(),
            act: describe(&act),
            effect,
        });
        act
    })
}

fn needs(rng: &mut Rng) -> Needs {
    if rng.one_in(4) {
        return Needs::all();
    }
    let mut needs = Needs::none();
    for stage in Stage::ALL {
        needs = match rng.below(3) {
            0 => needs,
            1 => needs.event(stage),
            _ => needs.record(stage),
        };
    }
    if rng.one_in(2) {
        needs = needs.skip();
    }
    if rng.one_in(2) {
        needs = needs.optional_action(Actions::all());
    }
    needs
}

fn introduction(rng: &mut Rng, needs: Needs) -> (Act, Effect) {
    match rng.below(12) {
        0 => (Act::Panic, Effect::Breaks),
        1 => (Act::Fail, Effect::Fails),
        2 => (Act::Hang, Effect::Fails),
        3 => (Response::reject().into(), Effect::Fails),
        4 => (Response::accept().with_needs(needs).into(), Effect::Answers),
        _ => (Response::needs(needs).into(), Effect::Answers),
    }
}

fn act(rng: &mut Rng) -> (Act, Effect) {
    let answers = |response: Response| (response.into(), Effect::Answers);
    let late = Duration::from_secs(3);
    match rng.below(30) {
        0 => (Act::Panic, Effect::Breaks),
        1 => (Act::PanicLater, Effect::Breaks),
        2 => (Act::Fail, Effect::Fails),
        3 => (Act::Hang, Effect::Fails),
        4 => (Act::PanicInDrop(Some(Response::proceed())), Effect::Breaks),
        5 => (Act::PanicInDrop(None), Effect::Breaks),
        6 => answers(Response::accept()),
        7 => answers(Response::reject()),
        8 => answers(Response::tempfail()),
        9 => answers(Response::discard()),
        10 => answers(Response::skip()),
        11 => answers(SmtpReply::reject("no").into()),
        12 => answers(
            Response::accept()
                .add_header("X-A", "b")
                .replace_body("new"),
        ),
        13 => (Act::After(late, Response::proceed()), Effect::Answers),
        14 => (Act::After(late, Response::reject()), Effect::Answers),
        15 => {
            let impossible = Response::accept().add_header("no name", "b");
            (impossible.into(), Effect::Fails)
        }
        _ => answers(Response::proceed()),
    }
}

fn describe(act: &Act) -> String {
    match act {
        Act::Answer(response) => format!("{:?}", response.verdict()),
        Act::After(time, response) => format!("{:?} after {time:?}", response.verdict()),
        Act::Fail => "fails".into(),
        Act::Panic => "panics".into(),
        Act::PanicLater => "panics when polled".into(),
        Act::PanicInDrop(Some(_)) => "answers and panics when dropped".into(),
        Act::PanicInDrop(None) => "hangs and panics when dropped".into(),
        Act::Hang => "hangs".into(),
    }
}
