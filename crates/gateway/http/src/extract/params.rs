//! Path and query parameters.

use std::str::FromStr;

use agentos_api::body::AuditFilter;
use agentos_types::{Code, Fault};
use axum::{
    extract::{FromRequestParts, Query, RawPathParams},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::layers::errors::{Answer, Refusal};

/// The one parameter in the path, parsed as an id or name.
pub(crate) struct Id<T>(pub T);

impl<S, T> FromRequestParts<S> for Id<T>
where
    S: Send + Sync,
    T: FromStr<Err = Fault>,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Answer<Self> {
        let malformed = || Fault::new(Code::INVALID_ID, "the path is malformed");
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| malformed())?;
        let (_, text) = params.iter().next().ok_or_else(malformed)?;
        Ok(Self(text.parse()?))
    }
}

/// The query string as a filter. Unknown names and values are refused, never ignored: a filter that is dropped shows
/// more than was asked for.
pub(crate) struct Filter<T>(pub T);

/// The code with which a malformed filter is refused.
pub(crate) trait QueryCode {
    const CODE: Code = Code::CURSOR_INVALID;
}

impl QueryCode for AuditFilter {
    const CODE: Code = Code::AUDIT_QUERY_INVALID;
}

impl<S, T> FromRequestParts<S> for Filter<T>
where
    S: Send + Sync,
    T: DeserializeOwned + QueryCode,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Answer<Self> {
        let invalid = |reason: &str| Fault::new(T::CODE, format!("the query is not valid: {reason}"));
        // No name and no text of ours holds one, and Postgres takes none.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(invalid("it holds a null byte").into());
        }
        Query::try_from_uri(&parts.uri)
            .map(|Query(filter)| Self(filter))
            .map_err(|rejection| invalid(&rejection.body_text()).into())
    }
}
