//! The dialer itself: one request from its rules to its final answer, within one deadline.

use std::{fmt, sync::Arc, time::Duration};

use agentos_types::{Code, Fault, Result};
use tokio::time::timeout;

use crate::{
    DialerOptions, HostPort, Request, Resolve, Response, SystemResolver,
    exchange::{self, Answer, Stream},
    own_address::OwnAddresses,
    reach::{Connect, Reach, TcpConnect},
    redirect::{self, MayFollow},
    request::Outgoing,
    tls::Tls,
};

/// Cheap to clone; all clones share the resolver and the certificate store.
#[derive(Clone)]
pub struct Dialer {
    shared: Arc<Shared>,
}

struct Shared {
    options: DialerOptions,
    reach: Reach,
    tls: Tls,
}

impl Dialer {
    /// With the machine's own resolver. Contradictory options and unusable certificate files are refused here.
    pub fn new(options: DialerOptions) -> Result<Self> {
        Self::with_resolver(options, Arc::new(SystemResolver::default()))
    }

    pub fn with_resolver(options: DialerOptions, resolver: Arc<dyn Resolve>) -> Result<Self> {
        Self::with_parts(options, resolver, Arc::new(TcpConnect))
    }

    pub(crate) fn with_parts(
        options: DialerOptions,
        resolver: Arc<dyn Resolve>,
        connector: Arc<dyn Connect>,
    ) -> Result<Self> {
        options.validate()?;
        let tls = Tls::new(&options.extra_roots)?;
        let exceptions = options.private_exceptions.clone();
        let reach = Reach { resolver, connector, exceptions, own_addresses: OwnAddresses::probe() };
        Ok(Self { shared: Arc::new(Shared { options, reach, tls }) })
    }

    pub fn options(&self) -> &DialerOptions {
        &self.shared.options
    }

    /// Sends the request and follows redirects. `may_follow` is asked for every redirect target, not for the first URL,
    /// which the caller has checked. Any status that is not a followed redirect is a response, not an error. Dropping
    /// the future closes the connection.
    pub async fn send(&self, request: Request, may_follow: MayFollow<'_>) -> Result<Response> {
        let (outgoing, limit) = Outgoing::of(request, &self.shared.options)?;
        let target = outgoing.url.host_port();
        // Boxed: TLS state and buffers would otherwise sit in every caller's future.
        let work = Box::pin(self.follow(outgoing, may_follow));
        timeout(limit, work).await.unwrap_or_else(|_| Err(too_slow(&target, limit)))
    }

    async fn follow(&self, first: Outgoing, may_follow: MayFollow<'_>) -> Result<Response> {
        let redirects_max = self.shared.options.redirects_max;
        let acts = !first.method.is_safe();
        let mut outgoing = first;
        for hop in 0..=redirects_max {
            let answer = self.hop(&outgoing).await;
            match answer.map_err(|fault| if acts && hop > 0 { after_the_act(fault) } else { fault })? {
                Answer::Final(response) => return Ok(response),
                Answer::Redirect { status, location } => {
                    outgoing = redirect::next(outgoing, status, &location, may_follow)?;
                }
            }
        }
        Err(Fault::new(Code::REDIRECT_DENIED, format!("more than {redirects_max} redirects"))
            .hint("fetch the final URL directly"))
    }

    async fn hop(&self, outgoing: &Outgoing) -> Result<Answer> {
        let target = outgoing.url.host_port();
        let reached = self.shared.reach.connect(&target).await.map_err(|unreached| unreached.fault)?;
        let stream: Box<dyn Stream> = if outgoing.url.is_https() {
            Box::new(self.shared.tls.wrap(reached.stream, &target).await?)
        } else {
            Box::new(reached.stream)
        };
        exchange::exchange(stream, outgoing).await
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

/// A later hop that could not be reached says nothing against the first one: there the request has arrived. Callers take
/// the codes of an unreachable host as "nothing was sent", so such a fault must not keep one of them.
fn after_the_act(fault: Fault) -> Fault {
    let message = format!("a redirect could not be followed after the request was sent: {}", fault.message);
    Fault { code: Code::CONNECTION_LOST, message, ..fault }
}

fn too_slow(target: &HostPort, limit: Duration) -> Fault {
    let message = format!("{target} did not answer completely within {} ms", limit.as_millis());
    Fault::new(Code::REMOTE_TIMEOUT, message).hint("raise `timeout_ms` of the call up to `dialer.timeout_max_ms`")
}
