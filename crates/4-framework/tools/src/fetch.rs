//! `net.fetch`: one HTTP request through the dialer. Secrets enter here, at the last hop, and nowhere before.

use std::{collections::BTreeMap, time::Duration};

use agentos_authority::{Authorized, Demand};
use agentos_dialer::{CheckedUrl, Header, Request, Response};
use agentos_failpoint::{Point, hit};
use agentos_monitor::{
    Call,
    placeholder::{Piece, pieces},
};
use agentos_protocol::syscall::{Fetch, FetchResult};
use agentos_secrets::{ExposeSecret, Secrets};
use agentos_types::{Action, Category, Code, Fault, Result};

use crate::{Outgoing, content};

/// Headers in one request; more have no honest use.
const HEADERS_MAX: usize = 64;

pub(crate) async fn fetch(
    outgoing: &Outgoing,
    secrets: &Secrets,
    call: &Authorized<Call>,
    args: Fetch,
) -> Result<FetchResult> {
    if args.headers.len() > HEADERS_MAX {
        return Err(Fault::new(Code::SYSCALL_INVALID, format!("more than {HEADERS_MAX} headers")));
    }
    let mut request = Request::new(args.method.parse()?, CheckedUrl::parse(&args.url)?);
    for (name, value) in &args.headers {
        request.headers.push(header(secrets, name, value).await?);
    }
    request.body = args.body.map(String::into_bytes);
    request.timeout = args.timeout_ms.map(Duration::from_millis);
    request.max_bytes = args.max_bytes;
    let granted = |url: &CheckedUrl| may_fetch(call, url);
    hit(Point::ToolsFetchReady);
    let response = outgoing.send(&call.get().traceparent, request, &granted).await;
    hit(Point::ToolsFetchReturned);
    response.map(result)
}

/// A redirect leads only where the manifest would have allowed to go directly.
fn may_fetch(call: &Authorized<Call>, url: &CheckedUrl) -> bool {
    Action::of(Category::Net, "fetch")
        .is_some_and(|action| call.also_allows(&Demand { action, resource: url.as_str().to_owned() }))
}

/// Fills in `${secret:NAME}`. The monitor has checked that each name is granted at this host.
async fn header(secrets: &Secrets, name: &str, value: &str) -> Result<Header> {
    let mut filled = String::new();
    let mut sensitive = false;
    for piece in pieces(value)? {
        match piece {
            Piece::Text(text) => filled.push_str(text),
            Piece::Secret(secret) => {
                filled.push_str(secrets.reveal(&secret).await?.expose_secret());
                sensitive = true;
            }
        }
    }
    Ok(if sensitive { Header::sensitive(name, filled) } else { Header::new(name, filled) })
}

fn result(response: Response) -> FetchResult {
    let bytes = response.body.len() as u64;
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in response.headers {
        headers
            .entry(name)
            .and_modify(|joined| {
                joined.push_str(", ");
                joined.push_str(&value);
            })
            .or_insert(value);
    }
    let (body, encoding) = content::encode(response.body);
    FetchResult { status: response.status, url: response.url.as_str().to_owned(), headers, body, encoding, bytes }
}
