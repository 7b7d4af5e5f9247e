//! Mails that are hard on filters, through each MTA.

use milter_tower::testing::{Fate, MockMta, nasty_mails};
use milter_tower::{Needs, Response};

use crate::common::{Act, Scripted, name};
use crate::profiles;

/// A verdict comes, and nothing is out of step.
#[tokio::test(start_paused = true)]
async fn a_verdict_comes_for_each_nasty_mail() {
    for profile in profiles() {
        for nasty in nasty_mails() {
            // Each event answered, or none but the end told.
            for silent in [false, true] {
                if silent && profile.name() != "Postfix" {
                    continue;
                }
                let (filter, log) = Scripted::new(move |request, _| {
                    let needs = Needs::all().skip();
                    Act::Answer(match name(request.event()).as_str() {
                        "negotiate" if silent => Response::needs(Needs::none().leading_space()),
                        "negotiate" => Response::needs(needs),
                        "end of message" => Response::accept().add_header("X-Seen", "yes"),
                        _ => Response::proceed(),
                    })
                });
                let mut mta = MockMta::with_profile(profile.clone(), filter);
                let done = mta.deliver(&nasty.mail).await;
                let shown = format!("{} through {}: {done}", nasty.name, profile.name());
                assert!(!matches!(done.fate, Fate::Failed(_)), "{shown}");
                assert!(done.is_accepted() || done.is_refused(), "{shown}");
                assert_eq!(log.all().last().unwrap(), "close", "{shown}");
                if done.is_accepted() && !silent {
                    assert_eq!(
                        done.message.headers().get_str("X-Seen"),
                        Some("yes"),
                        "{shown}"
                    );
                }
            }
        }
    }
}
