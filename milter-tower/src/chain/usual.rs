//! The macros that MTAs send where nobody asks for others.

use milter_core::macros::names as n;
use milter_core::{MacroStage, Needs};

use super::live::Live;
use crate::member::Scope;

/// Asks for what the MTA would have sent unasked, for members that asked for nothing at a stage at
/// which others did: a list takes the place of the MTA's own.
pub(super) fn with_usual(needs: Needs, members: &[Live]) -> Needs {
    let asks = |live: &Live, stage| live.view.agreement().macros().get(stage).is_some();
    let there = || {
        let mut members = members.iter();
        std::iter::from_fn(move || members.find(|live| live.out != Some(Scope::Connection)))
    };
    MacroStage::ALL.into_iter().fold(needs, |needs, stage| {
        let some = there().any(|live| asks(live, stage));
        let all = there().all(|live| asks(live, stage));
        if some && !all {
            needs.macros(stage, beside_facts(stage).iter().copied())
        } else {
            needs
        }
    })
}

/// Those that Postfix or Sendmail sends at a stage in its stock configuration, beside what a session's
/// facts come from.
// Postfix global/mail_params.h DEF_MILT_*_MACROS; sendmail cf/m4/cfhead.m4 confMILTER_MACROS_*
const fn beside_facts(stage: MacroStage) -> &'static [&'static str] {
    match stage {
        MacroStage::Connect => &[n::DAEMON_ADDR, n::IF_NAME, n::IF_ADDR],
        MacroStage::Mail => &[n::MAIL_MAILER, n::MAIL_HOST, n::MAIL_ADDR],
        _ => &[],
    }
}
