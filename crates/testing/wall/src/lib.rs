//! Attacks on sandboxes, and real programs that have to work inside of them: see `tests/it`.
