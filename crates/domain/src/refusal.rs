//! What refusals of both machines have in common.

/// What kind of refusal it is, for mapping it to a status of a protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// The request makes no sense.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// It exists already, with other content.
    Exists,
    /// Not in this state.
    Conflict,
    /// It was there and is over.
    Gone,
    /// A limit is reached.
    Exhausted,
    /// It is larger than there is ever room for.
    TooLarge,
}
