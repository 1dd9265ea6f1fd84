//! What refusals of both machines have in common.

/// What kind of refusal it is, for mapping it to a status of a protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// The request is invalid.
    Invalid,
    /// It does not exist.
    NotFound,
    /// It exists already, with other content.
    Exists,
    /// Not in this state.
    Conflict,
    /// It existed and is over.
    Gone,
    /// A limit was reached.
    Exhausted,
    /// It is larger than the maximum.
    TooLarge,
}
