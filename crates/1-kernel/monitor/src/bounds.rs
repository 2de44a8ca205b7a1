//! What the operator allows at most, whatever a manifest grants. A bound grants nothing: it is asked after the grants.

use agentos_authority::{Demand, GrantSet};
use agentos_protocol::syscall::commands::interpreter;
use agentos_types::{Action, Category, Code, Fault, Grant, Result};

/// The setting's name as people see it.
const COMMANDS_SETTING: &str = "ALLOWED_COMMANDS (tools.allowed_commands)";

/// Bounds from the settings. Without one, the manifest decides alone.
#[derive(Debug, Default)]
pub struct Bounds {
    commands: Option<GrantSet>,
}

impl Bounds {
    /// `commands`: patterns as in a grant of `shell:exec`; empty means no bound.
    pub fn new(commands: &[String]) -> Result<Self> {
        Ok(Self { commands: compile_commands(commands)? })
    }

    pub(crate) fn check(&self, demands: &[Demand]) -> Result<()> {
        let Some(commands) = &self.commands else { return Ok(()) };
        for demand in demands {
            let line = match demand.action.category {
                Category::Shell => demand.resource.clone(),
                // Code is read by a program, which has to be allowed with whatever arguments.
                Category::Code => format!("{} -", interpreter(&demand.resource)),
                _ => continue,
            };
            let action = Action::of(Category::Shell, "exec").ok_or_else(|| Fault::internal("no action shell:exec"))?;
            if !commands.covers(&Demand { action, resource: line.clone() }) {
                return Err(Fault::new(Code::NOT_GRANTED, format!("{COMMANDS_SETTING} does not allow '{line}'")).hint(
                    "the operator adds a pattern such as `git *` to the setting; the manifest alone is not enough",
                ));
            }
        }
        Ok(())
    }
}

fn compile_commands(patterns: &[String]) -> Result<Option<GrantSet>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let grant = Grant { category: Category::Shell, actions: vec!["exec".into()], resources: patterns.to_vec() };
    GrantSet::compile(&[grant]).map(Some).map_err(|fault| {
        Fault::new(Code::CONFIG_INVALID_VALUE, format!("{COMMANDS_SETTING}: {}", fault.message))
            .hint("write a program with its words, for example `git status`, or `git log *` for any further words")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(commands: &[&str], category: Category, resource: &str) -> bool {
        let commands: Vec<String> = commands.iter().map(|text| (*text).to_owned()).collect();
        let action = Action::of(category, category.actions()[0]).unwrap();
        Bounds::new(&commands).unwrap().check(&[Demand { action, resource: resource.into() }]).is_ok()
    }

    #[test]
    fn a_bound_that_is_set_is_the_most_that_there_is() {
        assert!(check(&[], Category::Shell, "rm -rf x"), "without a bound the manifest decides");
        assert!(check(&["git *", "ls"], Category::Shell, "git log"));
        assert!(check(&["git *", "ls"], Category::Shell, "ls"));
        assert!(!check(&["git *", "ls"], Category::Shell, "ls -l"));
        assert!(!check(&["git *"], Category::Shell, "rm -rf x"));
        assert!(!check(&["git *"], Category::Code, "python"), "code is run by a program too");
        assert!(check(&["python3 *"], Category::Code, "python"));
        assert!(check(&["git *"], Category::Kv, "anything"), "no other category is bounded");
    }

    #[test]
    fn a_pattern_without_meaning_refuses_the_start() {
        for pattern in ["*", "git  log", "a|b"] {
            let fault = Bounds::new(&[pattern.to_owned()]).unwrap_err();
            assert_eq!(fault.code, Code::CONFIG_INVALID_VALUE);
            assert!(fault.message.contains("ALLOWED_COMMANDS"), "{fault}");
        }
    }
}
