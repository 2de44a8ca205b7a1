//! The three standard streams as values: the process's own in the program, buffers in tests.

use std::{
    fmt,
    io::{self, BufWriter, IsTerminal, Read, Write},
};

/// Where a command reads from and prints to.
pub struct Console {
    pub input: Input,
    pub output: Box<dyn Write + Send>,
    pub errors: Box<dyn Write + Send>,
}

/// Standard input. A terminal is told apart, because a secret that is typed there would stay on the screen.
pub struct Input {
    pub stream: Box<dyn Read + Send>,
    pub is_terminal: bool,
}

impl Console {
    /// The process's own streams.
    pub fn process() -> Self {
        let input = Input { stream: Box::new(io::stdin()), is_terminal: io::stdin().is_terminal() };
        Self { input, output: Box::new(BufWriter::new(io::stdout())), errors: Box::new(io::stderr()) }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Console")
    }
}
