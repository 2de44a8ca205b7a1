//! What a program wants of the network, in one spelling, with the rights that it needs. Pure.

use agentos_authority::{Credential, Demand};
use agentos_dialer::{HostPort, filter};
use agentos_protocol::egress::Wish;
use agentos_types::{Action, Category, Code, Fault, Result};

/// Characters of a path in a record; the proxy bounds what it reads, this bounds what is written.
const PATH_CHARS_MAX: usize = 1_000;
/// Longer than every method that has a name.
const METHOD_BYTES_MAX: usize = 32;
/// A name is asked for without a port; the parser of targets needs one, and this is where most go.
const SOME_PORT: u16 = 443;

/// One thing that was granted, to be carried out once.
#[derive(Clone, Debug)]
pub struct Exit {
    pub target: HostPort,
    /// Headers to put in, each with its secret, over TLS that ends at the proxy. The values are revealed after the grant.
    pub credentials: Vec<Credential>,
    /// An operator's exception covers the target, so that its addresses may be private.
    pub private_allowed: bool,
}

/// A wish in its one spelling.
#[derive(Debug)]
pub(super) struct Asked {
    pub exit: Exit,
    pub demands: Vec<Demand>,
    /// For the audit log: `noun.verb`.
    pub action: &'static str,
    /// For the audit log: without a query, which may hold what is nobody's business.
    pub shown: String,
    /// Of a request.
    pub method: Option<String>,
    /// Nothing but the existence of a name: no way out comes of it.
    pub is_name: bool,
}

/// What the audit log calls a wish, whatever it holds.
pub(super) fn action_of(wish: &Wish) -> &'static str {
    match wish {
        Wish::Name { .. } => "egress.name",
        Wish::Connect { .. } => "egress.connect",
        Wish::Request { .. } => "egress.request",
    }
}

/// Brings the wish into its one spelling and says what it needs.
pub(super) fn spell(wish: &Wish, credentials: &[Credential], exceptions: &[HostPort]) -> Result<Asked> {
    let (host, port) = match wish {
        Wish::Name { host } => (host, SOME_PORT),
        Wish::Connect { host, port } | Wish::Request { host, port, .. } => (host, *port),
    };
    let target = target(host, port)?;
    let is_name = matches!(wish, Wish::Name { .. });
    if is_name && target.name().is_none() {
        return Err(Fault::new(Code::URL_INVALID, "an address was looked up as if it were a name"));
    }
    let host = host_of(&target);
    let resource = if is_name { format!("tcp://{host}") } else { format!("tcp://{target}") };
    let mut demands = vec![demand(Category::Net, "connect", resource.clone())?];
    let (mut shown, mut method, mut used) = (resource, None, Vec::new());
    if let Wish::Request { is_tls, method: given, path, .. } = wish {
        let scheme = if *is_tls { "https" } else { "http" };
        shown = format!("{scheme}://{target}{}", shown_path(path));
        method = Some(checked_method(given)?);
        used = credentials.iter().filter(|credential| credential.goes_to(&host, port, *is_tls)).cloned().collect();
        for credential in &used {
            demands.push(credential.use_of_secret()?);
        }
    }
    let private_allowed = !is_name && exceptions.contains(&target);
    let exit = Exit { target, credentials: used, private_allowed };
    Ok(Asked { exit, demands, action: action_of(wish), shown, method, is_name })
}

/// A literal address that no name hides is refused before anybody dials; what a name leads to is the proxy's to see.
pub(super) fn check_literal(exit: &Exit) -> Result<()> {
    let reason = exit.target.address().filter(|_| !exit.private_allowed).and_then(filter::refuse_reason);
    match reason {
        None => Ok(()),
        Some(reason) => {
            Err(Fault::new(Code::ADDRESS_DENIED, format!("{} is a refused address ({reason})", exit.target))
                .hint(format!("if the operator intends it, add `{}` to `dialer.private_exceptions`", exit.target)))
        }
    }
}

