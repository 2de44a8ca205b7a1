//! The generated `/etc`: who is inside, which names there are, how certificates are found. Nothing of the machine's users,
//! hosts or services is in it.

use agentos_protocol::{
    egress::DNS_PORT,
    sandbox::{INNER_ID, Listener, Mount, Profile},
};
use agentos_types::Result;

use super::{Authority, Plan, USER, WORKSPACE, binds, host::path_text};

/// What the kernel shows for every owner who does not exist inside.
const NOBODY_ID: u32 = 65_534;
/// Where Debian has all certificates in one file; the links below lead there.
pub(super) const BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The authority of the sandbox alone, for Node, which adds it to its own.
pub(super) const AUTHORITY: &str = "/etc/ssl/certs/agent-os-authority.pem";
/// Where others look for that file: OpenSSL, Alpine and BSD, Red Hat twice.
const BUNDLE_LINKS: [&str; 3] =
    ["/etc/ssl/cert.pem", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"];

/// The services and protocols that programs ask for by name. The host's lists are long, and no program lists them.
const SERVICES: &str = "\
ftp 21/tcp\nssh 22/tcp\nsmtp 25/tcp mail\ndomain 53/tcp\ndomain 53/udp\nhttp 80/tcp www\nntp 123/udp\nimap2 143/tcp imap\n\
https 443/tcp\nhttps 443/udp\nsubmission 587/tcp\nimaps 993/tcp\nmysql 3306/tcp\npostgresql 5432/tcp\nredis 6379/tcp\n\
http-alt 8080/tcp\n";
const PROTOCOLS: &str = "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\nipv6 41 IPv6\nipv6-icmp 58 IPv6-ICMP\n";

impl Plan {
    pub(super) fn etc_mounts(&self) -> Result<Vec<Mount>> {
        let mut mounts = vec![
            file("/etc/passwd", passwd()),
            file("/etc/group", format!("{USER}:x:{INNER_ID}:\nnogroup:x:{NOBODY_ID}:\n")),
            file("/etc/hostname", format!("{}\n", self.hostname)),
            file("/etc/hosts", self.hosts()),
            file("/etc/resolv.conf", self.resolv_conf()),
            file("/etc/nsswitch.conf", self.nsswitch()),
            file("/etc/services", SERVICES.to_owned()),
            file("/etc/protocols", PROTOCOLS.to_owned()),
        ];
        mounts.extend(self.certificates()?);
        mounts.push(Mount::Symlink { target: "/etc/os-release".to_owned(), to: "../usr/lib/os-release".to_owned() });
        mounts.push(Mount::Symlink { target: "/etc/mtab".to_owned(), to: "/proc/self/mounts".to_owned() });
        Ok(mounts)
    }

    fn has_dns(&self) -> bool {
        self.listeners.contains(&Listener::Udp(DNS_PORT))
    }

    fn hosts(&self) -> String {
        let own = format!("127.0.0.1 localhost {}\n::1 localhost ip6-localhost ip6-loopback\n", self.hostname);
        match self.profile {
            Profile::Proxy => self.host.hosts().map_or(own, str::to_owned),
            _ => own,
        }
    }

    fn resolv_conf(&self) -> String {
        match self.profile {
            Profile::Proxy => self.host.resolv_conf().unwrap_or_default().to_owned(),
            // Every address is local inside; this one is as good as any, and needs no IPv6.
            _ if self.has_dns() => "nameserver 127.0.0.1\n".to_owned(),
            _ => "# no names beyond /etc/hosts\n".to_owned(),
        }
    }

    /// Without DNS only files are asked, so that an unknown name fails at once.
    fn nsswitch(&self) -> String {
        let hosts = if self.has_dns() || self.profile == Profile::Proxy { "files dns" } else { "files" };
        format!("passwd: files\ngroup: files\nshadow: files\nhosts: {hosts}\nservices: files\nprotocols: files\n")
    }

    /// Without an authority of its own the sandbox sees the host's directory, where every library finds what it looks for.
    /// With one, a single file takes its place, under each name that it is known by.
    fn certificates(&self) -> Result<Vec<Mount>> {
        let Some(Authority { certificate, bundle }) = &self.authority else {
            let certificates = self.host.certificates();
            return certificates
                .map(|path| Ok(binds::bind(path_text(path)?, "/etc/ssl/certs", false, false)))
                .into_iter()
                .collect();
        };
        let mut mounts =
            vec![binds::bind(binds::source(bundle)?, BUNDLE, false, false), file(AUTHORITY, certificate.clone())];
        // The JVM reads a store of its own, to which a PEM file cannot be added.
        if let Some(java) = self.host.certificates().map(|path| path.join("java")).filter(|path| path.is_dir()) {
            mounts.push(binds::bind(path_text(&java)?, "/etc/ssl/certs/java", false, false));
        }
        let is_taken = |link: &str| {
            self.host
                .mounts()
                .iter()
                .any(|mount| binds::target(mount).is_some_and(|place| binds::is_within(link, place)))
        };
        for link in BUNDLE_LINKS.into_iter().filter(|link| !is_taken(link)) {
            mounts.push(Mount::Symlink { target: link.to_owned(), to: BUNDLE.to_owned() });
        }
        Ok(mounts)
    }
}

fn passwd() -> String {
    format!(
        "{USER}:x:{INNER_ID}:{INNER_ID}:{USER}:{WORKSPACE}:/bin/sh\n\
         nobody:x:{NOBODY_ID}:{NOBODY_ID}:nobody:/:/usr/sbin/nologin\n"
    )
}

fn file(target: &str, content: String) -> Mount {
    Mount::File { target: target.to_owned(), content }
}
