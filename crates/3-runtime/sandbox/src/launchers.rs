//! The handle that everybody holds who starts sandboxes: one launcher for each profile, started when it is first needed and
//! again when it has ended. Who is suspected of ending launchers gets one in a [`Cell`], apart from the others.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{
        Arc, Mutex as SyncMutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agentos_protocol::sandbox::{DESCRIPTORS_MAX, Layer, Profile, SANDBOX_VERSION, SandboxOrder};
use agentos_types::{Code, Fault, Result};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use crate::{AppArmor, cell::Cell, holder::Process, launcher::Launcher, running::Running};

/// A launcher that lived this long was well: its end does not count against the next one.
const HEALTHY: Duration = Duration::from_secs(30);
/// The first restart is immediate, the second waits this long, each further one twice as long.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// An operator who repairs the machine does not want to wait longer than this.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Who makes the walls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The launcher itself.
    #[default]
    Native,
    /// `bwrap`, where it is the one program that may make namespaces.
    Bwrap,
    /// Nobody: for development alone.
    None,
}

impl Backend {
    pub const ALL: [Backend; 3] = [Backend::Native, Backend::Bwrap, Backend::None];

    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Native => "native",
            Backend::Bwrap => "bwrap",
            Backend::None => "none",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backend| backend.as_str() == text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxOptions {
    /// The program `agent-os-launch`, absolute.
    pub launcher: PathBuf,
    pub backend: Backend,
}

/// A launcher for a single sandbox, started before anything else is known but who it is for. It gets ready meanwhile, and is
/// ended if it turns out to be the wrong one.
#[derive(Debug)]
pub struct Early {
    process: Process,
    options: SandboxOptions,
    profile: Profile,
}

impl Early {
    /// Ends with the calling thread.
    pub fn start(options: SandboxOptions, profile: Profile) -> Result<Self> {
        Ok(Self { process: Process::spawn(&options, profile, Life::One)?, options, profile })
    }
}

/// Cheap to clone. When the last clone and the last [`Running`] are gone, the launchers end.
#[derive(Clone, Debug)]
pub struct Sandboxes {
    shared: Arc<Shared>,
    apparmor: AppArmor,
    cell: Cell,
}

/// What a launcher is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// As long as a server lives. It tries all walls first, and is held by a thread of its own.
    Many,
    /// A single sandbox.
    One,
}

#[derive(Debug)]
struct Shared {
    options: SandboxOptions,
    life: Life,
    early: SyncMutex<Option<Early>>,
    next_id: AtomicU64,
    places: SyncMutex<HashMap<(Profile, Cell), Place>>,
}

type Place = Arc<Mutex<Slot>>;

impl Shared {
    /// The early one, if it is for this profile.
    fn process(&self, profile: Profile) -> Result<Process> {
        let early = self
            .early
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take_if(|early| early.profile == profile && early.options == self.options);
        early.map_or_else(|| Process::spawn(&self.options, profile, Life::One), |early| Ok(early.process))
    }
}

/// The place of one launcher. Who starts it holds the lock, so that nobody starts a second one.
#[derive(Debug, Default)]
struct Slot {
    launcher: Option<(Weak<Launcher>, Instant)>,
    /// The common launcher waits for the next order; one of a cell ends with the last sandbox that it has made.
    kept: Option<Arc<Launcher>>,
    /// Launchers in a row that did not live long.
    failures: u32,
}

impl Slot {
    /// Somebody uses it or is about to.
    fn is_in_use(place: &Place) -> bool {
        Arc::strong_count(place) > 1
            || place
                .try_lock()
                .is_ok_and(|slot| slot.launcher.as_ref().is_some_and(|(launcher, _)| launcher.strong_count() > 0))
    }
}

impl Sandboxes {
    /// Starts nothing yet.
    pub fn open(options: SandboxOptions) -> Result<Self> {
        Self::new(options, Life::Many, None)
    }

    /// For a single sandbox, which is its own trial: nobody waits for the launcher, and its layers are only what the kernel
    /// tells by itself. On a runtime of one thread, which the sandbox does not outlive.
    pub fn open_for_one(options: SandboxOptions, early: Option<Early>) -> Result<Self> {
        Self::new(options, Life::One, early)
    }

    fn new(options: SandboxOptions, life: Life, early: Option<Early>) -> Result<Self> {
        if !std::fs::metadata(&options.launcher).is_ok_and(|found| found.is_file()) {
            return Err(Fault::new(Code::LAUNCHER_MISSING, "the program agent-os-launch is missing")
                .hint("install it beside agent-os")
                .detail(options.launcher.display()));
        }
        let shared = Arc::new(Shared {
            options,
            life,
            early: early.into(),
            next_id: AtomicU64::new(1),
            places: SyncMutex::default(),
        });
        Ok(Self { shared, apparmor: AppArmor::default(), cell: Cell::COMMON })
    }

