//! `${secret:NAME}` in the value of a header. One parser for the door and the executor: the names that were checked are
//! the names that are filled in.

use agentos_types::{Code, Fault, Result, SecretName};

const OPEN: &str = "${secret:";

/// A part of a header's value.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'v> {
    Text(&'v str),
    Secret(SecretName),
}

/// The value in order. An opening without a valid end is refused: it would be sent as it stands.
pub fn pieces(value: &str) -> Result<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (name, tail) = after
            .split_once('}')
            .ok_or_else(|| Fault::new(Code::SYSCALL_INVALID, "a header has '${secret:' without a closing brace"))?;
        pieces.extend([Piece::Text(before), Piece::Secret(name.parse()?)]);
        rest = tail;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_wherever_they_stand_and_half_ones_refused() {
        let secret = |name: &str| Piece::Secret(name.parse().unwrap());
        let expected = [Piece::Text("Bearer "), secret("a"), Piece::Text("."), secret("b"), Piece::Text("")];
        assert_eq!(pieces("Bearer ${secret:a}.${secret:b}").unwrap(), expected);
        assert_eq!(pieces("$ {secret:a}").unwrap(), [Piece::Text("$ {secret:a}")]);
        assert_eq!(pieces("${secret:a").unwrap_err().code, Code::SYSCALL_INVALID);
        for name in ["", "A", "a b", "${secret:a"] {
            assert!(pieces(&format!("x${{secret:{name}}}")).is_err(), "{name:?}");
        }
    }
}
