//! The catalogue of escapes, tried inside of whole sandboxes and of sandboxes with holes.

mod ground;
mod planted;
mod sandbox;
mod suite;
