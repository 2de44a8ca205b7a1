//! Holds no code: the simulation is in `tests/it`.
