//! The certificate authority of one life of an agent: made in memory, trusted inside that one sandbox, able to sign for the
//! hosts of its credentials alone. The key goes to the proxy and is written nowhere.

use agentos_protocol::egress::CertificateAuthority;
use agentos_types::{Fault, Result, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose,
    NameConstraints, date_time_ymd,
};

const DAY: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Longer than any life of a process; shorter than what programs complain about.
const YEARS: i32 = 2;
const NAME: &str = "AgentOS egress of one sandbox";

pub(super) fn make(hosts: &[String], now: Timestamp) -> Result<CertificateAuthority> {
    let (year, month, day) = date(now)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(Fault::internal)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Whoever stole the key could still not speak for another host.
    let permitted_subtrees = hosts.iter().cloned().map(GeneralSubtree::DnsName).collect();
    params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    // A day of room for clocks that differ; within the sandbox it is the same clock.
    let (began_year, began_month, began_day) = date(now.before(DAY))?;
    params.not_before = date_time_ymd(began_year, began_month, began_day);
    // The 28th exists in every month.
    params.not_after = date_time_ymd(year + YEARS, month, day.min(28));
    let key = KeyPair::generate().map_err(Fault::internal)?;
    let certificate = params.self_signed(&key).map_err(Fault::internal)?;
    Ok(CertificateAuthority { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// From the first ten characters of the instant as it is written.
fn date(at: Timestamp) -> Result<(i32, u8, u8)> {
    let text = at.to_string();
    let mut parts = text.split(['-', 'T']);
    let mut next = || parts.next().and_then(|part| part.parse::<u16>().ok());
    match (next(), next(), next()) {
        (Some(year), Some(month), Some(day)) => {
            let small = |number: u16| u8::try_from(number).map_err(Fault::internal);
            Ok((i32::from(year), small(month)?, small(day)?))
        }
        _ => Err(Fault::internal(format!("{text} has no date"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_authority_is_another_and_its_key_shows_in_no_debug_output() {
        let now = Timestamp(1_800_000_000_000_000);
        assert_eq!(date(now).unwrap(), (2027, 1, 15));
        let make = || make(&["api.example".to_owned()], now).unwrap();
        let (one, two) = (make(), make());
        assert!(one.certificate.contains("BEGIN CERTIFICATE") && one.key.contains("PRIVATE KEY"));
        assert_ne!(one.key, two.key);
        assert_ne!(one.certificate, two.certificate);
    }
}
