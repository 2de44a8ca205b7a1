//! Everything runs on the real launcher.
