//! What the command line needs of the server's code: `init`, `up`, `doctor`, `migrate`, `sandbox run`.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use agentos_base::{Ambient, config, config::Source};
use agentos_cli::{
    DoctorReport, Host, InitReport, MadeFile, MigrateOrder, MigrateReport, RunOrder, RunReport, UpOptions, UpReport,
};
use agentos_sandbox::Early;
use agentos_trust::SigningKeyFile;
use agentos_types::{Result, machine::Machine};
use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::{
    checks, detach, install, install::Installation, layout::Layout, migrate, programs, sandbox_run, sandboxes::Walls,
    server,
};

#[derive(Default)]
pub struct ProgramHost {
    /// For `sandbox run`.
    early: Mutex<Option<Early>>,
}

impl ProgramHost {
    pub fn new(early: Option<Early>) -> Self {
        Self { early: Mutex::new(early) }
    }
}

#[async_trait]
impl Host for ProgramHost {
    async fn init(&self, data_dir: &Path, source: Source) -> Result<InitReport> {
        let layout = Layout::new(data_dir);
        let installation = install::init(&layout, &source, &Ambient::system()).await?;
        let made = |path: std::path::PathBuf, purpose: &str| MadeFile { path, purpose: purpose.to_owned() };
        Ok(InitReport {
            data_dir: data_dir.to_owned(),
            files: vec![
                made(layout.root_key(), "signs the trust root; move it to another machine"),
                made(layout.publisher_key(), "signs manifests"),
                made(layout.audit_key(), "signs checkpoints of the audit log"),
                made(layout.audit_verifier_key(), "verifies the audit log; give it to auditors"),
                made(layout.witness_key(), "cosigns checkpoints of other nodes' logs"),
                made(layout.secrets_key(), "seals secrets; keep a copy, without it they are lost"),
                made(layout.cli_token(), "lets this command line in"),
                made(layout.config(), "settings"),
            ],
            publisher_key_id: SigningKeyFile::load(&layout.publisher_key())?.keyid().to_owned(),
            audit_verifier_key: installation.log_identity(&layout)?.verifier_key().to_string(),
        })
    }

    async fn up(&self, options: UpOptions, ready: oneshot::Sender<UpReport>) -> Result<()> {
        if options.detach { detach::up(options, ready).await } else { server::run(options, ready).await }
    }

    async fn doctor(&self, data_dir: &Path, source: Source) -> Result<DoctorReport> {
        let layout = Layout::new(data_dir);
        Installation::load(&layout)?;
        let config = config::load(&layout.config(), &source)?;
        let launcher = programs::launcher()?;
        let machine = match Walls::survey(&config, &layout, &launcher) {
            Ok(walls) => Ok(walls.examine().await),
            Err(fault) => Err(fault),
        };
        let checks = checks::run(&layout, &config, &Ambient::system(), &launcher, &machine);
        // What could not be examined has its reason in the checks, and nothing is claimed.
        let machine = machine.unwrap_or_else(|_| Machine::of(Vec::new()));
        let controls = agentos_supervisor::controls(&machine);
        Ok(DoctorReport { checks, machine, controls })
    }

    async fn migrate(&self, data_dir: &Path, source: Source, order: MigrateOrder) -> Result<MigrateReport> {
        migrate::run(&Layout::new(data_dir), &source, order, Ambient::system())
    }

    async fn sandbox_run(&self, order: RunOrder) -> Result<RunReport> {
        let early = self.early.lock().unwrap_or_else(PoisonError::into_inner).take();
        sandbox_run::run(order, early).await
    }
}
