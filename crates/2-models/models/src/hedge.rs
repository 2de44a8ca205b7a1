//! One attempt, and beside it a second one at another target when the first is slow. The first valid answer wins; the other is
//! dropped at once, which closes its connection, and settled by what is known of it.

use std::{
    pin::{Pin, pin},
    sync::{Arc, PoisonError},
    time::Duration,
};

use agentos_router::{Observed, Operation, Target};
use tokio::time::timeout;

use crate::{
    Course, ModelCall,
    attempt::{Asking, Brought, Given, Missed},
    engine::Inner,
};

/// A second request of this call does nothing but cost. It would do more where the provider runs tools by itself, adds to something
/// that lies with it (a conversation, an earlier response) or keeps the answer; and counting tokens is not worth one.
pub(crate) fn may_double(call: &ModelCall) -> bool {
    let needs = &call.peek.needs;
    call.operation != Operation::CountTokens && !needs.hosted_tools && !needs.stored_input && !call.peek.is_kept
}

impl Inner {
    /// What the target brings, or one that was asked beside it. A failure of the target alone is not reported yet; of two, both are.
    pub(crate) async fn race(
        &self,
        asking: &Asking<'_>,
        target: &Arc<Target>,
        course: &mut dyn Course,
    ) -> Result<(Given, Arc<Target>), Missed> {
        let brought = match target.hedge_after.filter(|_| may_double(asking.call)) {
            None => self.attempt(asking, target).await?,
            // Boxed: the others need not be twice as large for it.
            Some(after) => return Box::pin(self.hedged(asking, target, after, course)).await,
        };
        Ok((self.answered(course, target, brought), target.clone()))
    }

    async fn hedged(
        &self,
        asking: &Asking<'_>,
        target: &Arc<Target>,
        after: Duration,
        course: &mut dyn Course,
    ) -> Result<(Given, Arc<Target>), Missed> {
        let mut first = pin!(self.attempt(asking, target));
        let brought = match timeout(after, &mut first).await {
            Ok(brought) => brought?,
            Err(_) => match course.hedge(self.ambient.now()) {
                None => first.await?,
                Some(other) => return self.beside(asking, (target, first), Arc::new(other), course).await,
            },
        };
        Ok((self.answered(course, target, brought), target.clone()))
    }

    async fn beside(
        &self,
        asking: &Asking<'_>,
        (target, mut first): (&Arc<Target>, Pin<&mut impl Future<Output = Result<Brought, Missed>>>),
        other: Arc<Target>,
        course: &mut dyn Course,
    ) -> Result<(Given, Arc<Target>), Missed> {
        tracing::debug!(slow = target.id, beside = other.id, "a second provider is asked beside a slow one");
        {
            // Sums: whole after any panic.
            let mut so_far = asking.so_far.lock().unwrap_or_else(PoisonError::into_inner);
            so_far.attempts += 1;
            so_far.hedges += 1;
        }
        let mut second = pin!(self.attempt(asking, &other));
        let (mut missed, mut second_missed) = (None, None);
        // Two rounds at most: each of the two ends once.
        while missed.is_none() || second_missed.is_none() {
            let (brought, winner, loser) = tokio::select! {
                biased;
                brought = &mut first, if missed.is_none() => (brought, target, second_missed.is_none().then_some(&other)),
                brought = &mut second, if second_missed.is_none() => (brought, &other, missed.is_none().then_some(target)),
            };
            let is_first = Arc::ptr_eq(winner, target);
            match brought {
                Ok(brought) => {
                    if let Some(loser) = loser {
                        // That it was slower says nothing against it.
                        course.report(loser, Observed::Nothing, self.ambient.now());
                    }
                    asking.so_far.lock().unwrap_or_else(PoisonError::into_inner).target = Some(winner.id.clone());
                    return Ok((self.answered(course, winner, brought), winner.clone()));
                }
                Err(failed) => {
                    let observed = match &failed {
                        Missed::Failing(failing) => Observed::Failed(&failing.failure),
                        Missed::Final(_) => Observed::Nothing,
                    };
                    course.report(winner, observed, self.ambient.now());
                    let place = if is_first { &mut missed } else { &mut second_missed };
                    *place = Some(failed);
                }
            }
        }
        // That of the target which was wanted first, unless only the other one's provider was asked to its end.
        Err(match (missed, second_missed) {
            (Some(Missed::Failing(failing)), _) | (Some(Missed::Final(_)), Some(Missed::Failing(failing))) => {
                failing.into()
            }
            (Some(failed), _) | (None, Some(failed)) => failed,
            (None, None) => agentos_types::Fault::internal("two attempts ended without an end").into(),
        })
    }

    fn answered(&self, course: &mut dyn Course, target: &Target, brought: Brought) -> Given {
        let observed = match brought.first_byte {
            Some(first_byte) => Observed::Answered { first_byte },
            None => Observed::Nothing,
        };
        course.report(target, observed, self.ambient.now());
        brought.given
    }
}

#[cfg(test)]
mod tests {
    use agentos_ledger::Payer;
    use bytes::Bytes;

    use super::*;

    #[test]
    fn what_does_more_than_cost_is_not_doubled() {
        let check = |operation, body: &str, expected: bool| {
            let id = "req_01J9ZQ3V4W5X6Y7Z8A9B0C1D2E".parse().unwrap();
            let body = Bytes::copy_from_slice(body.as_bytes());
            let call = ModelCall::read(operation, body.clone(), id, Payer::default()).unwrap();
            assert_eq!(may_double(&call), expected, "{operation:?} {body:?}");
        };
        check(Operation::Chat, r#"{"model":"a"}"#, true);
        check(Operation::Chat, r#"{"model":"a","tools":[{"type":"function"}]}"#, true);
        check(Operation::Chat, r#"{"model":"a","store":true}"#, false);
        check(Operation::Chat, r#"{"model":"a","web_search_options":{}}"#, false);
        check(Operation::Embeddings, r#"{"model":"a","input":"x"}"#, true);
        check(Operation::Responses, r#"{"model":"a"}"#, false);
        check(Operation::Responses, r#"{"model":"a","store":false}"#, true);
        check(Operation::Responses, r#"{"model":"a","store":false,"previous_response_id":"r"}"#, false);
        check(Operation::Responses, r#"{"model":"a","store":false,"tools":[{"type":"mcp"}]}"#, false);
        check(Operation::Messages, r#"{"model":"a"}"#, true);
        check(Operation::Messages, r#"{"model":"a","container":"c"}"#, false);
        check(Operation::CountTokens, r#"{"model":"a"}"#, false);
    }
}
