//! For whom the authority of a sandbox can speak: tried with a client's own check of certificates.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use agentos_authority::{Caller, GrantSet};
use agentos_types::{Category, Fault, Grant, Result, Timestamp};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use super::fake::caller;
use crate::control::{Captured, Guest, ModelHosts};

const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

struct Hosts(&'static [&'static str]);

impl ModelHosts for Hosts {
    fn is_provider(&self, host: &str) -> bool {
        self.0.contains(&host)
    }

    fn hosts(&self) -> Vec<String> {
        self.0.iter().map(|&host| host.to_owned()).collect()
    }

    fn serve(&self, _: &Captured) -> Result<OwnedFd> {
        Err(Fault::internal("nobody is served here"))
    }
}

fn thinker(connects: &[&str], hosts: &'static [&'static str]) -> Guest {
    let grant = |category, verb: &str, resources: &[&str]| Grant {
        category,
        actions: vec![verb.to_owned()],
        resources: resources.iter().map(|&resource| resource.to_owned()).collect(),
    };
    let grants = [grant(Category::Net, "connect", connects), grant(Category::Model, "call", &["fast"])];
    let grants = Arc::new(GrantSet::compile(&grants).unwrap());
    let caller = Caller { grants, ..caller("thinker", &[]) };
    Guest::new(caller, Vec::new(), Some(Arc::new(Hosts(hosts))), NOW).unwrap().unwrap()
}

/// Whether programs that trust the guest's authority would believe it for this host.
fn speaks_for(guest: &Guest, host: &str) -> bool {
    let given = guest.authority().unwrap();
    let issuer = Issuer::from_ca_cert_pem(&given.certificate, KeyPair::from_pem(&given.key).unwrap()).unwrap();
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(given.certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_millis(NOW.as_millis() as u64));
    let name = ServerName::try_from(host.to_owned()).unwrap();
    verifier.verify_server_cert(leaf.der(), &[], &name, &[], now).is_ok()
}

#[test]
fn an_agent_with_models_trusts_an_authority_that_cannot_open_its_tunnels() {
    let connects = ["tcp://bank.example:443", "tcp://db.example:5432", "tcp://*.cdn.example:443", "tcp://10.0.0.1:443"];
    let guest = thinker(&connects, &["api.provider.example"]);
    // Providers may come while it lives.
    for host in ["api.provider.example", "models.of-tomorrow.example"] {
        assert!(speaks_for(&guest, host), "{host}");
    }
    for host in ["bank.example", "db.example", "a.cdn.example", "www.bank.example"] {
        assert!(!speaks_for(&guest, host), "{host}");
    }
}

#[test]
fn a_star_over_a_provider_leaves_the_provider_to_the_authority_and_its_name_does_not() {
    let guest = thinker(&["tcp://*.provider.example:443"], &["api.provider.example"]);
    assert!(speaks_for(&guest, "api.provider.example"));
    let guest = thinker(&["tcp://api.provider.example:443"], &["api.provider.example"]);
    assert!(!speaks_for(&guest, "api.provider.example"), "it is reached directly");
}

#[test]
fn a_manifest_with_very_many_hosts_has_a_certificate_all_the_same() {
    let connects: Vec<String> = (0..900).map(|number| format!("tcp://host-{number:03}.example:443")).collect();
    let connects: Vec<&str> = connects.iter().map(String::as_str).collect();
    let guest = thinker(&connects, &[]);
    assert!(guest.certificate().unwrap().len() < 8_192);
    assert!(!speaks_for(&guest, "host-000.example") && speaks_for(&guest, "api.provider.example"));
}

#[test]
fn models_alone_are_a_reason_for_a_way() {
    let guest = thinker(&["tcp://a.example:443"], &[]);
    let grants = Arc::new(GrantSet::compile(&[]).unwrap());
    let nobody = Caller { grants, ..guest.caller.clone() };
    assert!(Guest::new(nobody.clone(), Vec::new(), None, NOW).unwrap().is_none());
    let listeners = Guest::new(nobody, Vec::new(), Some(Arc::new(Hosts(&[]))), NOW).unwrap().unwrap().listeners();
    assert_eq!(listeners.len(), 5);
}