/// As the proxy read it from a header, a server name or a datagram: an IPv6 address with or without brackets.
fn target(host: &str, port: u16) -> Result<HostPort> {
    let is_bare_v6 = host.contains(':') && !host.starts_with('[');
    let text = if is_bare_v6 { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    text.parse().map_err(|_| Fault::new(Code::URL_INVALID, "the host is neither a name nor an address"))
}

/// Canonical, an IPv6 address in brackets.
fn host_of(target: &HostPort) -> String {
    let text = target.to_string();
    text.rsplit_once(':').map_or(text.clone(), |(host, _)| host.to_owned())
}

fn shown_path(path: &str) -> String {
    let plain = path.split(['?', '#']).next().unwrap_or_default();
    let cut: String = plain.chars().filter(|character| !character.is_control()).take(PATH_CHARS_MAX).collect();
    // The form of OPTIONS for the whole server.
    if cut.starts_with('/') || cut.is_empty() { cut } else { format!("/{cut}") }
}

fn checked_method(method: &str) -> Result<String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if (1..=METHOD_BYTES_MAX).contains(&method.len()) && method.bytes().all(is_token) {
        return Ok(method.to_owned());
    }
    Err(Fault::new(Code::URL_INVALID, "the method of the request is not one"))
}

fn demand(category: Category, verb: &str, resource: String) -> Result<Demand> {
    let action = Action::of(category, verb).ok_or_else(|| Fault::internal(format!("no action {category}:{verb}")))?;
    Ok(Demand { action, resource })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(host: &str, port: u16) -> Wish {
        Wish::Connect { host: host.into(), port }
    }

    #[test]
    fn one_target_has_one_spelling() {
        for (host, demanded) in [
            ("Example.COM", "tcp://example.com:443"),
            ("example.com.", "tcp://example.com:443"),
            ("b\u{fc}cher.example", "tcp://xn--bcher-kva.example:443"),
            ("0x7f.1", "tcp://127.0.0.1:443"),
            ("2130706433", "tcp://127.0.0.1:443"),
            ("::1", "tcp://[::1]:443"),
            ("[0:0::1]", "tcp://[::1]:443"),
        ] {
            let asked = spell(&connect(host, 443), &[], &[]).unwrap();
            assert_eq!(asked.demands[0].resource, demanded, "{host}");
            assert_eq!(asked.shown, demanded);
        }
    }

    #[test]
    fn what_is_no_host_reaches_no_decision() {
        for host in
            ["", ".", "a b", "a/b", "u@a", "a\0b", "a\r\nb", "a..b", "*.example.com", "a:b", "[::1", "fe80::1%eth0"]
        {
            for wish in [connect(host, 443), Wish::Name { host: host.into() }] {
                assert_eq!(spell(&wish, &[], &[]).unwrap_err().code, Code::URL_INVALID, "{host:?}");
            }
        }
        assert!(spell(&connect("a.example", 0), &[], &[]).is_err());
        assert!(spell(&Wish::Name { host: "127.0.0.1".into() }, &[], &[]).is_err());
    }

    #[test]
    fn a_record_shows_no_query_and_a_bounded_path() {
        let request = |method: &str, path: &str| Wish::Request {
            host: "a.example".into(),
            port: 8080,
            is_tls: false,
            method: method.into(),
            path: path.into(),
        };
        let shown = |path: &str| spell(&request("GET", path), &[], &[]).unwrap().shown;
        assert_eq!(shown("/a/b?token=x#y"), "http://a.example:8080/a/b");
        assert_eq!(shown("*"), "http://a.example:8080/*");
        assert_eq!(shown("/a\u{7}b"), "http://a.example:8080/ab");
        assert!(shown(&format!("/{}", "x".repeat(100_000))).len() < 1_100);
        for method in ["", "G T", "GET\r\n", &"X".repeat(33)] {
            assert!(spell(&request(method, "/"), &[], &[]).is_err(), "{method:?}");
        }
    }

    #[test]
    fn a_literal_private_address_needs_the_operators_exception() {
        let exceptions: Vec<HostPort> = vec!["10.0.0.1:443".parse().unwrap(), "inner.example:443".parse().unwrap()];
        let check = |host: &str, port: u16| {
            let asked = spell(&connect(host, port), &[], &exceptions).unwrap();
            (asked.exit.private_allowed, check_literal(&asked.exit).is_ok())
        };
        assert_eq!(check("10.0.0.1", 443), (true, true));
        assert_eq!(check("10.0.0.1", 80), (false, false));
        assert_eq!(check("127.0.0.1", 443), (false, false));
        assert_eq!(check("::ffff:169.254.169.254", 443), (false, false));
        assert_eq!(check("8.8.8.8", 443), (false, true));
        assert_eq!(check("inner.example", 443), (true, true));
        assert_eq!(check("inner.example", 80), (false, true), "what a name leads to is judged where it is resolved");
    }
}
