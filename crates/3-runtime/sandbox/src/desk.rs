//! What is under way at one launcher: orders that wait for their answer, sandboxes whose end is still to be told. Shared by
//! those who ask and by the thread that reads the answers.

use std::{
    collections::HashMap,
    os::fd::OwnedFd,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use agentos_protocol::sandbox::{FromLauncher, Layer, Profile, SANDBOX_VERSION};
use agentos_types::{Code, Fault, Result};
use tokio::sync::oneshot;

use crate::running::{Ended, Leash};

/// A sandbox that has begun, before anybody holds it. Killed when nobody does.
#[derive(Debug)]
pub(crate) struct Born {
    pub(crate) pid: u32,
    pub(crate) leash: Leash,
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) ended: oneshot::Receiver<Ended>,
}

type Reply = oneshot::Sender<Result<Born>>;

#[derive(Debug)]
pub(crate) struct Desk {
    profile: Profile,
    /// The walls of this machine, told with the greeting.
    layers: OnceLock<Vec<Layer>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    ready: Option<oneshot::Sender<Result<()>>>,
    waiting: HashMap<u64, Reply>,
    living: HashMap<u64, oneshot::Sender<Ended>>,
    /// Why this launcher is no more.
    lost: Option<String>,
    /// Orders without an answer in time since the launcher last said anything.
    unanswered: u32,
}

impl Desk {
    pub(crate) fn new(profile: Profile, ready: oneshot::Sender<Result<()>>) -> Self {
        let state = Mutex::new(State { ready: Some(ready), ..State::default() });
        Self { profile, layers: OnceLock::new(), state }
    }

    pub(crate) fn profile(&self) -> Profile {
        self.profile
    }

    /// None before the greeting, which comes before any answer.
    pub(crate) fn layers(&self) -> &[Layer] {
        self.layers.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Numbers and channels: whole after any panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.state().lost.is_some()
    }

    /// Before the order is sent, so that no answer can come too early.
    pub(crate) fn expect(&self, id: u64) -> Result<oneshot::Receiver<Result<Born>>> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.state();
        if let Some(reason) = &state.lost {
            return Err(self.gone(reason));
        }
        state.waiting.insert(id, reply);
        Ok(answer)
    }

    pub(crate) fn forget(&self, id: u64) {
        self.state().waiting.remove(&id);
    }

    /// No answer came in time. Returns how often that has happened since the launcher last said anything.
    pub(crate) fn unanswered(&self) -> u32 {
        let mut state = self.state();
        state.unanswered = state.unanswered.saturating_add(1);
        state.unanswered
    }

    /// An error: the launcher does not keep to the protocol, and nothing that it says can be relied on.
    pub(crate) fn take(&self, message: FromLauncher, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        self.state().unanswered = 0;
        let is_greeting = matches!(message, FromLauncher::Ready { .. });
        // Its version is not known yet, nor its walls.
        if !is_greeting && self.layers.get().is_none() {
            return Err("it spoke before it was ready".into());
        }
        match message {
            FromLauncher::Ready { version, profile, layers } => self.on_ready(version, profile, layers),
            FromLauncher::Spawned { id, pid } => self.on_spawned(id, pid, descriptors),
            FromLauncher::Failed { id, stage, message } => {
                if let Some(reply) = self.state().waiting.remove(&id) {
                    // Who no longer waits needs no reason.
                    let _ = reply.send(Err(not_made(&stage, &message)));
                }
                Ok(())
            }
            FromLauncher::Ended { id, end, rusage } => {
                if let Some(told) = self.state().living.remove(&id) {
                    // Who no longer holds it has no use for its end.
                    let _ = told.send(Ended { end, rusage, is_launcher_lost: false });
                }
                Ok(())
            }
        }
    }

    fn on_ready(&self, version: u32, profile: Profile, layers: Vec<Layer>) -> Result<(), String> {
        if version != SANDBOX_VERSION {
            return Err(format!("it speaks version {version} of the protocol, this program {SANDBOX_VERSION}"));
        }
        if profile != self.profile {
            return Err(format!("it has the profile {}, not {}", profile.as_str(), self.profile.as_str()));
        }
        for layer in &layers {
            let (name, active, detail) = (&layer.name, layer.is_active, &layer.detail);
            tracing::debug!(profile = profile.as_str(), %name, active, %detail, "a wall of sandboxes");
        }
        self.layers.set(layers).map_err(|_| "it said twice that it is ready")?;
        // For a single sandbox nobody waits.
        self.state().ready.take().map(|ready| ready.send(Ok(())));
        Ok(())
    }

    fn on_spawned(&self, id: u64, pid: u32, descriptors: Vec<OwnedFd>) -> Result<(), String> {
        let mut descriptors = descriptors.into_iter();
        let leash = Leash::new(descriptors.next().ok_or("a sandbox came without its pidfd")?);
        let (told, ended) = oneshot::channel();
        let mut state = self.state();
        // Not waited for any more: the leash kills it here.
        let Some(reply) = state.waiting.remove(&id) else { return Ok(()) };
        state.living.insert(id, told);
        drop(state);
        // The same if it comes back.
        let _ = reply.send(Ok(Born { pid, leash, listeners: descriptors.collect(), ended }));
        Ok(())
    }

    /// The launcher has ended and with it all its sandboxes: tells everybody. The first reason counts.
    pub(crate) fn lose(&self, reason: &str) {
        let mut state = self.state();
        let reason = state.lost.get_or_insert_with(|| reason.to_owned()).clone();
        let (ready, waiting, living) =
            (state.ready.take(), std::mem::take(&mut state.waiting), std::mem::take(&mut state.living));
        drop(state);
        if let Some(ready) = ready {
            let _ = ready.send(Err(self.not_ready(&reason)));
        }
        for (_, reply) in waiting {
            let _ = reply.send(Err(self.gone(&reason)));
        }
        for (_, told) in living {
            let _ = told.send(Ended::lost());
        }
    }

    fn gone(&self, reason: &str) -> Fault {
        let profile = self.profile.as_str();
        Fault::new(Code::LAUNCHER_LOST, format!("the launcher of the profile {profile} has ended: {reason}"))
    }

    fn not_ready(&self, reason: &str) -> Fault {
        let profile = self.profile.as_str();
        Fault::new(Code::LAUNCHER_NOT_READY, format!("the launcher of the profile {profile} does not start: {reason}"))
    }
}

