use crate::outgoing::outgoing_service;

outgoing_service! {
    /// Removes what others claim to be our results of authentication; see the [module](super).
    StripAuthResults
}
