//! Where the database is, as `DATABASE_URL` and `DATABASE_ADMIN_URL` say it, and how the way there is protected.
//!
//! Whoever asks for TLS gets it with the certificate checked: there is no setting that encrypts to a stranger. Nothing
//! here prints a URL, because it may hold a password.

use std::{net::IpAddr, path::PathBuf, sync::Arc, time::Duration};

use agentos_types::{Code, Fault, Result};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

/// Time to reach the server and to be let in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A silent server is given up after about this long; a server that is only slow answers keepalives.
const UNANSWERED_TIMEOUT: Duration = Duration::from_secs(15);

/// A Postgres database and the two roles that use it.
#[derive(Clone, Debug)]
pub struct Database {
    pub(crate) server: Target,
    /// Owns the tables. Only migrations and pruning use it.
    pub(crate) admin: Option<Target>,
    /// Leases are measured by its clock.
    pub(crate) keeps_time: bool,
}

/// One role at one address.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
    pub(crate) user: String,
    pub(crate) encrypted: bool,
    /// The operator's own authority.
    pub(crate) authority: Option<PathBuf>,
    local: bool,
}

impl Database {
    /// From the values of `DATABASE_URL` and `DATABASE_ADMIN_URL`.
    pub fn parse(url: &str, admin_url: Option<&str>) -> Result<Self> {
        let server = Target::parse("DATABASE_URL", url)?;
        let admin = admin_url.map(|url| Target::parse("DATABASE_ADMIN_URL", url)).transpose()?;
        if admin.as_ref().is_some_and(|admin| admin.user == server.user) {
            return Err(Fault::new(
                Code::STORE_ROLE,
                format!("DATABASE_URL and DATABASE_ADMIN_URL name the same role '{}'", server.user),
            )
            .hint("give the server a role of its own that owns nothing"));
        }
        Ok(Self { server, admin, keeps_time: false })
    }

    /// Its clock becomes the only one for leases, so that a node whose own clock is wrong neither steals nor loses any.
    /// Without it the store's ambient clock counts, which a test can move.
    #[must_use]
    pub fn keeping_time(self) -> Self {
        Self { keeps_time: true, ..self }
    }

    /// Whether leases go by its clock.
    pub fn keeps_time(&self) -> bool {
        self.keeps_time
    }

    /// The passwords, for the redactor.
    pub fn passwords(&self) -> Vec<String> {
        let targets = std::iter::once(&self.server).chain(&self.admin);
        let passwords = targets.filter_map(|target| target.config.get_password());
        passwords.map(|password| String::from_utf8_lossy(password).into_owned()).collect()
    }

    /// False if anything travels in the clear to another machine.
    pub fn is_protected(&self) -> bool {
        std::iter::once(&self.server).chain(&self.admin).all(|target| target.encrypted || target.local)
    }
}

impl Target {
    fn parse(name: &str, text: &str) -> Result<Self> {
        // What the parsers say could repeat the password.
        let invalid = |what: &str| {
            Fault::new(Code::CONFIG_INVALID_VALUE, format!("{name} {what}"))
                .hint("write postgres://ROLE:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full")
        };
        let mut url = Url::parse(text).map_err(|_| invalid("is not a URL"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(invalid("does not begin with postgres://"));
        }
        let (mut mode, mut root, mut rest) = (None, None, Vec::new());
        for (key, value) in url.query_pairs().into_owned() {
            match key.as_str() {
                "sslmode" => mode = Some(value),
                "sslrootcert" => root = Some(PathBuf::from(value)),
                _ => rest.push((key, value)),
            }
        }
        url.set_query(None);
        if !rest.is_empty() {
            url.query_pairs_mut().extend_pairs(rest);
        }
        let mut config: Config = url.as_str().parse().map_err(|_| invalid("cannot be read"))?;
        let user =
            config.get_user().filter(|user| !user.is_empty()).ok_or_else(|| invalid("names no role"))?.to_owned();
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(invalid("names no database"));
        }
        let local = config.get_hosts().iter().all(is_local);
        let encrypted = match mode.as_deref() {
            None => !local,
            Some("disable") => false,
            Some("require" | "verify-full") => true,
            Some(_) => return Err(invalid("has an sslmode other than disable, require or verify-full")),
        };
        config
            .ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable })
            .application_name("agent-os")
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(UNANSWERED_TIMEOUT)
            .keepalives_idle(Duration::from_secs(5))
            .keepalives_interval(Duration::from_secs(2))
            .keepalives_retries(3);
        let roots = if encrypted { roots(name, root.clone())? } else { RootCertStore::empty() };
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Fault::internal)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config, tls: MakeRustlsConnect::new(tls), user, encrypted, authority: root, local })
    }
}

/// The operator's own authority alone, or those of the system.
fn roots(name: &str, file: Option<PathBuf>) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    let Some(file) = file else {
        store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(store);
    };
    let unusable = |why: String| {
        Fault::new(Code::CONFIG_INVALID_VALUE, format!("sslrootcert of {name}: {}: {why}", file.display()))
            .hint("name a PEM file with the certificate of the authority")
    };
    for certificate in CertificateDer::pem_file_iter(&file).map_err(|source| unusable(source.to_string()))? {
        let certificate = certificate.map_err(|source| unusable(source.to_string()))?;
        store.add(certificate).map_err(|source| unusable(source.to_string()))?;
    }
    if store.is_empty() { Err(unusable("it holds no certificate".into())) } else { Ok(store) }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        Host::Unix(_) => true,
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_protects_the_way_is_never_guessed() {
        let check = |url: &str| Target::parse("DATABASE_URL", url).map(|target| (target.encrypted, target.local));
        for (url, expected) in [
            ("postgres://a:b@localhost/d", (false, true)),
            ("postgres://a:b@127.0.0.1:5433/d", (false, true)),
            ("postgres://a:b@%2Fvar%2Frun/d", (false, true)),
            ("postgres://a:b@db.example/d", (true, false)),
            ("postgresql://a:b@db.example/d?sslmode=require", (true, false)),
            ("postgres://a:b@localhost/d?sslmode=verify-full", (true, true)),
            ("postgres://a:b@db.example/d?sslmode=disable", (false, false)),
        ] {
            assert_eq!(check(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_without_its_password() {
        for url in [
            "postgres//a:hunter2hunter2@h/d",
            "mysql://a:hunter2hunter2@h/d",
            "postgres://h/d?password=hunter2hunter2",
            "postgres://a:hunter2hunter2@h",
            "postgres://a:hunter2hunter2@h/d?sslmode=prefer",
            "postgres://a:hunter2hunter2@h/d?sslmode=hunter2hunter2",
            "postgres://a:hunter2hunter2@h/d?hunter2hunter2=1",
            "postgres://a:hunter2hunter2@h:port/d",
            "postgres://a:hunter2hunter2@h/d?sslrootcert=/nonexistent.pem",
        ] {
            let fault = Database::parse(url, None).unwrap_err();
            assert_eq!(fault.code, Code::CONFIG_INVALID_VALUE, "{url}");
            assert!(!format!("{fault:?}").contains("hunter2"), "{fault:?}");
        }
        let database = Database::parse("postgres://a:hunter2hunter2@h/d", Some("postgres://b:other@h/d")).unwrap();
        assert!(!format!("{database:?}").contains("hunter2"), "{database:?}");
        assert_eq!(database.passwords(), ["hunter2hunter2", "other"]);
        let same = Database::parse("postgres://a:b@h/d", Some("postgres://a:b@h/d")).unwrap_err();
        assert_eq!(same.code, Code::STORE_ROLE);
    }
}
