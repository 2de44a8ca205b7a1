use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn cron(expression: &str, timezone: &str) -> Cadence {
    Cadence::Cron { expression: expression.into(), timezone: timezone.into() }
}

/// The firings after `start` are exactly these, one after the other.
#[track_caller]
fn check(expression: &str, timezone: &str, start: &str, expected: &[&str]) {
    let cadence = cron(expression, timezone);
    let mut now = at(start);
    for text in expected {
        now = following(&cadence, now, now).unwrap();
        assert_eq!(now.to_string(), at(text).to_string(), "'{expression}' in {timezone}");
    }
}

const BERLIN: &str = "Europe/Berlin";

#[test]
fn cron_follows_the_zone() {
    check("0 7 * * *", BERLIN, "2026-01-05T06:00:00Z", &["2026-01-06T06:00:00Z"]);
    check("0 7 * * *", BERLIN, "2026-07-01T04:59:59Z", &["2026-07-01T05:00:00Z", "2026-07-02T05:00:00Z"]);
    check("*/15 9-10 * * MON", "UTC", "2026-11-23T10:30:00Z", &["2026-11-23T10:45:00Z", "2026-11-30T09:00:00Z"]);
    check("0 0 29 2 *", "UTC", "2026-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
    check("0 12 * * *", "Asia/Kolkata", "2026-05-01T00:00:00Z", &["2026-05-01T06:30:00Z"]);
}

#[test]
fn a_time_that_summer_time_skips_fires_at_the_end_of_the_gap() {
    let eve = "2026-03-28T00:00:00Z";
    check("30 2 * * *", BERLIN, eve, &["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
    let after = "2026-03-28T12:00:00Z";
    // Everything in the gap falls together into one firing.
    check("0,30 2 * * *", BERLIN, after, &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z", "2026-03-30T00:30:00Z"]);
    check("30 2,3 * * *", BERLIN, after, &["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]);
    check("0 3 * * *", BERLIN, after, &["2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"]);
}

#[test]
fn a_time_that_comes_twice_fires_once() {
    let eve = "2026-10-24T12:00:00Z";
    check("30 2 * * *", BERLIN, eve, &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
    // Asked in the middle of the repeated hour, the repeated time is not found again.
    check("30 2 * * *", BERLIN, "2026-10-25T01:10:00Z", &["2026-10-26T01:30:00Z"]);
    check("0 3 * * *", BERLIN, "2026-10-25T01:10:00Z", &["2026-10-25T02:00:00Z"]);
}

#[test]
fn every_hour_means_elapsed_hours() {
    let (fall, spring) = ("2026-10-24T23:45:00Z", "2026-03-28T23:30:00Z");
    let halves = ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z"];
    check("*/30 * * * *", BERLIN, fall, &halves);
    check("0 * * * *", BERLIN, spring, &["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"]);
    // 02:00 is skipped and is no firing of its own: the next even hour is 04:00.
    check("0 */2 * * *", BERLIN, spring, &["2026-03-29T02:00:00Z", "2026-03-29T04:00:00Z"]);
}

#[test]
fn a_change_by_half_an_hour_neither_hangs_nor_shifts() {
    let zone = "Australia/Lord_Howe";
    check("0 5 * * *", zone, "2026-04-04T14:45:00Z", &["2026-04-04T18:30:00Z"]);
    check("0 */2 * * *", zone, "2026-04-04T14:45:00Z", &["2026-04-04T15:30:00Z"]);
    check("45 1 * * *", zone, "2026-04-04T12:00:00Z", &["2026-04-04T14:45:00Z", "2026-04-05T15:15:00Z"]);
}

/// Over a year of hard zones: always forward, and the wall clock shows what the expression says but in a gap.
#[test]
fn a_year_of_firings_goes_forward_only() {
    let zones = [BERLIN, "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia"];
    for zone in zones {
        for (expression, per_day) in [("15 */3 * * *", 8), ("30 2 * * *", 1), ("0 0,12 * * *", 2), ("20 1-3 * * *", 3)]
        {
            let cadence = cron(expression, zone);
            let (mut now, end) = (at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
            let mut firings = 0;
            while now < end {
                let next = following(&cadence, now, now).unwrap();
                assert!(next > now, "{expression} {zone} at {now}");
                (now, firings) = (next, firings + 1);
            }
            let days: i32 = 365;
            assert!((firings - days * per_day).abs() <= 6, "{expression} {zone}: {firings}");
        }
    }
}

#[test]
fn an_interval_keeps_its_grid_and_skips_what_was_missed() {
    let every = Cadence::Interval { every_s: 60 };
    let second = |s: i64| Timestamp(s * 1_000_000);
    assert_eq!(first(&every, second(5)).unwrap(), second(65));
    for (previous, now, next) in
        [(60, 60, 120), (60, 61, 120), (60, 119, 120), (60, 120, 180), (60, 250, 300), (60, 10, 120)]
    {
        assert_eq!(following(&every, second(previous), second(now)).unwrap(), second(next), "{previous} {now}");
    }
}

#[test]
fn what_cannot_fire_is_refused() {
    let now = at("2026-11-23T00:00:00Z");
    let minimum = Duration::from_secs(10);
    let refused = [
        Cadence::Interval { every_s: 0 },
        Cadence::Interval { every_s: 9 },
        Cadence::Interval { every_s: u64::MAX },
        cron("", "UTC"),
        cron("* * * *", "UTC"),
        cron("* * * * * *", "UTC"),
        cron("* * * * * UTC", "UTC"),
        cron("@hourly", "UTC"),
        cron("H * * * *", "UTC"),
        cron("60 * * * *", "UTC"),
        cron("0 0 31 2 *", "UTC"),
        cron("0 0 * * *", "Mars/Olympus"),
        cron("0 0 * * *", ""),
        cron("0 0 * * *", "../../etc/passwd"),
        cron("0 0 * * *", "UTC\n"),
        cron(&"1,".repeat(500), "UTC"),
    ];
    for cadence in refused {
        let fault = validate(&cadence, minimum, now).expect_err(&format!("{cadence:?} was accepted"));
        assert_eq!(fault.code, Code::SCHEDULE_INVALID, "{cadence:?}");
        assert!(fault.hint.is_some());
    }
    for cadence in [Cadence::Interval { every_s: 10 }, cron("* * * * *", "UTC"), cron(" 0  7 * * mon-fri ", BERLIN)] {
        validate(&cadence, minimum, now).unwrap();
    }
}

#[test]
fn a_long_minimum_holds_for_cron_too() {
    let now = at("2026-11-23T00:00:00Z");
    let hour = Duration::from_secs(3_600);
    for (expression, fits) in [("* * * * *", false), ("0,1 0 1 1 *", false), ("0 * * * *", true), ("0 7 * * *", true)] {
        assert_eq!(validate(&cron(expression, "UTC"), hour, now).is_ok(), fits, "{expression}");
    }
}

#[test]
fn the_end_of_the_calendar_is_an_error_and_no_overflow() {
    assert!(first(&cron("0 0 * * *", "UTC"), Timestamp::NEVER).is_err());
    assert_eq!(first(&Cadence::Interval { every_s: 60 }, Timestamp::NEVER).unwrap(), Timestamp::NEVER);
}
