//! When a provider wants to see us again: seconds, milliseconds, or a date.

use std::time::Duration;

/// Nobody waits longer, so a longer time (or a mistaken one) is the same as this.
const MAX: Duration = Duration::from_secs(24 * 60 * 60);

pub fn from_headers(ms: Option<&str>, after: Option<&str>, date: Option<&str>) -> Option<Duration> {
    if let Some(ms) = ms.and_then(|ms| ms.trim().parse::<f64>().ok()) {
        return bounded(ms / 1_000.0);
    }
    let after = after?;
    seconds(after).or_else(|| {
        let (at, now) = (unix_s(after)?, unix_s(date?)?);
        Some(Duration::from_secs(at.saturating_sub(now)).min(MAX))
    })
}

/// `28`, `0.5`, `28s`.
pub fn seconds(text: &str) -> Option<Duration> {
    let text = text.trim();
    bounded(text.strip_suffix('s').unwrap_or(text).parse().ok()?)
}

fn bounded(seconds: f64) -> Option<Duration> {
    if !seconds.is_finite() || seconds < 0.0 {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(MAX).min(MAX))
}

/// The one form that RFC 9110 lets servers write: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn unix_s(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, text) = text.trim().split_once(", ")?;
    let mut parts = text.split(' ');
    let day: u64 = parts.next()?.parse().ok().filter(|day| (1..=31).contains(day))?;
    let name = parts.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = parts.next()?.parse().ok().filter(|year| (1970..=9999).contains(year))?;
    let mut clock = parts.next()?.split(':').map(|part| part.parse::<u64>().ok().filter(|part| *part < 61));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if parts.next() != Some("GMT") || hour > 23 {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second)
}

/// Days since 1970. The year begins in March, so that the leap day is its last.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let since_0 = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    since_0 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_read() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let date = Some("Fri, 31 Dec 1999 23:59:59 GMT");
        assert_eq!(from_headers(Some("250"), Some("7"), None), ms(250), "the exact one wins");
        assert_eq!(from_headers(None, Some("7"), None), ms(7_000));
        assert_eq!(from_headers(None, Some("0.5"), None), ms(500));
        assert_eq!(from_headers(None, Some("Sat, 01 Jan 2000 00:00:29 GMT"), date), ms(30_000));
        assert_eq!(
            from_headers(None, Some("Tue, 29 Feb 2000 00:00:00 GMT"), Some("Mon, 28 Feb 2000 23:59:00 GMT")),
            ms(60_000)
        );
        assert_eq!(from_headers(None, Some("Fri, 31 Dec 1999 00:00:00 GMT"), date), ms(0), "it is past");
        assert_eq!(from_headers(None, Some("Sat, 01 Jan 2000 00:00:29 GMT"), None), None, "against which clock?");
        assert_eq!(seconds("27.4s"), ms(27_400));
        assert_eq!(seconds("1e300"), Some(MAX));
        for bad in ["", "soon", "-1", "NaN", "inf", "Sat, 99 Jan 2000 00:00:29 GMT", "x, 1 Foo 2000 1:1:1 GMT"] {
            assert_eq!(from_headers(None, Some(bad), date), None, "{bad}");
        }
        assert_eq!(unix_s("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    }
}