    /// Every sandbox that this clone starts is made by the launcher of this cell.
    #[must_use]
    pub fn in_cell(&self, cell: Cell) -> Self {
        Self { cell, ..self.clone() }
    }

    /// Every sandbox that this clone starts begins in the profile for its kind.
    #[must_use]
    pub fn with_apparmor(mut self, apparmor: AppArmor) -> Self {
        self.apparmor = apparmor;
        self
    }

    pub fn backend(&self) -> Backend {
        self.shared.options.backend
    }

    /// Returns when the program runs. Its descriptors are those of the order, in that order; the number of the order is
    /// chosen here. Whoever stops waiting gets no sandbox: one that has begun by then is killed.
    pub async fn spawn(&self, profile: Profile, mut order: SandboxOrder, descriptors: Vec<OwnedFd>) -> Result<Running> {
        if order.descriptors.len() != descriptors.len() || descriptors.len() > DESCRIPTORS_MAX {
            return Err(Fault::internal(format!(
                "{} descriptors for an order of {}, at most {DESCRIPTORS_MAX}",
                descriptors.len(),
                order.descriptors.len()
            )));
        }
        order.apparmor = order.apparmor.or_else(|| self.apparmor.profile(profile).map(str::to_owned));
        if self.shared.life == Life::One {
            // Processors are given in turn among those of one server; each sandbox that is alone would get the same one.
            order.processors = None;
        }
        order.version = SANDBOX_VERSION;
        order.id = self.shared.next_id.fetch_add(1, Ordering::Relaxed);
        let launcher = self.launcher(profile).await?;
        let born = launcher.spawn(order, descriptors).await?;
        Running::new(born, launcher)
    }

    /// Starts the launcher of this profile unless it runs, so that it gets ready while something else is done.
    pub async fn prepare(&self, profile: Profile) -> Result<()> {
        self.launcher(profile).await.map(drop)
    }

    /// The walls as the launcher of this profile has found them on this machine.
    pub async fn layers(&self, profile: Profile) -> Result<Vec<Layer>> {
        let launcher = self.launcher(profile).await?;
        launcher.ready().await?;
        Ok(launcher.layers().to_vec())
    }

    /// Its process, if it runs.
    pub async fn launcher_pid(&self, profile: Profile) -> Option<u32> {
        let place = self.place(profile);
        let slot = place.lock().await;
        let launcher = slot.launcher.as_ref().and_then(|(launcher, _)| launcher.upgrade());
        launcher.filter(|launcher| !launcher.is_lost()).map(|launcher| launcher.pid())
    }

    /// Of the launcher that this clone uses. Places of cells that nobody uses any more are given up here.
    fn place(&self, profile: Profile) -> Place {
        let mut places = self.shared.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.retain(|(_, cell), place| *cell == Cell::COMMON || Slot::is_in_use(place));
        places.entry((profile, self.cell)).or_default().clone()
    }

    async fn launcher(&self, profile: Profile) -> Result<Arc<Launcher>> {
        let place = self.place(profile);
        let mut slot = place.lock().await;
        let before = slot.launcher.take().and_then(|(launcher, since)| Some((launcher.upgrade()?, since)));
        if let Some((launcher, since)) = before {
            if !launcher.is_lost() {
                slot.launcher = Some((Arc::downgrade(&launcher), since));
                return Ok(launcher);
            }
            slot.failures = if since.elapsed() >= HEALTHY { 1 } else { slot.failures.saturating_add(1) };
        }
        let wait = backoff(slot.failures);
        // A timer of no length still takes up to a millisecond.
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let started = match self.shared.life {
            Life::Many => Launcher::start(&self.shared.options, profile).await,
            Life::One => self.shared.process(profile).and_then(|process| Launcher::attend(process, profile)),
        };
        match started {
            Ok(launcher) => {
                slot.launcher = Some((Arc::downgrade(&launcher), Instant::now()));
                slot.kept = (self.cell == Cell::COMMON).then(|| launcher.clone());
                Ok(launcher)
            }
            Err(fault) => {
                slot.kept = None;
                slot.failures = slot.failures.saturating_add(1);
                Err(fault)
            }
        }
    }
}

/// Before the next start, after so many failures in a row.
fn backoff(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        // 2^10 times the first wait is far above the greatest one.
        more => BACKOFF_FIRST.saturating_mul(1 << (more - 2).min(10)).min(BACKOFF_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_no_wait_is_long() {
        let waits: Vec<_> = (0..9).map(|failures| backoff(failures).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 200, 400, 800, 1_600, 3_200, 5_000]);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }

    #[test]
    fn back_ends_are_told_by_their_names() {
        for backend in Backend::ALL {
            assert_eq!(Backend::parse(backend.as_str()), Some(backend));
        }
        assert_eq!(Backend::parse("docker"), None);
    }
}
