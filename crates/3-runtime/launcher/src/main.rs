//! seat
fn main() {}
