//! How quick a target is, and how often it fails: moving averages in integers, so that a choice can be made again from its
//! record, and the last times themselves, for a percentile.

use std::time::Duration;

/// The newest counts for a fifth; of failures for a tenth.
const SHARE: u64 = 5;
const ERROR_SHARE: u32 = 10;
const SAMPLES: usize = 64;
/// Below this many a percentile says nothing.
const SAMPLES_MIN: usize = 20;

#[derive(Clone, Debug, Default)]
pub(crate) struct Latency {
    first_byte_us: Option<u64>,
    samples: Vec<u32>,
    next: usize,
}

impl Latency {
    pub fn answered(&mut self, first_byte: Duration) {
        let us = u64::try_from(first_byte.as_micros()).unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        self.first_byte_us = Some(match self.first_byte_us {
            None => us,
            Some(old) => (old * (SHARE - 1) + us) / SHARE,
        });
        let sample = u32::try_from(us).unwrap_or(u32::MAX);
        if self.samples.len() < SAMPLES {
            self.samples.push(sample);
        } else if let Some(oldest) = self.samples.get_mut(self.next) {
            *oldest = sample;
        }
        self.next = (self.next + 1) % SAMPLES;
    }

    pub fn is_known(&self) -> bool {
        self.first_byte_us.is_some()
    }

    pub fn first_byte_us(&self) -> Option<u64> {
        self.first_byte_us
    }

    /// The 95th percentile of the last times.
    pub fn p95(&self) -> Option<Duration> {
        if self.samples.len() < SAMPLES_MIN {
            return None;
        }
        let mut sorted = self.samples.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 95 / 100).map(|us| Duration::from_micros(u64::from(*us)))
    }
}

/// The share of attempts that failed, in thousandths.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ErrorRate(u32);

impl ErrorRate {
    pub fn count(&mut self, succeeded: bool) {
        if succeeded {
            self.0 -= self.0.div_ceil(ERROR_SHARE);
        } else {
            self.0 += (1_000 - self.0) / ERROR_SHARE;
        }
    }

    pub fn permille(self) -> u32 {
        self.0
    }
}
