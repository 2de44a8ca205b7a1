//! Where only `bwrap` may make namespaces: it makes them, and this program puts up everything else inside of them.

use std::process::ExitCode;

use crate::arguments::Inside;

use super::Child;

pub fn execute(_: &mut Child<'_>) -> Result<(), String> {
    Err("bwrap is not there".into())
}

pub fn run_inside(_: Inside) -> ExitCode {
    ExitCode::FAILURE
}
