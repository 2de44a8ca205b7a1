//! What is being measured at the moment, on standard error: a run takes minutes.

use std::io::{self, Write};

#[derive(Clone, Copy, Debug)]
pub struct Progress {
    pub is_quiet: bool,
}

impl Progress {
    pub fn say(self, what: &str) {
        if !self.is_quiet {
            // Nobody can be told that nobody can be told.
            let _ = writeln!(io::stderr(), "  {what}");
        }
    }
}
