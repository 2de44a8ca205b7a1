//! The prober: runs inside a sandbox and tries what must not work.

fn main() {}
