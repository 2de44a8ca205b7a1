//! What the sandbox's first process needs of an order, in a form that it reads without a parser: words that end with NUL.

use std::ffi::CString;

use agentos_protocol::sandbox::SandboxOrder;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub directory: CString,
    /// Program and arguments; never empty.
    pub command: Vec<CString>,
    /// `NAME=value`.
    pub environment: Vec<CString>,
}

impl Plan {
    /// Of a checked order.
    pub fn encode(order: &SandboxOrder) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut word = |parts: &[&str]| {
            parts.iter().for_each(|part| bytes.extend_from_slice(part.as_bytes()));
            bytes.push(0);
        };
        word(&[&order.command.len().to_string()]);
        word(&[&order.directory]);
        order.command.iter().for_each(|text| word(&[text]));
        order.environment.iter().for_each(|(name, value)| word(&[name, "=", value]));
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words =
            bytes.split_inclusive(|byte| *byte == 0).map(|word| CString::from_vec_with_nul(word.to_vec()).ok());
        let count: usize = words.next()??.to_str().ok()?.parse().ok()?;
        let directory = words.next()??;
        let mut command = words.collect::<Option<Vec<_>>>()?;
        if count == 0 || count > command.len() {
            return None;
        }
        let environment = command.split_off(count);
        Some(Self { directory, command, environment })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_is_cut_is_no_plan() {
        for bytes in [&b""[..], b"1", b"1\0", b"1\0/\0", b"0\0/\0", b"x\0/\0a\0", b"2\0/\0a\0", b"1\0/\0a"] {
            assert_eq!(Plan::decode(bytes), None, "{bytes:?}");
        }
        let plan = Plan::decode(b"1\0/\0a\0B=c\0").unwrap();
        assert_eq!((plan.command, plan.environment), (vec![c"a".into()], vec![c"B=c".into()]));
    }
}
