mod delay;
mod layer;
mod memory;
mod store;

use std::sync::{Arc, Mutex};

use milter_tower::testing::MtaProfile;
use milter_tower::{BoxError, Event, Needs, Request, Response, Stage};
use tower::{Service, service_fn};

use super::*;

fn profiles() -> [MtaProfile; 4] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::stalwart(),
        MtaProfile::version_2(),
    ]
}

/// Stalwart refuses a whole session with a recipient.
fn smtp_profiles() -> [MtaProfile; 3] {
    [
        MtaProfile::postfix(),
        MtaProfile::sendmail(),
        MtaProfile::version_2(),
    ]
}

/// What a filter saw.
#[derive(Clone, Debug, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn count(&self, name: &str) -> usize {
        let log = self.0.lock().unwrap();
        log.iter().filter(|seen| **seen == name).count()
    }

    /// A filter that has these needs, writes down what it sees, and accepts at a stage.
    fn filter(
        &self,
        needs: Needs,
        accepts: Option<Stage>,
    ) -> impl Service<Request, Response = Response, Error = BoxError, Future: Send> + Clone + Send + use<>
    {
        let log = Arc::clone(&self.0);
        service_fn(move |request: Request| {
            let stage = request.event().stage();
            let name = stage.map_or_else(
                || match request.event() {
                    Event::Negotiate(_) => "negotiate",
                    Event::MessageEnd(_) => "message end",
                    Event::SessionEnd => "session end",
                    _ => "close",
                },
                Stage::name,
            );
            log.lock().unwrap().push(name);
            let answer = match request.event() {
                Event::Negotiate(_) => Response::needs(needs.clone()),
                _ if stage.is_some() && stage == accepts => Response::accept(),
                _ => Response::proceed(),
            };
            std::future::ready(Ok(answer))
        })
    }
}
