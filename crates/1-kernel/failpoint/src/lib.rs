//! Named instants of the kernel at which a test lets the process die, as `kill -9` or a lost machine would.
//!
//! Without the feature `armed` a point is a number that goes nowhere: nothing of it is in the program. With it, one point
//! can be armed for one of its hits; the process then says so on standard error and kills itself with SIGKILL, so that no
//! destructor, no flush and no answer comes after. A crate of its own, because a second build with the feature on then
//! leaves all crates alone that have no points. Not a way to inject errors: those have fakes and real broken things.

mod points;

pub use points::Point;

/// Whether this build can be armed.
pub const BUILT_IN: bool = cfg!(feature = "armed");

/// Variable of the armed build: `NAME` or `NAME:HIT`, the hit counted from 1.
#[cfg(feature = "armed")]
pub const VARIABLE: &str = "AGENTOS_FAILPOINT";

/// The process passes this instant.
#[cfg(not(feature = "armed"))]
#[inline(always)]
pub fn hit(_point: Point) {}

#[cfg(feature = "armed")]
pub use armed::{arm, hit};

#[cfg(feature = "armed")]
mod armed {
    use std::{
        io::Write,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use super::Point;

    struct Armed {
        point: Point,
        /// Hits until the end, this one included.
        left: AtomicU64,
    }

    static ARMED: OnceLock<Armed> = OnceLock::new();

    /// Once, at the start of the process. Fails on a text that names no point: an arming without effect would let a test
    /// pass that has not tested.
    pub fn arm(text: &str) -> Result<(), String> {
        let (name, hit) = text.split_once(':').unwrap_or((text, "1"));
        let point = Point::parse(name).ok_or_else(|| format!("no failpoint is called '{name}'"))?;
        let left = hit.parse().ok().filter(|left| *left > 0).ok_or_else(|| format!("'{hit}' is no hit of a point"))?;
        ARMED.set(Armed { point, left: AtomicU64::new(left) }).map_err(|_| "a failpoint is armed already".to_owned())
    }

    /// The process passes this instant, or dies at it.
    pub fn hit(point: Point) {
        let Some(armed) = ARMED.get().filter(|armed| armed.point == point) else { return };
        if armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            // The line is for the test, which must tell this end from every other. Without standard error it is lost.
            let _ = writeln!(std::io::stderr(), "failpoint {}: the process ends here", point.name());
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal ends every thread; this one must not get further in the meantime.
            loop {
                std::thread::park();
            }
        }
    }
}
