//! Arguments of `token`.

use std::time::Duration;

use agentos_types::{AgentName, Role, Scope, TokenId};
use clap::{
    ArgGroup, Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};

use crate::instant::parse_span;

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommands {
    /// Create a token and show it, this one time
    Create(Create),
    /// List all tokens without their secrets
    List,
    /// Make a successor with the same rights; the old token works on for a while
    Rotate(Rotate),
    /// Make a token unusable at once
    Revoke(TokenArg),
}

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("rights").args(["role", "scopes"]).required(true))]
pub(crate) struct Create {
    /// What the token is for
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// What it may do, by the name of a role
    #[arg(long, value_name = "ROLE", value_parser = role_parser())]
    pub(crate) role: Option<Role>,
    /// What it may do, one by one; may be repeated
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', value_parser = scope_parser())]
    pub(crate) scopes: Vec<Scope>,
    /// Agent that an agent-caller may give work to; may be repeated
    #[arg(long = "agent", value_name = "AGENT", value_delimiter = ',')]
    pub(crate) agents: Vec<AgentName>,
    /// Model that a model-caller may call, such as fast or 'openai/*'; may be repeated [default: all]
    #[arg(long = "model", value_name = "MODEL", value_delimiter = ',')]
    pub(crate) models: Vec<String>,
    /// How long it is valid, such as 12h or 30d [default: 90d]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) expires_in: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct Rotate {
    /// Id of the token
    #[arg(value_name = "TOKEN")]
    pub(crate) id: TokenId,
    /// How long the old token works on, never beyond its own end [default: 1h]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) overlap: Option<Duration>,
    /// How long the successor is valid [default: as long as the old one was]
    #[arg(long, value_name = "SPAN", value_parser = parse_span)]
    pub(crate) expires_in: Option<Duration>,
}

#[derive(Args, Debug)]
pub(crate) struct TokenArg {
    /// Id of the token
    #[arg(value_name = "TOKEN")]
    pub(crate) id: TokenId,
}

fn role_parser() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|text| Role::parse(&text).ok_or("not a role"))
}

fn scope_parser() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(Scope::ALL.map(Scope::as_str))
        .try_map(|text| Scope::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or("not a scope"))
}
