//! What the operator allows at most, whatever a manifest grants. A bound grants nothing: it is asked after the grants.

use agentos_authority::{Demand, GrantSet};
use agentos_protocol::syscall::commands::interpreter;
use agentos_types::{Action, Category, Code, Fault, Grant, Result};

use crate::egress::EgressRules;

/// All that the operator decides about agents, whatever they were granted. Given when the monitor is made: what could be
/// added later could be forgotten.
#[derive(Debug, Default)]
pub struct Rules {
    pub bounds: Bounds,
    pub egress: EgressRules,
}

/// The setting's name as people see it.
const COMMANDS_SETTING: &str = "ALLOWED_COMMANDS (tools.allowed_commands)";

/// Bounds from the settings. Without one, the manifest decides alone.
#[derive(Debug, Default)]
pub struct Bounds {
    commands: Option<GrantSet>,
}

impl Bounds {
    /// `commands`: patterns as in a grant of `shell:exec`. None of them allows nothing; no list at all bounds nothing.
    pub fn new(commands: Option<&[String]>) -> Result<Self> {
        Ok(Self { commands: commands.map(compile_commands).transpose()? })
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

fn compile_commands(patterns: &[String]) -> Result<GrantSet> {
    let grant = Grant { category: Category::Shell, actions: vec!["exec".into()], resources: patterns.to_vec() };
    GrantSet::compile(&[grant]).map_err(|fault| {
        Fault::new(Code::CONFIG_INVALID_VALUE, format!("{COMMANDS_SETTING}: {}", fault.message))
            .hint("write a program with its words, for example `git status`, or `git log *` for any further words")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(commands: Option<&[&str]>, category: Category, resource: &str) -> bool {
        let commands: Option<Vec<String>> = commands.map(|list| list.iter().map(|text| (*text).to_owned()).collect());
        let action = Action::of(category, category.actions()[0]).unwrap();
        Bounds::new(commands.as_deref()).unwrap().check(&[Demand { action, resource: resource.into() }]).is_ok()
    }

    #[test]
    fn a_bound_that_is_set_is_the_most_that_there_is() {
        assert!(check(None, Category::Shell, "rm -rf x"), "without a bound the manifest decides");
        assert!(!check(Some(&[]), Category::Shell, "ls"), "a list without an entry allows nothing");
        assert!(check(Some(&["git *", "ls"]), Category::Shell, "git log"));
        assert!(check(Some(&["git *", "ls"]), Category::Shell, "ls"));
        assert!(!check(Some(&["git *", "ls"]), Category::Shell, "ls -l"));
        assert!(!check(Some(&["git *"]), Category::Shell, "rm -rf x"));
        assert!(!check(Some(&["git *"]), Category::Code, "python"), "code is run by a program too");
        assert!(check(Some(&["python3 *"]), Category::Code, "python"));
        assert!(check(Some(&["git *"]), Category::Kv, "anything"), "no other category is bounded");
    }

    #[test]
    fn a_pattern_without_meaning_refuses_the_start() {
        for pattern in ["*", "git  log", "a|b"] {
            let fault = Bounds::new(Some(&[pattern.to_owned()])).unwrap_err();
            assert_eq!(fault.code, Code::CONFIG_INVALID_VALUE);
            assert!(fault.message.contains("ALLOWED_COMMANDS"), "{fault}");
        }
    }
}
