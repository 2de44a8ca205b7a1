//! What is asked for when a token is made, and what of it makes sense.

use std::time::Duration;

use agentos_authority::GrantSet;
use agentos_types::{AgentName, Category, Code, Fault, Grant, Result, Role, Scope};

/// Life of a token whose maker named none.
pub const LIFE_DEFAULT: Duration = Duration::from_secs(90 * 86_400);
/// Longest life: what never ends is never rotated.
pub const LIFE_MAX: Duration = Duration::from_secs(366 * 86_400);
/// Agents that one token may name; the list is read with every request that uses it.
pub const AGENTS_MAX: usize = 100;
/// Patterns of models that one token may name, for the same reason.
pub const MODELS_MAX: usize = 100;
const NAME_CHARS_MAX: usize = 100;

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub name: String,
    pub role: Option<Role>,
    pub scopes: Vec<Scope>,
    /// Agents that it may give work to; for the scope `call`, and only for it.
    pub agents: Vec<AgentName>,
    /// Names or patterns of the models that it may call; for the scope `models`, and only for it. Empty: all.
    pub models: Vec<String>,
    /// [`LIFE_DEFAULT`] if absent.
    pub life: Option<Duration>,
}

impl NewToken {
    pub fn of_role(name: &str, role: Role) -> Self {
        Self { role: Some(role), ..Self::of_scopes(name, role.scopes()) }
    }

    pub fn of_scopes(name: &str, scopes: &[Scope]) -> Self {
        Self {
            name: name.to_owned(),
            role: None,
            scopes: scopes.to_vec(),
            agents: Vec::new(),
            models: Vec::new(),
            life: None,
        }
    }

    /// Either a role or scopes, as a caller may ask.
    pub fn asked(name: &str, role: Option<Role>, scopes: &[Scope]) -> Result<Self> {
        match role {
            Some(role) if scopes.is_empty() => Ok(Self::of_role(name, role)),
            Some(_) => Err(Fault::new(Code::BODY_INVALID, "a token is made of a role or of scopes, not of both")),
            None => Ok(Self::of_scopes(name, scopes)),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |what: String| Err(Fault::new(Code::BODY_INVALID, what));
        let chars = self.name.chars().count();
        if !(1..=NAME_CHARS_MAX).contains(&chars) || self.name.chars().any(char::is_control) {
            return refuse(format!("a token's name has 1 to {NAME_CHARS_MAX} characters"));
        }
        if self.scopes.is_empty() {
            return refuse("a token needs a role or at least one scope".into());
        }
        match (self.scopes.contains(&Scope::Call), self.agents.len()) {
            (true, 1..=AGENTS_MAX) | (false, 0) => {}
            (true, _) => return refuse(format!("a token with the scope 'call' names 1 to {AGENTS_MAX} agents")),
            (false, _) => return refuse("only a token with the scope 'call' names agents".into()),
        }
        self.check_models()?;
        check_life(self.life.unwrap_or(LIFE_DEFAULT))
    }

    /// The patterns are those of grants, so that a name means the same for tokens and agents.
    fn check_models(&self) -> Result<()> {
        let refuse = |what: String| Err(Fault::new(Code::BODY_INVALID, what));
        if !self.models.is_empty() && !self.scopes.contains(&Scope::Models) {
            return refuse("only a token with the scope 'models' names models".into());
        }
        if self.models.len() > MODELS_MAX {
            return refuse(format!("a token names at most {MODELS_MAX} models"));
        }
        if self.models.is_empty() {
            return Ok(());
        }
        let grant = Grant { category: Category::Model, actions: vec!["call".into()], resources: self.models.clone() };
        GrantSet::compile(&[grant]).map(drop).or_else(|fault| refuse(fault.message))
    }
}

pub(crate) fn check_life(life: Duration) -> Result<()> {
    if life.is_zero() || life > LIFE_MAX {
        return Err(Fault::new(Code::BODY_INVALID, format!("a token lives 1 to {} seconds", LIFE_MAX.as_secs())));
    }
    Ok(())
}
