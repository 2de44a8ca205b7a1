//! Holds no code: the stories are in `tests/it`.
