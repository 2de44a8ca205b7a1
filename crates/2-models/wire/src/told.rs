//! What one event of a provider's stream tells whoever only listens.

/// The first reason that applies, in the order of the variants from the end: an error is an error whatever else it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A keep-alive, the frame of a block, or something new.
    Other,
    /// Nothing but figures.
    Usage,
    /// Part of the answer.
    Content,
    /// The provider says that the answer is whole.
    Terminal,
    /// The provider says that it failed.
    Error,
    /// Not an event of this protocol.
    Malformed,
}
