//! Amounts as people write them: `512M`, `1.5` cores.

/// More than any machine has; a larger number is a slip of the keyboard.
const BYTES_MAX: u64 = 1 << 50;
const CORES_MAX: u64 = 4_096;

/// Bytes, or KiB, MiB, GiB and TiB by their first letter.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let refused = || format!("'{text}' is not an amount of memory; write a number and K, M, G or T, such as 512M");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.get(digits.len()..).unwrap_or_default().to_ascii_uppercase();
    let shift = match unit.trim_end_matches('B').trim_end_matches('I') {
        "" if unit.is_empty() || unit == "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(refused()),
    };
    let number: u64 = digits.parse().map_err(|_| refused())?;
    number.checked_mul(1 << shift).filter(|bytes| (1..=BYTES_MAX).contains(bytes)).ok_or_else(refused)
}

/// Cores with up to two decimals, as percent of one.
pub(crate) fn parse_cores(text: &str) -> Result<u64, String> {
    let refused = || format!("'{text}' is not a number of cores; write one such as 2 or 0.5");
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 2 {
        return Err(refused());
    }
    let whole: u64 = whole.parse().map_err(|_| refused())?;
    let hundredths: u64 = format!("{part:0<2}").parse().map_err(|_| refused())?;
    let percent = whole.checked_mul(100).and_then(|percent| percent.checked_add(hundredths));
    percent.filter(|percent| (1..=CORES_MAX * 100).contains(percent)).ok_or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts() {
        for (text, expected) in [
            ("1", Some(1)),
            ("512M", Some(512 << 20)),
            ("512m", Some(512 << 20)),
            ("2GiB", Some(2 << 30)),
            ("2GB", Some(2 << 30)),
            ("64k", Some(64 << 10)),
            ("1T", Some(1 << 40)),
            ("7B", Some(7)),
            ("0", None),
            ("", None),
            ("M", None),
            ("-1", None),
            ("1.5G", None),
            ("1X", None),
            ("1I", None),
            ("9999999T", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn cores() {
        for (text, expected) in [
            ("1", Some(100)),
            ("1.5", Some(150)),
            ("0.5", Some(50)),
            ("0.05", Some(5)),
            ("12.25", Some(1_225)),
            ("0", None),
            ("0.001", None),
            ("1.", None),
            (".5", None),
            ("-1", None),
            ("+1", None),
            ("50%", None),
            ("4097", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(parse_cores(text).ok(), expected, "{text}");
        }
    }
}
