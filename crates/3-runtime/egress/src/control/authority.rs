//! The certificate authority of one life of an agent: made in memory, trusted inside that one sandbox, able to sign for the
//! hosts of its credentials alone; for an agent that calls models, whose providers may change while it lives, for all but the
//! hosts that it reaches directly. The key goes to the proxy and is written nowhere.

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

/// Whoever stole the key could still not speak for another host.
pub(super) enum Signs {
    For(Vec<String>),
    AllBut(Vec<String>),
}

pub(super) fn make(signs: Signs, now: Timestamp) -> Result<CertificateAuthority> {
    let (year, month, day) = date(now)?;
    let mut params = CertificateParams::new(Vec::new()).map_err(Fault::internal)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let trees = |names: Vec<String>| names.into_iter().map(GeneralSubtree::DnsName).collect();
    let constraints = match signs {
        Signs::For(names) => NameConstraints { permitted_subtrees: trees(names), excluded_subtrees: Vec::new() },
        Signs::AllBut(names) => NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: trees(names) },
    };
    // The extension must not be empty.
    let is_bound = !constraints.permitted_subtrees.is_empty() || !constraints.excluded_subtrees.is_empty();
    params.name_constraints = is_bound.then_some(constraints);
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
    fn an_authority_that_is_kept_from_nothing_is_valid_too() {
        for names in [Vec::new(), vec!["a.example".to_owned(), "example.org".to_owned()]] {
            let made = make(Signs::AllBut(names), Timestamp(1_800_000_000_000_000)).unwrap();
            assert!(made.certificate.contains("BEGIN CERTIFICATE"));
        }
    }

    #[test]
    fn each_authority_is_another_and_its_key_shows_in_no_debug_output() {
        let now = Timestamp(1_800_000_000_000_000);
        assert_eq!(date(now).unwrap(), (2027, 1, 15));
        let make = || make(Signs::For(vec!["api.example".to_owned()]), now).unwrap();
        let (one, two) = (make(), make());
        assert!(one.certificate.contains("BEGIN CERTIFICATE") && one.key.contains("PRIVATE KEY"));
        assert_ne!(one.key, two.key);
        assert_ne!(one.certificate, two.certificate);
    }
}
