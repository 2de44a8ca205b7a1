//! The order in the form that `execve` takes, checked. Pure: no system call is made here.

use std::ffi::CString;

use agentos_protocol::launch::{LAUNCH_VERSION, LaunchOrder, ProcessLimits};

const ARGUMENTS_MAX: usize = 256;
const VARIABLES_MAX: usize = 256;

/// A checked order. All strings are NUL-terminated now, because memory may be scarce once the limits are set.
#[derive(Debug)]
pub struct Order {
    /// The program, then its arguments; never empty.
    pub command: Vec<CString>,
    /// `NAME=value`, sorted by name.
    pub environment: Vec<CString>,
    pub directory: CString,
    pub limits: ProcessLimits,
}

impl Order {
    pub fn check(order: LaunchOrder) -> Result<Self, String> {
        if order.version != LAUNCH_VERSION {
            return Err(format!("launch order version {} is not supported, only {LAUNCH_VERSION}", order.version));
        }
        if order.command.len() > ARGUMENTS_MAX {
            return Err(format!("{} arguments are above the limit of {ARGUMENTS_MAX}", order.command.len()));
        }
        if order.environment.len() > VARIABLES_MAX {
            return Err(format!("{} variables are above the limit of {VARIABLES_MAX}", order.environment.len()));
        }
        let program = order.command.first().ok_or("the command is empty")?;
        require_absolute("program", program)?;
        require_absolute("directory", &order.directory)?;
        Ok(Self {
            command: order.command.into_iter().map(|word| without_nul("argument", word)).collect::<Result<_, _>>()?,
            environment: order
                .environment
                .into_iter()
                .map(|(name, value)| variable(&name, &value))
                .collect::<Result<_, _>>()?,
            directory: without_nul("directory", order.directory)?,
            limits: order.limits,
        })
    }
}

/// `LD_*` is refused because it makes the dynamic loader run other code than the signed program.
fn variable(name: &str, value: &str) -> Result<CString, String> {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !(starts_well && is_word) {
        return Err(format!("'{}' is not a variable name", name.escape_debug()));
    }
    if name.starts_with("LD_") {
        return Err(format!("the variable {name} would steer the dynamic loader and is refused"));
    }
    without_nul(name, format!("{name}={value}"))
}

fn require_absolute(what: &str, path: &str) -> Result<(), String> {
    match path.starts_with('/') {
        true => Ok(()),
        false => Err(format!("the {what} '{}' is not an absolute path", path.escape_debug())),
    }
}

fn without_nul(what: &str, text: String) -> Result<CString, String> {
    CString::new(text).map_err(|_| format!("{what} holds a NUL byte"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn order() -> LaunchOrder {
        LaunchOrder {
            version: LAUNCH_VERSION,
            command: vec!["/bin/true".into()],
            environment: BTreeMap::from([("A".into(), "1=2".into()), ("_b9".into(), String::new())]),
            directory: "/".into(),
            limits: ProcessLimits { memory_bytes: 1 << 30, cpu_seconds: 0, open_files: 64, file_bytes: 0 },
        }
    }

    fn check(change: impl FnOnce(&mut LaunchOrder), expected: &str) {
        let mut order = order();
        change(&mut order);
        let message = Order::check(order).unwrap_err();
        assert!(message.contains(expected), "'{message}' lacks '{expected}'");
    }

    fn set(name: &str, value: &str) -> impl FnOnce(&mut LaunchOrder) {
        let (name, value) = (name.to_owned(), value.to_owned());
        move |order| drop(order.environment.insert(name, value))
    }

    #[test]
    fn a_good_order_keeps_its_words() {
        let checked = Order::check(order()).unwrap();
        assert_eq!(checked.environment, [c"A=1=2".into(), CString::from(c"_b9=")]);
        assert_eq!(checked.command, [CString::from(c"/bin/true")]);
    }

    #[test]
    fn bad_orders_are_refused_with_the_reason() {
        check(|o| o.version = 2, "version 2");
        check(|o| o.command.clear(), "command is empty");
        check(|o| o.command = vec!["true".into()], "program 'true' is not an absolute path");
        check(|o| o.command = vec!["/x".into(); 257], "257 arguments");
        check(|o| o.command.push("a\0b".into()), "NUL");
        check(|o| o.directory = "tmp".into(), "directory 'tmp'");
        check(|o| o.directory = "/a\0".into(), "NUL");
        check(|o| o.environment.extend((0..257).map(|n| (format!("V{n}"), String::new()))), "above the limit of 256");
        check(set("LD_PRELOAD", "/x.so"), "LD_PRELOAD");
        check(set("LD_", ""), "dynamic loader");
        for name in ["", "9A", "A B", "A=B", "A-B", "Ä", "A\0"] {
            check(set(name, ""), "not a variable name");
        }
        check(set("OK", "a\0b"), "NUL");
    }
}
