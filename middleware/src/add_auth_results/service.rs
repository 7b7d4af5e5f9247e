use crate::outgoing::outgoing_service;

outgoing_service! {
    /// Writes what filters found out about a mail's origin into a header; see the
    /// [module](super).
    AddAuthResults
}
