//! `init`: makes an installation. Keys are made once and never overwritten; a half-made directory is refused, not repaired.

use std::path::Path;

use agentos_audit::{LogIdentity, LogWriter};
use agentos_base::{Ambient, fs};
use agentos_identity::{NewToken, Tokens};
use agentos_store::{Store, StoreOptions};
use agentos_trust::{SigningKeyFile, TrustRoot};
use agentos_types::{Actor, Code, Fault, Result, Role, Timestamp, hex};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// What `installation.json` holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installation {
    pub schema: u32,
    /// Names the node in leases and the log of this node in checkpoints.
    pub node: String,
    pub created_at: Timestamp,
}

const INSTALLATION_SCHEMA: u32 = 1;
/// The command line's own token is renewed by `agent-os token create`; it must outlast a year of no use.
const CLI_TOKEN_LIFE: std::time::Duration = agentos_identity::LIFE_MAX;

impl Installation {
    pub fn load(layout: &Layout) -> Result<Self> {
        let path = layout.installation();
        let bytes = std::fs::read(&path).map_err(|_| {
            Fault::new(Code::NOT_INITIALISED, format!("{} is not an AgentOS data directory", layout.root().display()))
                .hint(format!("run: agent-os init --data-dir {}", layout.root().display()))
        })?;
        serde_json::from_slice(&bytes)
            .map_err(|source| Fault::new(Code::NOT_INITIALISED, format!("{}: {source}", path.display())))
    }

    /// The audit log of this node.
    pub fn log_identity(&self, layout: &Layout) -> Result<LogIdentity> {
        let key = SigningKeyFile::load(&layout.audit_key())
            .map_err(|fault| Fault { code: audit_code(fault.code), ..fault })?;
        LogIdentity::new(&self.node, &key.signing_key().to_bytes())
    }
}

fn audit_code(code: Code) -> Code {
    if code == Code::FILE_MODE { code } else { Code::AUDIT_KEY_UNUSABLE }
}

/// Makes keys, trust root, database and the command line's token.
pub async fn init(layout: &Layout, ambient: &Ambient) -> Result<Installation> {
    refuse_existing(layout)?;
    fs::create_private_directory(layout.root())?;
    for directory in [layout.keys(), layout.root().join("trust"), layout.packages(), layout.work()] {
        fs::create_private_directory(&directory)?;
    }
    let installation = Installation {
        schema: INSTALLATION_SCHEMA,
        node: format!("node-{:016x}", u64::from_le_bytes(ambient.random())),
        created_at: ambient.now(),
    };
    make_keys(layout, ambient)?;
    let identity = installation.log_identity(layout)?;
    fs::replace(&layout.audit_verifier_key(), format!("{}\n", identity.verifier_key()).as_bytes(), 0o644)?;
    make_database(layout, ambient, identity).await?;
    write_config(&layout.config())?;
    // Last, because its presence means that everything else stands.
    let bytes = serde_json::to_vec_pretty(&installation).map_err(Fault::internal)?;
    fs::replace(&layout.installation(), &bytes, 0o600)?;
    Ok(installation)
}

fn refuse_existing(layout: &Layout) -> Result<()> {
    if layout.installation().exists() {
        return Err(Fault::new(
            Code::ALREADY_INITIALISED,
            format!("{} holds an installation already", layout.root().display()),
        ));
    }
    if layout.keys().exists() {
        return Err(Fault::new(
            Code::ALREADY_INITIALISED,
            format!("{} holds keys of an installation that was not finished", layout.root().display()),
        )
        .hint("look at it, then move it away or choose an empty directory"));
    }
    Ok(())
}

fn make_keys(layout: &Layout, ambient: &Ambient) -> Result<()> {
    let root = SigningKeyFile::generate(&ambient.random());
    let publisher = SigningKeyFile::generate(&ambient.random());
    root.save(&layout.root_key())?;
    publisher.save(&layout.publisher_key())?;
    SigningKeyFile::generate(&ambient.random()).save(&layout.audit_key())?;
    let seal: [u8; 32] = ambient.random();
    fs::create_private(&layout.secrets_key(), hex::encode(&seal).as_bytes(), Code::SECRET_KEY_UNUSABLE)?;
    TrustRoot::create(&root, &publisher.public(), "operator", ambient.now())?.save(&layout.trust_root())
}

async fn make_database(layout: &Layout, ambient: &Ambient, identity: LogIdentity) -> Result<()> {
    let store = Store::open(StoreOptions {
        directory: layout.root().to_owned(),
        queue_max: 64,
        readers: 1,
        sequencer: Some(Box::new(LogWriter::new(identity, ambient.clone()))),
        ambient: ambient.clone(),
    })?;
    let tokens = Tokens::new(store, ambient.clone());
    let made = NewToken { life: Some(CLI_TOKEN_LIFE), ..NewToken::of_role("command line", Role::Admin) };
    let (token, _) = tokens.create(&Actor::System, made).await?;
    fs::create_private(&layout.cli_token(), token.expose().as_bytes(), Code::STORE_UNAVAILABLE)
}

fn write_config(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let text = "# Settings of this installation. List all of them with: agent-os config schema\n";
    fs::replace(path, text.as_bytes(), 0o600)
}

/// Reads the key that seals secrets: 64 hex digits.
pub fn secrets_key(layout: &Layout) -> Result<[u8; 32]> {
    let path = layout.secrets_key();
    let text = fs::read_private(&path, Code::SECRET_KEY_UNUSABLE)?;
    let malformed = || Fault::new(Code::SECRET_KEY_UNUSABLE, format!("{} does not hold 64 hex digits", path.display()));
    let digits = std::str::from_utf8(&text).map_err(|_| malformed())?;
    hex::decode(digits.trim()).ok_or_else(malformed)
}
