//! Which installation and which server a command means: the data directory, the address, the token.
//!
//! The token of the data directory opens everything, so it goes to this machine only; another server gets a token only
//! from `AGENT_OS_TOKEN`, which a person has set for it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use agentos_client::{Client, is_on_this_machine};
use agentos_types::{Code, Fault, Result};

use crate::{args::Globals, exit::usage, server_file::ServerFile};

/// Token of the command line in the data directory, mode 0600; written by `init`.
pub const TOKEN_FILE: &str = "cli.token";
/// Key that `sign` uses when none is named.
pub const PUBLISHER_KEY_FILE: &str = "keys/publisher.key";
/// Public half of the audit log's key, one line, which `audit verify` trusts when none is named.
pub const AUDIT_VERIFIER_KEY_FILE: &str = "keys/audit.vkey";
/// The embedded database.
pub const DATABASE_FILE: &str = "agent-os.db";

const HOME_VARIABLE: &str = "AGENT_OS_HOME";
const URL_VARIABLE: &str = "AGENT_OS_URL";
const TOKEN_VARIABLE: &str = "AGENT_OS_TOKEN";
/// A certificate bundle of a whole system has a quarter of this.
const PEM_BYTES_MAX: u64 = 1024 * 1024;

type Environment = BTreeMap<String, String>;

/// An empty variable counts as unset, as `.env` files write it.
fn variable<'e>(environment: &'e Environment, name: &str) -> Option<&'e str> {
    environment.get(name).map(String::as_str).filter(|text| !text.is_empty())
}

/// `--data-dir`, else `AGENT_OS_HOME`, else the user's own directory.
pub(crate) fn data_dir(globals: &Globals, environment: &Environment) -> Result<PathBuf> {
    let named = globals.data_dir.clone().or_else(|| variable(environment, HOME_VARIABLE).map(PathBuf::from));
    let directory =
        named.or_else(|| variable(environment, "HOME").map(|home| Path::new(home).join(".local/share/agent-os")));
    let directory = directory
        .ok_or_else(|| usage("no data directory is named, and HOME is not set", "name one with --data-dir DIR"))?;
    std::path::absolute(&directory)
        .map_err(|error| usage(format!("{}: {error}", directory.display()), "name a directory"))
}

/// `--url` or `AGENT_OS_URL`: a server that is meant even where a local one exists.
pub(crate) fn named_url(globals: &Globals, environment: &Environment) -> Option<String> {
    globals.url.clone().or_else(|| variable(environment, URL_VARIABLE).map(str::to_owned))
}

/// A client of the server that is meant. Makes no connection yet.
pub(crate) fn client(globals: &Globals, environment: &Environment) -> Result<Client> {
    let named_pem = globals.ca.as_deref().map(read_pem).transpose()?;
    let token = variable(environment, TOKEN_VARIABLE).map(str::to_owned);
    if let Some(url) = named_url(globals, environment) {
        let token = match token {
            None if is_on_this_machine(&url) => local_token(globals, environment),
            named => Ok(named),
        };
        return Client::new(url, token?, named_pem);
    }
    let directory = data_dir(globals, environment)?;
    let server = ServerFile::load(&directory)?.ok_or_else(|| not_running(&directory))?;
    let pem = match (named_pem, server.tls_cert_file) {
        (None, Some(path)) => Some(read_pem(&path)?),
        (named, _) => named,
    };
    let token = if token.is_some() { token } else { local_token(globals, environment)? };
    Client::new(server.url, token, pem)
}

fn not_running(directory: &Path) -> Fault {
    let shown = directory.display();
    let fault = Fault::new(Code::NOT_RUNNING, format!("no server runs for the data directory {shown}"));
    if directory.join(DATABASE_FILE).exists() {
        fault.hint(format!("start it with: agent-os up --detach --data-dir {shown}"))
    } else {
        fault.hint(format!("nothing is there yet; make it with: agent-os init --data-dir {shown}"))
    }
}

/// The token of the data directory, if there is one. A file that others can read is refused.
fn local_token(globals: &Globals, environment: &Environment) -> Result<Option<String>> {
    let path = data_dir(globals, environment)?.join(TOKEN_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let bytes = agentos_base::fs::read_private(&path, Code::UNAUTHENTICATED)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Fault::new(Code::UNAUTHENTICATED, format!("{} is not a token", path.display())))?;
    Ok(Some(text.trim().to_owned()))
}

fn read_pem(path: &Path) -> Result<Vec<u8>> {
    let unusable = |why: String| usage(format!("{}: {why}", path.display()), "name a PEM file with --ca FILE");
    let metadata = fs::metadata(path).map_err(|error| unusable(error.to_string()))?;
    if metadata.len() > PEM_BYTES_MAX {
        return Err(unusable(format!("it is larger than {PEM_BYTES_MAX} bytes")));
    }
    fs::read(path).map_err(|error| unusable(error.to_string()))
}

#[cfg(test)]
mod tests;
