//! Settings of the dialer: `[dialer]` in the configuration file.

use std::{path::PathBuf, time::Duration};

use agentos_types::{Code, Fault, Result, limits::FRAME_BYTES_MAX};

use crate::HostPort;

/// Most that `response_bytes_max` can be set to. The body has to fit into one worker frame of 4 MiB: as base64 it grows
/// by a third, and headers and the JSON around it come on top, so half a frame is what is safe to promise.
pub const RESPONSE_BYTES_CEILING: u64 = FRAME_BYTES_MAX as u64 / 2;
/// More hops than browsers accept are a loop.
const REDIRECTS_CEILING: u8 = 20;

/// What an operator decides about outgoing requests.
#[derive(Clone, Debug)]
pub struct DialerOptions {
    /// Targets whose addresses may be private. Matched against the host and port as the URL names them.
    pub private_exceptions: Vec<HostPort>,
    /// Whole request, from lookup to last body byte, where the caller names no limit.
    pub timeout_default: Duration,
    pub timeout_max: Duration,
    /// Body bytes where the caller names no limit.
    pub response_bytes_default: u64,
    pub response_bytes_max: u64,
    /// Redirects followed in one request.
    pub redirects_max: u8,
    /// Files of additional trusted certificate authorities, beside those of the system.
    pub extra_roots: Vec<PathBuf>,
}

impl Default for DialerOptions {
    fn default() -> Self {
        Self {
            private_exceptions: Vec::new(),
            timeout_default: Duration::from_secs(20),
            timeout_max: Duration::from_secs(60),
            response_bytes_default: 1024 * 1024,
            response_bytes_max: RESPONSE_BYTES_CEILING,
            redirects_max: 5,
            extra_roots: Vec::new(),
        }
    }
}

impl DialerOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |message: String| Err(Fault::new(Code::CONFIG_INVALID_VALUE, message));
        if self.timeout_default.is_zero() || self.timeout_default > self.timeout_max {
            return refuse(format!(
                "the default timeout is {} ms; it must lie between 1 and `dialer.timeout_max_ms` ({})",
                self.timeout_default.as_millis(),
                self.timeout_max.as_millis()
            ));
        }
        if self.response_bytes_max > RESPONSE_BYTES_CEILING {
            return refuse(format!(
                "`dialer.response_bytes_max` is {}; at most {RESPONSE_BYTES_CEILING} fit into a worker frame",
                self.response_bytes_max
            ));
        }
        if self.response_bytes_default > self.response_bytes_max {
            return refuse(format!(
                "the default of response bytes is {}; it must not exceed `dialer.response_bytes_max` ({})",
                self.response_bytes_default, self.response_bytes_max
            ));
        }
        if self.redirects_max > REDIRECTS_CEILING {
            return refuse(format!("{} redirects are allowed; the limit is {REDIRECTS_CEILING}", self.redirects_max));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(change: impl FnOnce(&mut DialerOptions), named: &str) {
        let mut options = DialerOptions::default();
        change(&mut options);
        let fault = options.validate().unwrap_err();
        assert_eq!(fault.code, Code::CONFIG_INVALID_VALUE);
        assert!(fault.message.contains(named), "{fault}");
    }

    #[test]
    fn contradictions_refuse_the_start() {
        DialerOptions::default().validate().unwrap();
        check(|options| options.timeout_default = Duration::ZERO, "default timeout");
        check(|options| options.timeout_max = Duration::from_secs(1), "timeout_max_ms");
        check(|options| options.response_bytes_max += 1, "response_bytes_max");
        check(|options| options.response_bytes_max = 10, "default of response bytes");
        check(|options| options.redirects_max = 21, "21 redirects");
    }
}