fn not_made(stage: &str, message: &str) -> Fault {
    Fault::new(Code::LAUNCH_FAILED, format!("{stage}: {message}"))
}

#[cfg(test)]
mod tests {
    use agentos_protocol::sandbox::{End, Rusage};

    use super::*;

    fn desk() -> (Desk, oneshot::Receiver<Result<()>>) {
        let (ready, is_ready) = oneshot::channel();
        (Desk::new(Profile::Agent, ready), is_ready)
    }

    fn ready(version: u32, profile: Profile) -> FromLauncher {
        FromLauncher::Ready { version, profile, layers: Vec::new() }
    }

    fn greeted() -> (Desk, oneshot::Receiver<Result<()>>) {
        let (desk, is_ready) = desk();
        desk.take(ready(SANDBOX_VERSION, Profile::Agent), Vec::new()).unwrap();
        (desk, is_ready)
    }

    #[test]
    fn a_launcher_of_another_version_or_profile_is_refused() {
        let (desk, _is_ready) = desk();
        assert!(desk.take(ready(1, Profile::Agent), Vec::new()).unwrap_err().contains("version 1"));
        assert!(desk.take(ready(SANDBOX_VERSION, Profile::Dev), Vec::new()).unwrap_err().contains("profile dev"));
        desk.take(ready(SANDBOX_VERSION, Profile::Agent), Vec::new()).unwrap();
        assert!(desk.take(ready(SANDBOX_VERSION, Profile::Agent), Vec::new()).unwrap_err().contains("twice"));
    }

    #[test]
    fn a_sandbox_without_a_pidfd_is_no_sandbox() {
        let (desk, _is_ready) = greeted();
        let _answer = desk.expect(1).unwrap();
        assert!(desk.take(FromLauncher::Spawned { id: 1, pid: 2 }, Vec::new()).unwrap_err().contains("pidfd"));
    }

    #[test]
    fn an_answer_before_the_greeting_is_none() {
        let (desk, _is_ready) = desk();
        let mut answer = desk.expect(1).unwrap();
        let failed = FromLauncher::Failed { id: 1, stage: "x".into(), message: "y".into() };
        assert!(desk.take(failed, Vec::new()).unwrap_err().contains("before it was ready"));
        assert!(answer.try_recv().is_err());
        assert!(desk.layers().is_empty());
    }

    #[test]
    fn answers_that_nobody_waits_for_change_nothing() {
        let (desk, _is_ready) = greeted();
        let failed = FromLauncher::Failed { id: 9, stage: "x".into(), message: "y".into() };
        desk.take(failed, Vec::new()).unwrap();
        let ended = FromLauncher::Ended { id: 9, end: End::Killed, rusage: Rusage::default() };
        desk.take(ended, Vec::new()).unwrap();
        assert!(!desk.is_lost());
    }

    #[test]
    fn the_loss_reaches_all_who_wait_and_all_who_come_later() {
        let (desk, mut is_ready) = desk();
        let mut answer = desk.expect(1).unwrap();
        desk.lose("killed");
        desk.lose("a second reason");
        let never_ready = is_ready.try_recv().unwrap().unwrap_err();
        assert_eq!(never_ready.code, Code::LAUNCHER_NOT_READY);
        assert!(never_ready.message.contains("killed"), "{never_ready}");
        assert_eq!(answer.try_recv().unwrap().unwrap_err().code, Code::LAUNCHER_LOST);
        assert!(desk.expect(2).unwrap_err().message.ends_with("has ended: killed"));
    }
}
