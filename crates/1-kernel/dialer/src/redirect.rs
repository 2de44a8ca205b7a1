//! What a redirect makes of a request: RFC 9110, section 15.4, with less trust.

use agentos_types::{Code, Fault, Result};
use bytes::Bytes;

use crate::{
    CheckedUrl, Method,
    request::{Outgoing, OutgoingHeader},
};

/// Asked for every redirect target before it is resolved; it knows the caller's grants.
pub(crate) type MayFollow<'a> = &'a (dyn Fn(&CheckedUrl) -> bool + Send + Sync);

/// The request of the next hop. Whatever is dropped here stays dropped on later hops, also on a way back.
pub(crate) fn next(mut current: Outgoing, status: u16, location: &str, may_follow: MayFollow<'_>) -> Result<Outgoing> {
    let url = current.url.join(location).map_err(|fault| {
        let message = format!("{} redirects to an unusable URL: {}", current.url.host_port(), fault.message);
        Fault::new(Code::REDIRECT_DENIED, message)
    })?;
    let denied = |reason: &str| {
        let message = format!("the redirect from {} to {} {reason}", current.url.host_port(), url.host_port());
        Fault::new(Code::REDIRECT_DENIED, message)
    };
    if current.url.is_https() && !url.is_https() {
        return Err(denied("leaves https"));
    }
    if !may_follow(&url) {
        return Err(denied("is not granted").hint("grant the final host, or fetch the final URL directly"));
    }
    let method = method_after(current.method, status);
    if method != current.method {
        current.body = Bytes::new();
        current.headers.retain(|header| !describes_body(header));
    }
    if url.host_port() != current.url.host_port() {
        current.headers.retain(|header| !header.is_sensitive());
    }
    Ok(Outgoing { method, url, ..current })
}

/// 303 means "look there". 301 and 302 turn a POST into a GET, as every client does and the RFC permits; 307 and 308
/// repeat the request as it was.
fn method_after(method: Method, status: u16) -> Method {
    match (status, method) {
        (303, Method::Head) => Method::Head,
        (303, _) | (301 | 302, Method::Post) => Method::Get,
        _ => method,
    }
}

fn describes_body(header: &OutgoingHeader) -> bool {
    let name = header.name.as_str();
    name.starts_with("content-") || matches!(name, "digest" | "repr-digest" | "last-modified")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DialerOptions, Header, Request};

    fn outgoing(method: Method, url: &str) -> Outgoing {
        let mut request = Request::new(method, CheckedUrl::parse(url).unwrap());
        request.headers = vec![
            Header::new("Accept", "text/html"),
            Header::new("Authorization", "Bearer planted"),
            Header::sensitive("X-Signature", "planted"),
            Header::new("Content-Type", "application/json"),
        ];
        if method == Method::Post || method == Method::Put {
            request.body = Some(b"{}".to_vec());
        }
        Outgoing::of(request, &DialerOptions::default()).unwrap().0
    }

    fn follow(from: &str, method: Method, status: u16, location: &str) -> Result<Outgoing> {
        next(outgoing(method, from), status, location, &|_| true)
    }

    fn names(outgoing: &Outgoing) -> Vec<&str> {
        outgoing.headers.iter().map(|header| header.name.as_str()).collect()
    }

    #[test]
    fn methods_change_as_the_standard_says() {
        for (status, before, after) in [
            (301, Method::Post, Method::Get),
            (302, Method::Post, Method::Get),
            (303, Method::Post, Method::Get),
            (303, Method::Put, Method::Get),
            (303, Method::Delete, Method::Get),
            (303, Method::Head, Method::Head),
            (301, Method::Put, Method::Put),
            (302, Method::Head, Method::Head),
            (307, Method::Post, Method::Post),
            (308, Method::Put, Method::Put),
        ] {
            let next = follow("http://a.example/", before, status, "/x").unwrap();
            assert_eq!(next.method, after, "{status} {before:?}");
            assert_eq!(names(&next).contains(&"content-type"), before == after, "{status} {before:?}");
            if before != after {
                assert!(next.body.is_empty());
            }
        }
    }

    #[test]
    fn credentials_stay_with_their_host_and_port() {
        let kept = |from: &str, to: &str| {
            let next = follow(from, Method::Get, 302, to).unwrap();
            let names = names(&next);
            assert!(names.contains(&"accept"));
            assert_eq!(names.contains(&"authorization"), names.contains(&"x-signature"));
            names.contains(&"authorization")
        };
        assert!(kept("http://a.example/", "/x"));
        assert!(kept("http://a.example/", "http://A.EXAMPLE.:80/x"));
        assert!(!kept("http://a.example/", "http://b.example/"));
        assert!(!kept("http://a.example/", "//a.example.b.example/"));
        assert!(!kept("http://a.example/", "http://a.example:8080/"));
        assert!(!kept("http://a.example/", "https://a.example/"), "another port is another server");
        assert!(!kept("https://a.example/", "https://www.a.example/"));
    }

    #[test]
    fn refused_targets() {
        for (from, to) in [
            ("https://a.example/", "http://a.example/"),
            ("https://a.example/", "http://b.example/"),
            ("http://a.example/", "ftp://a.example/"),
            ("http://a.example/", "file:///etc/passwd"),
            ("http://a.example/", "http://user:password@a.example/"),
            ("http://a.example/", "http://a.example\\@b.example/"),
            ("http://a.example/", "http://a.example/\tb"),
        ] {
            let fault = follow(from, Method::Get, 302, to).map(|_| ()).unwrap_err();
            assert_eq!(fault.code, Code::REDIRECT_DENIED, "{to}");
        }
        let ungranted = next(outgoing(Method::Get, "http://a.example/"), 302, "http://b.example/", &|_| false);
        let fault = ungranted.map(|_| ()).unwrap_err();
        assert_eq!(fault.code, Code::REDIRECT_DENIED);
        assert_eq!(fault.message, "the redirect from a.example:80 to b.example:80 is not granted");
    }
}
