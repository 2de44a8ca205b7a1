//! Everything runs on the real launcher.

mod programs;
