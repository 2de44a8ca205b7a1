//! Handing out the newest checkpoint: one loop for each target, so that one that hangs holds up no other. The log itself
//! waits for none of them.

mod node;
mod status;
mod webhook;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agentos_audit::LogIdentity;
use agentos_base::{Ambient, Background};
use agentos_dialer::Dialer;
use agentos_proof::{Frontier, checkpoint};
use agentos_secrets::Secrets;
use agentos_store::Store;
use agentos_types::{
    Actor, Code, Fault, Result,
    audit::{AuditEvent, Decision},
};
use tokio_util::sync::CancellationToken;

use crate::{
    WitnessOptions,
    file::{self, WitnessFile},
    head::{self, Head, OwnLog},
    options::{NodeTarget, Webhook},
    rows::{self, TargetRow},
};

/// First wait after a failure; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// A witness that was away for a night is asked again within this.
const RETRY_LONGEST: Duration = Duration::from_secs(15 * 60);
/// What the start may wait for other nodes to tell what they hold.
const START_PATIENCE: Duration = Duration::from_secs(5);

/// What a publisher needs of the server.
#[derive(Clone)]
pub struct PublisherParts {
    pub store: Store,
    pub ambient: Ambient,
    pub identity: LogIdentity,
    pub dialer: Dialer,
    pub secrets: Secrets,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

struct Shared {
    parts: PublisherParts,
    options: WitnessOptions,
    targets: Vec<Target>,
    attempts: Mutex<BTreeMap<String, Attempts>>,
}

#[derive(Clone, Debug)]
enum Target {
    File(WitnessFile),
    Webhook(Webhook),
    Node(Box<NodeTarget>),
}

impl Target {
    fn name(&self) -> &str {
        match self {
            Target::File(_) => file::TARGET,
            Target::Webhook(hook) => &hook.target,
            Target::Node(node) => &node.target,
        }
    }
}

/// How the attempts at one target went since the start.
#[derive(Clone, Debug, Default)]
struct Attempts {
    /// Since the last good one.
    failures: u64,
    failures_total: u64,
    problem: Option<String>,
}

impl Publisher {
    pub fn new(options: WitnessOptions, parts: PublisherParts) -> Self {
        let file = options.file.iter().map(|path| Target::File(WitnessFile::new(path, options.file_bytes_max)));
        let webhooks = options.webhooks.iter().cloned().map(Target::Webhook);
        let nodes = options.nodes.iter().cloned().map(|node| Target::Node(Box::new(node)));
        let targets = file.chain(webhooks).chain(nodes).collect();
        Self { shared: Arc::new(Shared { parts, options, targets, attempts: Mutex::default() }) }
    }

