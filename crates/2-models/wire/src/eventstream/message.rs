//! One message: the headers that say what it is, and its payload.

use bytes::{Buf, Bytes};

use super::Damaged;

const TRUNCATED: Damaged = Damaged::Form("has torn headers");

/// What Bedrock's headers say. Others are read over: they describe the payload's encoding, which is always JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `:message-type`: `event`, `exception` or `error`.
    pub kind: String,
    /// `:event-type`, `:exception-type` or `:error-code`.
    pub name: String,
    /// `:error-message`, of an `error` alone.
    pub text: Option<String>,
    pub payload: Bytes,
}

impl Message {
    pub(super) fn read(headers: &Bytes, payload: Bytes) -> Result<Self, Damaged> {
        let mut headers = headers.clone();
        let (mut kind, mut name, mut text) = (None, None, None);
        // Each header has at least two bytes, and there are at most `HEADERS_MAX`.
        while headers.has_remaining() {
            let length = headers.try_get_u8().map_err(|_| TRUNCATED)?;
            let header = take(&mut headers, usize::from(length))?;
            let Some(value) = value(&mut headers)? else { continue };
            let place = match &header[..] {
                b":message-type" => &mut kind,
                b":event-type" | b":exception-type" | b":error-code" => &mut name,
                b":error-message" => &mut text,
                _ => continue,
            };
            let value = String::from_utf8(value.to_vec()).map_err(|_| Damaged::Form("has a header that is no text"))?;
            if place.replace(value).is_some() {
                return Err(Damaged::Form("has a header twice"));
            }
        }
        let kind = kind.ok_or(Damaged::Form("does not say what it is"))?;
        Ok(Self { kind, name: name.unwrap_or_default(), text, payload })
    }
}

/// The value if it is a string; those of other types are passed over by their size.
fn value(headers: &mut Bytes) -> Result<Option<Bytes>, Damaged> {
    let kind = headers.try_get_u8().map_err(|_| TRUNCATED)?;
    let size = match kind {
        // True and false.
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        // A long, and a timestamp.
        5 | 8 => 8,
        // Bytes and text.
        6 | 7 => usize::from(headers.try_get_u16().map_err(|_| TRUNCATED)?),
        // A UUID.
        9 => 16,
        _ => return Err(Damaged::Form("has a header of a type that there is not")),
    };
    let value = take(headers, size)?;
    Ok((kind == 7).then_some(value))
}

fn take(bytes: &mut Bytes, length: usize) -> Result<Bytes, Damaged> {
    if bytes.len() < length { Err(TRUNCATED) } else { Ok(bytes.split_to(length)) }
}
