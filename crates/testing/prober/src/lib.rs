//! The catalogue of escapes: every way out of a sandbox that is known, as code that tries it, with the walls that stop it.
//!
//! The program `agent-os-prober` runs inside of a sandbox, tries each attempt in a process of its own and writes one line of
//! JSON about it. Tests start it in whole sandboxes and in sandboxes without one wall, and compare with [`catalogue`]. It is
//! an attacker: it has no access to the product's code, and nothing of the product depends on it.
//!
//! Attempts harm nothing where they succeed: they change what the machine has to what it is already, or ask in a way
//! that is refused for another reason after the rights were looked at.

pub mod attempts;
pub mod catalogue;
pub mod facts;
pub mod kernel;
pub mod outcome;
pub mod page;
pub mod run;

pub use catalogue::{Attempt, Wall, catalogue};
pub use facts::Facts;
pub use outcome::{Line, Outcome, Verdict};
