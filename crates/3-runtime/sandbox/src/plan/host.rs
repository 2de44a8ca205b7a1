//! What of the machine's own root every sandbox sees: programs and libraries, and the few parts of `/etc` that they cannot
//! do without.
//!
//! `/usr` with `/usr/local` is in: it is installed for everybody. `/opt`, `/srv`, `/home`, `/var` and the rest are out:
//! programs there come with data and settings beside them, and whoever needs one binds it by name. Of `/etc` nothing is
//! shown that an administrator writes secrets into.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use agentos_protocol::sandbox::Mount;
use agentos_types::{Fault, Result};

use super::{binds::bind, refused};

/// Beside `/usr`: links into it on most systems, directories of their own on others.
const BESIDE_USR: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Shown as they are where they exist. `alternatives` is what Debian's `/usr/bin` links through, `java-*` where its JVM
/// keeps its settings, the others are caches and policies that libraries read.
const OF_ETC: [&str; 6] =
    ["alternatives", "crypto-policies", "fonts", "ld.so.cache", "pki/ca-trust/extracted", "ssl/openssl.cnf"];
/// Debian's directories of a JVM.
const JAVA: &str = "java-";
/// Where systems keep the roots of certificates in one file.
const BUNDLES: [&str; 4] = [
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/ssl/ca-bundle.pem",
    "etc/ssl/cert.pem",
];
const CERTIFICATES: &str = "etc/ssl/certs";
/// Of a bundle of certificates; those of today are near 250 KiB.
const BUNDLE_BYTES_MAX: u64 = 8 << 20;
/// Names in `/etc` that are looked at; a usual machine has 200.
const NAMES_MAX: usize = 4_096;

/// A look at the machine, taken once and used for many plans. What few plans need is looked at when the first of them does.
#[derive(Clone, Debug)]
pub struct HostRoot {
    root: PathBuf,
    mounts: Vec<Mount>,
    /// Of the host's certificates.
    certificates: Option<PathBuf>,
    bundle: OnceLock<Option<PathBuf>>,
    resolv_conf: OnceLock<Option<String>>,
    hosts: OnceLock<Option<String>>,
}

impl HostRoot {
    /// Looks at the file system below `root`, which is `/` but for tests.
    pub fn survey(root: &Path) -> Result<Self> {
        let usr = root.join("usr");
        if !fs::symlink_metadata(&usr).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(refused(format!("{} is not a directory, and every sandbox is built on it", usr.display())));
        }
        let mut mounts = vec![bind(path_text(&usr)?, "/usr", false, true)];
        for name in BESIDE_USR {
            mounts.extend(beside_usr(root, name)?);
        }
        for name in OF_ETC.map(str::to_owned).into_iter().chain(java_directories(root)) {
            let target = format!("/etc/{name}");
            if let Ok(source) = fs::canonicalize(root.join("etc").join(&name)) {
                mounts.push(bind(path_text(&source)?, &target, false, false));
            }
        }
        mounts.extend(local_time(root)?);
        Ok(Self {
            root: root.to_owned(),
            mounts,
            certificates: fs::canonicalize(root.join(CERTIFICATES)).ok(),
            bundle: OnceLock::new(),
            resolv_conf: OnceLock::new(),
            hosts: OnceLock::new(),
        })
    }

    /// The host's certificate authorities and one more, as one PEM text.
    pub fn bundle(&self, certificate: &str) -> Result<String> {
        let found = || BUNDLES.iter().find_map(|name| fs::canonicalize(self.root.join(name)).ok());
        let mut text = match self.bundle.get_or_init(found) {
            Some(path) => read_bundle(path).map_err(|error| {
                refused(format!("the host's certificates in {} cannot be read: {error}", path.display()))
            })?,
            None => String::new(),
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(certificate);
        Ok(text)
    }

    pub(super) fn mounts(&self) -> &[Mount] {
        &self.mounts
    }

    pub(super) fn certificates(&self) -> Option<&Path> {
        self.certificates.as_deref()
    }

    /// The machine's own, for a sandbox that is on its network.
    pub(super) fn resolv_conf(&self) -> Option<&str> {
        self.resolv_conf.get_or_init(|| small_text(&self.root.join("etc/resolv.conf"))).as_deref()
    }

    pub(super) fn hosts(&self) -> Option<&str> {
        self.hosts.get_or_init(|| small_text(&self.root.join("etc/hosts"))).as_deref()
    }
}

/// A link stays a link, because scripts and loaders name both ways.
fn beside_usr(root: &Path, name: &str) -> Result<Option<Mount>> {
    let path = root.join(name);
    let Ok(metadata) = fs::symlink_metadata(&path) else { return Ok(None) };
    let target = format!("/{name}");
    if metadata.is_dir() {
        return Ok(Some(bind(path_text(&path)?, &target, false, true)));
    }
    let to = fs::read_link(&path).ok().and_then(|to| to.into_os_string().into_string().ok());
    // A link that leads elsewhere would lead nowhere inside.
    Ok(to.filter(|to| to.trim_start_matches('/').starts_with("usr/")).map(|to| Mount::Symlink { target, to }))
}

fn java_directories(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root.join("etc")) else { return Vec::new() };
    let names = entries.take(NAMES_MAX).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut java: Vec<_> = names.filter(|name| name.starts_with(JAVA)).collect();
    java.sort();
    java
}

/// The zone of the machine, by its name where it has one.
fn local_time(root: &Path) -> Result<Option<Mount>> {
    let path = root.join("etc/localtime");
    let target = "/etc/localtime".to_owned();
    if let Some(to) = fs::read_link(&path).ok().and_then(|to| to.into_os_string().into_string().ok()) {
        let zone = to.split_once("usr/share/zoneinfo/").map(|(_, zone)| zone.to_owned());
        return Ok(zone.map(|zone| Mount::Symlink { target, to: format!("/usr/share/zoneinfo/{zone}") }));
    }
    match fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
        true => Ok(Some(bind(path_text(&path)?, &target, false, false))),
        false => Ok(None),
    }
}

/// A text that rides with an order; larger ones are left out.
fn small_text(path: &Path) -> Option<String> {
    const BYTES_MAX: u64 = 16 << 10;
    fs::metadata(path).ok().filter(|metadata| metadata.is_file() && metadata.len() <= BYTES_MAX)?;
    fs::read_to_string(path).ok()
}

fn read_bundle(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > BUNDLE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {BUNDLE_BYTES_MAX} bytes")));
    }
    fs::read_to_string(path)
}

pub(super) fn path_text(path: &Path) -> Result<String> {
    let text = path.to_str().map(str::to_owned);
    text.ok_or_else(|| Fault::internal(format!("{} is not UTF-8", path.display())))
}
