use crate::outgoing::outgoing_service;

outgoing_service! {
    /// Sets or removes a header of every mail that the service within lets pass; see the
    /// [module](super).
    SetHeader
}
