use milter_tower::Session;
use milter_tower::chain::Decided;

/// Which member of the chain within decided, or failed.
pub(crate) fn decided(session: &Session) -> Option<Decided> {
    let data = session.message_data();
    let decided = data.get();
    // Within a member of another chain that one's is found too.
    let is_outer = |decided: &Decided| {
        let outer = data.outer();
        !std::ptr::eq(data, outer) && outer.get().as_ref() == Some(decided)
    };
    decided.filter(|decided| !is_outer(decided))
}