    /// How the own log contradicts what was handed out, by target. To be asked before the first write of a start: what is
    /// appended to an older copy makes a fork that nobody can undo. A target that cannot be asked in time tells nothing; the
    /// loops ask it again.
    pub async fn contradictions(&self) -> Vec<(String, Fault)> {
        let asked = self.shared.targets.iter().map(|target| async move {
            let found = match self.held_at(target).await {
                Ok(Some((note, statements))) => self.contradiction(note, statements).await,
                Ok(None) => Ok(None),
                Err(fault) => Err(fault),
            };
            let target = target.name();
            found.unwrap_or_else(|fault| {
                tracing::warn!(target, code = %fault.code, message = %fault.message, "a witness could not be compared with");
                None
            })
            .map(|fault| (target.to_owned(), fault))
        });
        futures_util::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// The newest note that a target can show, and the changes of the key that it has kept.
    async fn held_at(&self, target: &Target) -> Result<Option<(String, Vec<String>)>> {
        match target {
            Target::File(file) => self.newest_in(file).await,
            // A webhook is a way out and none back.
            Target::Webhook(_) => Ok(None),
            Target::Node(node) => {
                let answer = tokio::time::timeout(START_PATIENCE, self.held_by(node)).await;
                match answer.unwrap_or_else(|_| Err(node::silent(node, START_PATIENCE))) {
                    Ok(held) => Ok(Some((held.note, held.rotations))),
                    Err(fault) if fault.code == Code::WITNESS_LOG_NOT_FOUND => Ok(None),
                    Err(fault) => Err(fault),
                }
            }
        }
    }

    /// Records and shows a contradiction that did not keep the server from starting.
    pub async fn start_contradicted(&self, target: &str, fault: &Fault) -> Result<()> {
        self.note_failure(target, fault);
        self.note_refusal(target, fault).await
    }

    /// One loop for each target, until the shutdown.
    pub fn spawn(&self, background: &Background) {
        for target in &self.shared.targets {
            let (this, target, shutdown) = (self.clone(), target.clone(), background.shutdown());
            background.spawn("witness", async move { this.run(&target, shutdown).await });
        }
    }

    async fn run(self, target: &Target, shutdown: CancellationToken) {
        let mut wait = Duration::ZERO;
        loop {
            // A witness that is silent holds up no stop; what it did not hear, it hears after the next start.
            let turned = tokio::select! {
                () = shutdown.cancelled() => break,
                turned = async {
                    tokio::time::sleep(wait).await;
                    self.turn(target).await
                } => turned,
            };
            wait = match turned {
                Ok(()) => self.shared.options.interval,
                Err(fault) => self.failed(target.name(), &fault).await,
            };
        }
    }

    /// The last act of a stop, when nothing is recorded any more: the file is at hand, and what it holds is what the next
    /// start is compared with.
    pub async fn finish(&self) {
        for target in self.shared.targets.iter().filter(|target| matches!(target, Target::File(_))) {
            if let Err(fault) = self.turn(target).await {
                self.failed(target.name(), &fault).await;
            }
        }
    }

    /// Brings one target up to the newest checkpoint.
    async fn turn(&self, target: &Target) -> Result<()> {
        let (own, name) = (OwnLog::now(&self.shared.parts.identity), target.name().to_owned());
        let reading = self.shared.parts.store.read(move |conn| Ok((Head::read(conn, &own)?, rows::read(conn, &name)?)));
        let (Some(head), row) = reading.await? else { return Ok(()) };
        let is_there = row.as_ref().is_some_and(|row| row.frontier == head.frontier && row.refused.is_none());
        if !is_there {
            let note = match target {
                Target::File(file) => self.append(file, &head).await?,
                Target::Webhook(hook) => self.post(hook, &head).await?,
                Target::Node(node) => self.show(node, &head, row.as_ref()).await?,
            };
            self.arrived(target.name(), head.frontier, note, row).await?;
        }
        self.with_attempts(target.name(), |attempts| (attempts.failures, attempts.problem) = (0, None));
        Ok(())
    }

    async fn arrived(&self, target: &str, frontier: Frontier, note: String, before: Option<TargetRow>) -> Result<()> {
        let at = self.shared.parts.ambient.now();
        let settled = before.is_some_and(|row| row.refused.is_some());
        let event = settled.then(|| self.event(target).fact("size", frontier.size()));
        let (target, row) = (target.to_owned(), TargetRow { frontier, at, note, refused: None });
        self.shared
            .parts
            .store
            .write(move |tx| {
                event.into_iter().for_each(|event| tx.record(event));
                rows::write(tx, &target, &row)
            })
            .await
    }

    async fn append(&self, file: &WitnessFile, head: &Head) -> Result<String> {
        let mut is_there = false;
        if let Some((newest, statements)) = self.newest_in(file).await? {
            if let Some(fault) = self.contradiction(newest.clone(), statements).await? {
                return Err(fault);
            }
            is_there = checkpoint::parse_unverified(&newest)?.size == head.size();
        }
        let (file, note, rotations) = (file.clone(), head.note.clone(), head.rotations.clone());
        let work = move || {
            if !is_there {
                file.append(&note)?;
            }
            file.keep_rotations(&rotations).map(|()| note)
        };
        tokio::task::spawn_blocking(work).await.map_err(Fault::internal)?
    }

    async fn newest_in(&self, file: &WitnessFile) -> Result<Option<(String, Vec<String>)>> {
        let (file, origin) = (file.clone(), checkpoint::origin(self.shared.parts.identity.log()));
        let work = move || {
            let newest = file.newest(&origin)?;
            newest.map(|note| Ok((note, file.rotations()?))).transpose()
        };
        tokio::task::spawn_blocking(work).await.map_err(Fault::internal)?
    }

    async fn contradiction(&self, note: String, statements: Vec<String>) -> Result<Option<Fault>> {
        let own = OwnLog::now(&self.shared.parts.identity);
        self.shared.parts.store.read(move |conn| head::contradiction(conn, &own, &note, &statements)).await
    }

    /// Shows a failure and tells how long to wait after it.
    async fn failed(&self, target: &str, fault: &Fault) -> Duration {
        let failures = self.note_failure(target, fault);
        if is_refusal(fault)
            && let Err(unrecorded) = self.note_refusal(target, fault).await
        {
            tracing::error!(target, code = %unrecorded.code, "the refusal by a witness could not be recorded");
        }
        let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        let wait = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LONGEST);
        // Some jitter: targets that failed together need not come back together.
        let jitter = self.shared.parts.ambient.random_up_to(u64::try_from(wait.as_millis()).unwrap_or(0) / 4);
        wait + Duration::from_millis(jitter)
    }

    fn note_failure(&self, target: &str, fault: &Fault) -> u64 {
        if is_refusal(fault) {
            tracing::error!(target, code = %fault.code, message = %fault.message, "A WITNESS REFUSES THE AUDIT LOG");
        } else {
            let detail = fault.detail.as_deref();
            tracing::warn!(target, code = %fault.code, message = %fault.message, detail, "a checkpoint did not reach a witness");
        }
        self.with_attempts(target, |attempts| {
            attempts.failures += 1;
            attempts.failures_total += 1;
            attempts.problem = Some(fault.to_string());
            attempts.failures
        })
    }

    /// One record when a refusal begins, or becomes another.
    async fn note_refusal(&self, target: &str, fault: &Fault) -> Result<()> {
        let event = self.event(target).decision(Decision::Failed).fact("code", fault.code.to_string());
        let event = event.fact("reason", fault.message.clone());
        let (target, code, now) = (target.to_owned(), fault.code, self.shared.parts.ambient.now());
        self.shared
            .parts
            .store
            .write(move |tx| {
                let row = rows::read(tx, &target)?;
                if row.as_ref().is_some_and(|row| row.refused == Some(code)) {
                    return Ok(());
                }
                let nothing = || TargetRow { frontier: Frontier::new(), at: now, note: String::new(), refused: None };
                tx.record(event);
                rows::write(tx, &target, &TargetRow { refused: Some(code), ..row.unwrap_or_else(nothing) })
            })
            .await
    }

    fn event(&self, target: &str) -> AuditEvent {
        let ambient = &self.shared.parts.ambient;
        AuditEvent::new(ambient.event_id(), ambient.now(), Actor::System, "audit.witness", target)
    }

    fn with_attempts<T>(&self, target: &str, change: impl FnOnce(&mut Attempts) -> T) -> T {
        let mut attempts = self.shared.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        change(attempts.entry(target.to_owned()).or_default())
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.shared.options.targets()).finish()
    }
}

/// A verdict about the log, and not a failure on the way.
fn is_refusal(fault: &Fault) -> bool {
    [Code::LOG_FORKED, Code::LOG_SHRUNK].contains(&fault.code)
}
