//! Macros, from the MTA's to the backend's stages.

use milter_core::client::Failure;
use milter_core::{Agreement, Command, MacroLists, MacroStage, Macros, Stage};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::link::Link;

/// The stages whose macros go out also when their command is declined, in order.
// Q2: sendmail/milter.c milter_command, Postfix milter8.c milter8_event
const ALWAYS: [(MacroStage, Stage); 5] = [
    (MacroStage::Connect, Stage::Connect),
    (MacroStage::Helo, Stage::Helo),
    (MacroStage::Mail, Stage::Mail),
    (MacroStage::Rcpt, Stage::Rcpt),
    (MacroStage::Data, Stage::Data),
];

/// The macros that a backend was told of stages that it declined.
#[derive(Debug, Default)]
pub(super) struct Told(Macros);

impl Told {
    /// Queues the macros that go before a command: those of its stage, and before them those of
    /// declined stages that passed without a command. Nobody else tells the backend of these, and a
    /// filter may look them up later.
    pub(super) fn tell<IO: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        link: &mut Link<IO>,
        macros: &Macros,
        stage: Stage,
    ) -> Result<(), Failure> {
        let session = link.session();
        if session.decided().is_some() || !session.agreement().delivers(stage) {
            return Ok(());
        }
        if stage != Stage::Unknown {
            for (at, of) in ALWAYS {
                if of >= stage {
                    break;
                }
                if !self.0.is_same_at(at, macros) && is_declined(link.agreement(), of) {
                    self.0.take_over(at, macros);
                    queue(link, macros, at)?;
                }
            }
        }
        match macro_stage(stage) {
            Some(at) => queue(link, macros, at),
            None => Ok(()),
        }
    }
}

fn is_declined(agreement: &Agreement, stage: Stage) -> bool {
    // C80: before version 4 there is no DATA.
    let exists = stage != Stage::Data || agreement.version() >= 4;
    exists && !agreement.delivers(stage)
}

/// Queues what the MTA told at a stage, as far as the backend asked for it. One that asked for
/// nothing at that stage gets all of it, as the MTA's own list has it.
fn queue<IO: AsyncRead + AsyncWrite + Unpin>(
    link: &mut Link<IO>,
    macros: &Macros,
    stage: MacroStage,
) -> Result<(), Failure> {
    let lists = link.agreement().macros();
    let is_asked = lists.get(stage).is_some();
    let set = macros.to_set(stage, |name| {
        let asked = lists.get(stage).into_iter().flatten();
        !is_asked || asked.into_iter().any(|one| bare(&one) == bare(&name))
    });
    match set {
        Some(set) => link.queue(&Command::Macros(set)),
        None => Ok(()),
    }
}

/// Whether the MTA tells all the macros that a backend asks for: one that judges by them must not
/// judge without. Where the MTA was asked for none in particular it has its own list.
pub(super) fn macros_fit(asked: &MacroLists, theirs: &MacroLists) -> bool {
    let is_told = |stage, name: &[u8]| {
        let mut names = asked.get(stage);
        let names = names.as_mut();
        names.is_none_or(|names| names.any(|one| bare(&one) == bare(name)))
    };
    MacroStage::ALL.into_iter().all(|stage| {
        let mut names = theirs.get(stage).into_iter().flatten();
        names.all(|name| is_told(stage, &name))
    })
}

/// Braces around a name do not matter.
fn bare(name: &[u8]) -> &[u8] {
    let inner = name
        .strip_prefix(b"{")
        .and_then(|name| name.strip_suffix(b"}"));
    inner.unwrap_or(name)
}

/// The stage whose macros go before the command of a stage.
const fn macro_stage(stage: Stage) -> Option<MacroStage> {
    Some(match stage {
        Stage::Connect => MacroStage::Connect,
        Stage::Helo => MacroStage::Helo,
        Stage::Mail => MacroStage::Mail,
        Stage::Rcpt => MacroStage::Rcpt,
        Stage::Data => MacroStage::Data,
        Stage::EndOfHeaders => MacroStage::EndOfHeaders,
        Stage::EndOfMessage => MacroStage::EndOfMessage,
        Stage::Unknown | Stage::Header | Stage::Body => return None,
    })
}
