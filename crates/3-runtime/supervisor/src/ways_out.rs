//! The way out of one life: listeners in its sandbox that the egress proxy answers, and where credentials are put in or models
//! are called, the file of certificates that its programs trust. An agent whose manifest leads nowhere gets neither.

use std::{
    fs,
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::PathBuf,
    sync::Arc,
};

use agentos_authority::Caller;
use agentos_base::fs::create_private_directory;
use agentos_egress::control::{Attached, Bytes, Egress, Guest, ModelHosts, limits_of};
use agentos_protocol::egress::EgressLimits;
use agentos_sandbox::plan::{Authority, Plan};
use agentos_types::{Fault, Manifest, Result, Timestamp};

/// What the supervisor opens ways out with.
#[derive(Clone, Debug)]
pub struct WaysOut {
    pub egress: Egress,
    /// Files of certificates, one for each life that has credentials or calls models.
    pub bundles: PathBuf,
}

/// Decided and not open yet: the sandbox is made with it.
pub(crate) struct Prepared {
    guest: Guest,
    limits: EgressLimits,
    bundle: Option<Bundle>,
}

/// Closed when dropped.
#[derive(Debug)]
pub(crate) struct WayOut {
    attached: Attached,
    _bundle: Option<Bundle>,
}

/// Taken away when dropped.
#[derive(Debug)]
struct Bundle(PathBuf);

impl WaysOut {
    /// What a server that was killed has left.
    pub(crate) fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(&self.bundles) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Fault::internal(error)),
            _ => {}
        }
        create_private_directory(&self.bundles)
    }

    /// Adds to the plan what the way out needs inside. Writes a file: not for async threads.
    pub(crate) fn prepare(
        &self,
        caller: Caller,
        manifest: &Manifest,
        models: Option<Arc<dyn ModelHosts>>,
        plan: &mut Plan,
        now: Timestamp,
    ) -> Result<Option<Prepared>> {
        let instance = caller.instance.clone();
        let Some(guest) = Guest::of(caller, manifest, models, now)? else { return Ok(None) };
        plan.listeners = guest.listeners();
        let bundle = match guest.certificate() {
            None => None,
            Some(certificate) => {
                let file = Bundle(self.bundles.join(format!("{instance}.pem")));
                fs::write(&file.0, plan.host.bundle(certificate)?).map_err(Fault::internal)?;
                // Certificates are nobody's secret, and inside it is another user who reads them.
                fs::set_permissions(&file.0, fs::Permissions::from_mode(0o644)).map_err(Fault::internal)?;
                // By its real name, which is how it is bound.
                let bundle = fs::canonicalize(&file.0).map_err(Fault::internal)?;
                plan.authority = Some(Authority { certificate: certificate.to_owned(), bundle });
                Some(file)
            }
        };
        Ok(Some(Prepared { guest, limits: limits_of(&manifest.egress), bundle }))
    }
}

impl Prepared {
    /// The sandbox stands, and these are its listeners.
    pub(crate) fn open(self, ways: &WaysOut, listeners: Vec<OwnedFd>) -> Result<WayOut> {
        let wanted = self.guest.listeners();
        if wanted.len() != listeners.len() {
            let message = format!("the sandbox came with {} listeners of {}", listeners.len(), wanted.len());
            return Err(Fault::internal(message));
        }
        let listeners = wanted.into_iter().zip(listeners).collect();
        let attached = ways.egress.attach(self.guest, listeners, self.limits)?;
        Ok(WayOut { attached, _bundle: self.bundle })
    }
}

impl WayOut {
    pub(crate) fn bytes(&self) -> Bytes {
        self.attached.bytes()
    }

    /// After the end of the sandbox: closes it and waits for the last count.
    pub(crate) async fn end(&self) {
        self.attached.end().await;
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.0) {
            tracing::warn!(file = %self.0.display(), %error, "a file of certificates stays until the next start");
        }
    }
}
