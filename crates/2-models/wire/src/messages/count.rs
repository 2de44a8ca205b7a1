//! The answer of `count_tokens`, which is one number.

use serde::Deserialize;

use crate::{
    Refusal,
    fields::{Build, malformed},
};

#[derive(Deserialize)]
struct Counted {
    input_tokens: u64,
}

/// Of a provider.
pub fn read_counted(body: &[u8]) -> Result<u64, Refusal> {
    let counted = serde_json::from_slice::<Counted>(body);
    counted.map(|counted| counted.input_tokens).map_err(|error| malformed("input_tokens", error))
}

/// For a client. A number that nobody counted, but that is an upper bound, says so.
pub fn write_counted(input_tokens: u64, estimated: bool) -> Vec<u8> {
    let notes = estimated.then(|| Build::new().with("estimated", &true).object());
    Build::new().with("input_tokens", &input_tokens).maybe("agent_os", notes).bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back() {
        for estimated in [true, false] {
            assert_eq!(read_counted(&write_counted(2_095, estimated)).unwrap(), 2_095);
        }
        assert_eq!(write_counted(7, false), br#"{"input_tokens":7}"#);
        assert!(read_counted(br#"{"type":"error"}"#).is_err());
    }
}
