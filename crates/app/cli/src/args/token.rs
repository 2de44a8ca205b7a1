//! Arguments of `token`.

use std::time::Duration;

use agentos_types::{Scope, TokenId};
use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

use crate::instant::parse_span;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommands {
    /// Create a token and show it, this one time
    Create(Create),
    /// List all tokens without their secrets
    List,
    /// Make a token unusable at once
    Revoke(TokenArg),
}

#[derive(Args, Debug)]
pub(crate) struct Create {
    /// What the token is for
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What it may do; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", required = true, value_delimiter = ',', value_parser = scope_parser())]
    pub(crate) scopes: Vec<Scope>,
    /// How long it is valid, such as 12h or 30d [default: 90d]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) expires_in: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct TokenArg {
    /// Id of the token
    #[arg(value_name = "TOKEN")]
    pub(crate) id: TokenId,
}

fn scope_parser() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.map(Scope::as_str))
        .try_map(|text| Scope::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or("not a scope"))
}
