//! The order for a back end without walls: every place of the sandbox is the directory of the host that it stands for. For
//! development on machines that forbid namespaces; nothing here keeps a program from anything.

use std::path::Path;

use agentos_protocol::sandbox::{Mount, Network, ProcessLimits, SANDBOX_VERSION, SandboxOrder};
use agentos_types::Result;

use super::{APP, Plan, WORKSPACE, host::path_text, refused};

impl Plan {
    /// Refuses what cannot be had without walls; listeners, users and views of `/proc` are simply not there.
    pub fn order_without_walls(&self) -> Result<SandboxOrder> {
        let workspace = match &self.workspace {
            Some(Mount::Bind { source, .. }) => source.clone(),
            _ => return Err(refused("a workspace in memory needs a sandbox, and the back end none makes none")),
        };
        let package = self.package.as_deref().map(path_text).transpose()?;
        let on_host = |word: &str| {
            let places = [(APP, package.as_deref()), (WORKSPACE, Some(workspace.as_str()))];
            places.into_iter().find_map(|(inside, outside)| replaced(word, inside, outside?))
        };
        let words = self.command.iter().map(|word| on_host(word).unwrap_or_else(|| word.clone()));
        let command: Vec<String> = words.collect();
        if !command.first().is_some_and(|program| Path::new(program).is_absolute()) {
            return Err(refused("without walls a program is named by its whole path"));
        }
        let mut environment = self.full_environment();
        environment.insert("HOME".to_owned(), workspace.clone());
        Ok(SandboxOrder {
            version: SANDBOX_VERSION,
            id: 0,
            command,
            environment,
            directory: on_host(&self.directory).unwrap_or_else(|| self.directory.clone()),
            hostname: self.hostname.clone(),
            host_id: None,
            mounts: Vec::new(),
            proc: self.proc,
            network: Network::Host,
            limits: ProcessLimits {
                address_space_bytes: self.limits.memory_bytes.filter(|_| !self.limits.memory_is_grouped),
                cpu_seconds: self.limits.cpu_seconds,
                open_files: self.limits.open_files,
                file_bytes: self.limits.file_bytes,
                // It would count what the same user does elsewhere.
                processes: None,
            },
            anonymous_programs: true,
            nice: self.nice,
            apparmor: None,
            descriptors: self.descriptors.clone(),
        })
    }
}

/// `/app/run` is `PACKAGE/run`; `/application` is another place.
fn replaced(word: &str, inside: &str, outside: &str) -> Option<String> {
    let rest = word.strip_prefix(inside)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("{outside}{rest}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::plan::HostRoot;

    fn plan(command: &[&str]) -> Plan {
        let host = Arc::new(HostRoot::survey(Path::new("/")).unwrap());
        let mut plan = Plan::new(host, command.iter().map(|word| (*word).to_owned()).collect());
        plan.package = Some("/srv/package".into());
        let source = "/srv/work".to_owned();
        plan.workspace = Some(Mount::Bind { source, target: WORKSPACE.to_owned(), writable: true, executable: true });
        plan
    }

    #[test]
    fn places_inside_become_places_outside() {
        let order = plan(&["/app/run", "/workspace/x", "/application", "--at=/app/y"]).order_without_walls().unwrap();
        assert_eq!(order.command, ["/srv/package/run", "/srv/work/x", "/application", "--at=/app/y"]);
        assert_eq!((order.directory.as_str(), order.environment["HOME"].as_str()), ("/srv/work", "/srv/work"));
        assert!(order.mounts.is_empty() && order.network == Network::Host && order.host_id.is_none());
    }

    #[test]
    fn what_needs_walls_is_refused() {
        assert!(plan(&["run"]).order_without_walls().unwrap_err().message.contains("whole path"));
        let in_memory = Plan { workspace: None, ..plan(&["/bin/true"]) };
        assert!(in_memory.order_without_walls().unwrap_err().message.contains("in memory"));
    }
}
