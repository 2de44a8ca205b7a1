//! Nothing but a seat for `tests/it`: the rules that hold for the whole tree and belong to no crate of it.
