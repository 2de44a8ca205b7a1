//! Wall-clock instants as integer microseconds, the one unit that SQLite, Postgres and JSON share without rounding.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch, UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub const ZERO: Self = Self(0);
    /// Later than every instant that the product handles; stands for "never" in ordered columns.
    pub const NEVER: Self = Self(i64::MAX);

    pub fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    pub fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Moves forward; saturates instead of wrapping, so that a hostile duration cannot travel back in time.
    #[must_use]
    pub fn after(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    #[must_use]
    pub fn before(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Time from `earlier` to `self`; zero if the clock went back in between.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    pub fn is_never(self) -> bool {
        self == Self::NEVER
    }

    /// Beginning of the minute, UTC.
    #[must_use]
    pub fn minute_start(self) -> Self {
        Self(self.0 - self.0.rem_euclid(60_000_000))
    }

    /// Beginning of the day, UTC.
    #[must_use]
    pub fn day_start(self) -> Self {
        Self(self.0 - self.0.rem_euclid(MICROS_PER_DAY))
    }

    /// Beginning of the month, UTC.
    #[must_use]
    pub fn month_start(self) -> Self {
        let (_, _, day) = civil_from_days(self.0.div_euclid(MICROS_PER_DAY));
        Self(self.day_start().0 - (day - 1) * MICROS_PER_DAY)
    }
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// RFC 3339 in UTC with milliseconds, for people.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.div_euclid(MICROS_PER_DAY);
        let micros = self.0.rem_euclid(MICROS_PER_DAY);
        let (year, month, day) = civil_from_days(days);
        let (secs, millis) = (micros / 1_000_000, micros / 1_000 % 1_000);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{millis:03}Z",
            secs / 3600,
            secs / 60 % 60,
            secs % 60
        )
    }
}

/// Days since 1970-01-01 to a proleptic Gregorian date. Source: H. Hinnant, "chrono-compatible low-level date algorithms".
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn prints_rfc3339() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_795_392_000_000, "2026-11-23T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
    }

    #[test]
    fn periods_begin_in_utc() {
        // 2028-02-29T13:14:15.000Z
        let leap = Timestamp::from_millis(1_835_442_855_000);
        assert_eq!(leap.to_string(), "2028-02-29T13:14:15.000Z");
        assert_eq!(leap.minute_start().to_string(), "2028-02-29T13:14:00.000Z");
        assert_eq!(leap.day_start().to_string(), "2028-02-29T00:00:00.000Z");
        assert_eq!(leap.month_start().to_string(), "2028-02-01T00:00:00.000Z");
        assert_eq!(Timestamp(-1).month_start().to_string(), "1969-12-01T00:00:00.000Z");
    }
}
