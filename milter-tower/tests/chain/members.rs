//! Members that do as they are told and write down what they see.

use milter_core::Command;
use milter_tower::{Chain, Event, Header, Needs, Request, Response, Settings, Stage, Steps};

use crate::common::{
    Act, Log, Mta, Run, Scripted, connect, helo, message, name, start, start_with,
};

/// A member that needs this, and answers as the function says.
pub(crate) fn member<F>(needs: Needs, answer: F) -> (Scripted, Log)
where
    F: Fn(&Event) -> Response + Send + Sync + 'static,
{
    acting(needs, move |event| answer(event).into())
}

/// The same with other acts than answers.
pub(crate) fn acting<F>(needs: Needs, act: F) -> (Scripted, Log)
where
    F: Fn(&Event) -> Act + Send + Sync + 'static,
{
    Scripted::new(move |request: &Request, _| match request.event() {
        Event::Negotiate(_) => Response::needs(needs.clone()).into(),
        event => act(event),
    })
}

/// A member that judges everything and changes nothing, and answers so at one event.
pub(crate) fn judge(at: &'static str, response: Response) -> (Scripted, Log) {
    member(judging(), move |event| {
        if name(event) == at {
            response.clone()
        } else {
            Response::proceed()
        }
    })
}

/// Every event, with a reply, and no action.
pub(crate) fn judging() -> Needs {
    Needs::none().events(Stage::ALL)
}

/// A member that does nothing.
pub(crate) fn idle() -> (Scripted, Log) {
    judge("never", Response::proceed())
}

/// A chain of two members, behind an MTA that has greeted it.
pub(crate) async fn greeted(a: Scripted, b: Scripted) -> (Mta, Run) {
    greeted_as(Chain::new().with("a", a).with("b", b), Settings::new()).await
}

pub(crate) async fn greeted_as(chain: Chain, settings: Settings) -> (Mta, Run) {
    let (mut mta, run) = start_with(chain, settings);
    mta.greet().await;
    (mta, run)
}

pub(crate) fn started(a: Scripted, b: Scripted) -> (Mta, Run) {
    start(Chain::new().with("a", a).with("b", b))
}

pub(crate) fn field(name: &'static str, value: &'static str) -> Command {
    Command::Header(Header::new(name, value))
}

/// Negotiates and sends a message, with what was agreed on in mind. The letters of the replies.
pub(crate) async fn message_as_agreed(mta: &mut Mta) -> String {
    let steps = mta.negotiate().await.steps;
    let has = |bit: Option<Steps>| bit.is_some_and(|bit| steps.contains(bit));
    let mut seen = String::new();
    for command in [connect(), helo()].into_iter().chain(message()) {
        let stage = command.stage().expect("a command with a stage");
        if has(stage.declining()) {
            continue;
        }
        seen.push(char::from(command.code()));
        mta.send(command).await;
        if !has(stage.silencing()) {
            seen.push(char::from(mta.reply().await.code()));
        }
    }
    seen
}
