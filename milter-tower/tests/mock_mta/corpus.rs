//! Mails that are hard on filters, through those MTAs that `survives` does not play.

use milter_tower::testing::{Fate, MockMta, MtaProfile, nasty_mails};
use milter_tower::{Needs, Response};

use crate::common::{Act, Scripted, name};

/// A verdict comes, and nothing is out of step.
#[tokio::test(start_paused = true)]
async fn a_verdict_comes_for_each_nasty_mail() {
    let all = || Needs::all().skip();
    for (profile, needs) in [
        (MtaProfile::stalwart(), all()),
        (MtaProfile::version_2(), all()),
        // Only macros and the end are told.
        (MtaProfile::postfix(), Needs::none()),
    ] {
        for nasty in nasty_mails() {
            let needs = needs.clone();
            let (filter, log) = Scripted::new(move |request, _| {
                Act::Answer(match name(request.event()).as_str() {
                    "negotiate" => Response::needs(needs.clone()),
                    _ => Response::proceed(),
                })
            });
            let mut mta = MockMta::with_profile(profile.clone(), filter);
            let done = mta.deliver(&nasty.mail).await;
            let shown = format!("{} through {}: {done}", nasty.name, profile.name());
            assert!(!matches!(done.fate, Fate::Failed(_)), "{shown}");
            assert!(done.is_accepted() || done.is_refused(), "{shown}");
            assert_eq!(log.all().last().unwrap(), "close", "{shown}");
        }
    }
}
