//! Arguments of `secret`. No argument takes a value: the process list and the shell's history would show it.

use agentos_types::SecretName;
use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum SecretCommands {
    /// Store a new secret; the value comes from standard input
    Set(SecretArg),
    /// List the names and versions of all secrets, never values
    List,
    /// Replace the value; the new one comes from standard input
    Rotate(SecretArg),
    /// Make all values of a secret unusable at once
    Revoke(SecretArg),
}

#[derive(Args, Debug)]
pub(crate) struct SecretArg {
    /// Name of the secret
    #[arg(value_name = "NAME")]
    pub(crate) name: SecretName,
}
