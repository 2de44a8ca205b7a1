//! Whether what the command shared writable is full, so that a command that gave up because of it is told by it. What it had in
//! memory alone (`/tmp`, and `/workspace` without `--rw`) is gone with it and cannot be asked.

use agentos_cli::RunOrder;
use rustix::fs::{StatVfs, statvfs};

/// With less than this the next write of a program does not fit.
const REST_BYTES: u64 = 64 << 10;

/// What cannot be asked is not full.
pub(super) fn is_full(order: &RunOrder) -> bool {
    order.writable.iter().any(|share| statvfs(&share.path).is_ok_and(|found| has_no_room(&found)))
}

/// For others than root. File systems without a table of files have room for any number of them.
fn has_no_room(found: &StatVfs) -> bool {
    found.f_bavail.saturating_mul(found.f_frsize) < REST_BYTES || (found.f_files > 0 && found.f_favail == 0)
}
