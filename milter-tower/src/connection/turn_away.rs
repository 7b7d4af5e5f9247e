//! Connections beyond a limit.

use std::sync::Arc;

use milter_core::state::{StateMachine, Step};
use milter_core::{Agreement, Command, Needs, Reply, ReplyMode, Stage, negotiate};
use tokio::io::{AsyncRead, AsyncWrite};

use super::link::{Link, Lost};
use crate::serve::Control;
use crate::settings::Settings;

/// Gives an MTA the failure verdict, as early as it listens to one, and closes the connection.
///
/// To close it without an answer would let mail pass unfiltered where that is the MTA's default
/// (Sendmail's without `F=`).
pub(crate) async fn turn_away<IO>(io: IO, settings: Arc<Settings>, control: Arc<Control>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    // Nothing can be done about one that does not hear of it.
    let _ = answer(
        &mut Link::new(io, Arc::clone(&settings), control),
        &settings,
    )
    .await;
}

async fn answer<IO>(link: &mut Link<IO>, settings: &Settings) -> Result<(), Lost>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut state = StateMachine::new();
    let mut agreement = Agreement::default();
    loop {
        let command = std::future::poll_fn(|cx| link.poll_next(cx, true)).await?;
        let Ok(transition) = state.step(&command) else {
            return Ok(());
        };
        match (transition.step, command) {
            (Step::Negotiate, Command::Negotiate(offer)) => {
                let Ok(agreed) = negotiate(&offer, &Needs::none().event(Stage::Connect)) else {
                    return Ok(());
                };
                agreement = agreed;
                link.negotiated(agreement.max_payload());
                link.send(&Reply::Negotiate(agreement.to_reply()))?;
            }
            // Connect, but for an MTA that does not send it.
            (Step::Deliver { stage, .. }, _)
                if agreement.reply_mode(stage) != ReplyMode::Silent =>
            {
                let verdict = settings.on_failure.verdict();
                if verdict.is_allowed_at(stage) {
                    link.send(&verdict.to_reply())?;
                    return link.flush().await;
                }
                link.send(&Reply::Continue)?;
            }
            (Step::Close, _) => return Ok(()),
            _ => {}
        }
    }
}
