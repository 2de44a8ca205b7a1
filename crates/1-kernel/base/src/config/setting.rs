//! One row of the table of settings: its names, its type and what it is for.

/// Type and range of a setting.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Text,
    Choice(&'static [&'static str]),
    Boolean,
    Integer {
        min: u64,
        max: u64,
    },
    /// A decimal number from 0 to 1.
    Ratio,
    /// Comma-separated in the environment and in flags, an array in the file.
    List,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// `section.name` in the file.
    pub key: &'static str,
    /// Environment variable.
    pub env: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub about: &'static str,
    /// The feature is not built yet: setting it refuses the start.
    pub reserved: bool,
    /// Never shown, and not taken from the command line, which every user of the machine can read.
    pub secret: bool,
}

pub(super) const fn setting(
    key: &'static str,
    env: &'static str,
    kind: Kind,
    default: &'static str,
    about: &'static str,
) -> Setting {
    Setting { key, env, kind, default, about, reserved: false, secret: false }
}

pub(super) const fn reserved(key: &'static str, env: &'static str, about: &'static str) -> Setting {
    Setting { key, env, kind: Kind::Text, default: "", about, reserved: true, secret: false }
}

pub(super) const fn secret(key: &'static str, env: &'static str, about: &'static str) -> Setting {
    Setting { key, env, kind: Kind::Text, default: "", about, reserved: false, secret: true }
}

pub(super) const fn range(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}
