//! The attempts, by kind.

pub mod devices;
pub mod files;
pub mod leaks;
pub mod namespaces;
pub mod network;
pub mod privileges;
pub mod proc;
pub mod processes;
pub mod programs;
pub mod resources;
pub mod sockets;
pub mod surface;

/// Says by its exit status that it runs at all.
pub const RAN: &str = "--ran";
pub const RAN_STATUS: i32 = 42;
/// Says by its exit status whether it has more rights than the program that executed it.
pub const RIGHTS: &str = "--rights";
pub const MORE_RIGHTS_STATUS: i32 = 43;

/// For a program that was executed by an attempt.
pub fn report(argument: &str) -> Option<u8> {
    match argument {
        RAN => Some(RAN_STATUS as u8),
        RIGHTS if privileges::has_more_rights() => Some(MORE_RIGHTS_STATUS as u8),
        RIGHTS => Some(0),
        _ => None,
    }
}
