//! The sandbox of the proxy: the machine's network, its own program with the libraries that it needs, and the few files by
//! which names and certificates are found. No data directory, no home, no other program.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use agentos_protocol::sandbox::{Descriptor, Mount, Network, ProcView, ProcessLimits, SANDBOX_VERSION, SandboxOrder};
use agentos_types::{Code, Fault, Result};
use rustix::process::{Resource, getrlimit};

use super::ProxyOptions;

/// Log, then the socket to the server.
pub(super) const DESCRIPTORS: [Descriptor; 2] = [Descriptor::Stderr, Descriptor::Channel];
const PROGRAM: &str = "/app/agent-os-egress";
/// Further authorities, by number.
const ROOTS: &str = "/app/roots";
/// What the loader and the resolver of the C library open. The program itself brings the rest.
const LIBRARIES: [&str; 5] = ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/etc/ld.so.cache"];
/// How names are found, and which certificates the machine trusts, on Debian, Red Hat, SUSE and Alpine.
const LOOKUPS: [&str; 11] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];
/// Modules beyond these two speak to services that the sandbox does not see.
const NSSWITCH: &str = "passwd: files\ngroup: files\nhosts: files dns\n";
/// A connection is two descriptors, and each sandbox has its listeners.
const OPEN_FILES: u64 = 65_536;
/// One thread for the work, 32 for lookups, and some for what the runtime starts.
const THREADS: u64 = 128;
/// The devices come with a file system in memory; nothing here uses it.
const SHM_BYTES: u64 = 64 << 10;

pub(super) fn order(program: &Path, options: &ProxyOptions) -> Result<SandboxOrder> {
    let mut command = vec![PROGRAM.to_owned()];
    let mut mounts = Vec::new();
    for path in LIBRARIES.iter().chain(&LOOKUPS) {
        mounts.extend(seen(Path::new(path), LIBRARIES.contains(path)));
    }
    mounts.push(Mount::File { target: "/etc/nsswitch.conf".to_owned(), content: NSSWITCH.to_owned() });
    mounts.push(Mount::Devices { shm_bytes: SHM_BYTES });
    mounts.push(bind(real(program)?, PROGRAM, true));
    for (number, file) in options.extra_roots.iter().enumerate() {
        let target = format!("{ROOTS}/{number}.pem");
        mounts.push(bind(real(file)?, &target, false));
        command.extend(["--roots".to_owned(), target]);
    }
    Ok(SandboxOrder {
        version: SANDBOX_VERSION,
        id: 0,
        command,
        environment: BTreeMap::new(),
        directory: "/".to_owned(),
        hostname: "egress".to_owned(),
        host_id: options.host_id,
        host_gid: None,
        mounts,
        proc: ProcView::Processes,
        network: Network::Host,
        limits: ProcessLimits {
            address_space_bytes: None,
            cpu_seconds: None,
            open_files: getrlimit(Resource::Nofile).maximum.unwrap_or(OPEN_FILES).min(OPEN_FILES),
            file_bytes: 0,
            processes: Some(THREADS),
        },
        // Its profile starts no program at all, and closing memory files needs Linux 6.3.
        anonymous_programs: true,
        nice: 0,
        processors: None,
        apparmor: None,
        descriptors: DESCRIPTORS.to_vec(),
    })
}

/// A place of the machine under its own name: a link stays a link where what it leads to is seen too, everything else is
/// bound read-only. What does not exist is not needed.
fn seen(path: &Path, executable: bool) -> Option<Mount> {
    let target = path.to_str()?;
    let metadata = fs::symlink_metadata(path).ok()?;
    if metadata.is_symlink() {
        let to = fs::read_link(path).ok()?.into_os_string().into_string().ok()?;
        if to.trim_start_matches('/').starts_with("usr/lib") {
            return Some(Mount::Symlink { target: target.to_owned(), to });
        }
    }
    let source = fs::canonicalize(path).ok()?.into_os_string().into_string().ok()?;
    Some(bind(source, target, executable))
}

fn bind(source: String, target: &str, executable: bool) -> Mount {
    Mount::Bind { source, target: target.to_owned(), writable: false, executable }
}

fn real(path: &Path) -> Result<String> {
    let unusable = |why: String| {
        Fault::new(Code::LAUNCH_FAILED, format!("the egress proxy cannot be given {}: {why}", path.display()))
            .hint("make the file readable, or take it out of `dialer.extra_roots`")
    };
    let real: PathBuf = fs::canonicalize(path).map_err(|error| unusable(error.to_string()))?;
    real.into_os_string().into_string().map_err(|_| unusable("its name is not UTF-8".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_sees_names_certificates_libraries_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("ca.pem");
        fs::write(&file, "x").unwrap();
        let options = ProxyOptions { host_id: Some(7), extra_roots: vec![file] };
        let order = order(Path::new("/bin/true"), &options).unwrap();
        assert_eq!(order.command[1..], ["--roots", "/app/roots/0.pem"]);
        assert!(order.environment.is_empty() && order.network == Network::Host);
        for mount in &order.mounts {
            match mount {
                Mount::Bind { target, writable, .. } => {
                    assert!(!writable, "{target}");
                    let known = LIBRARIES.iter().chain(&LOOKUPS).any(|place| place == target);
                    assert!(known || target.starts_with("/app/"), "{target}");
                }
                Mount::Symlink { to, .. } => assert!(to.trim_start_matches('/').starts_with("usr/lib"), "{to}"),
                Mount::File { .. } | Mount::Devices { .. } => {}
                Mount::Tmpfs { target, .. } => panic!("{target} can be written to"),
            }
        }
        let missing = ProxyOptions { extra_roots: vec!["/no/such/file".into()], ..ProxyOptions::default() };
        assert_eq!(super::order(Path::new("/bin/true"), &missing).unwrap_err().code, Code::LAUNCH_FAILED);
    }
}
