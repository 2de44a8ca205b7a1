//! How far a right goes. Most scopes reach everything of their kind; the scope `call` reaches the tasks that the token, or
//! one before it in its line of rotations, submitted itself, and the agents that the token names.
//!
//! Whatever lies beyond the reach is answered as if it did not exist, word for word.

use agentos_api::{
    Kernel,
    kernel::{Principal, TaskQuery},
};
use agentos_types::{AgentName, Code, Fault, Result, Scope, TaskId, task::Task};

/// What a line of the route table or of the table of messages asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Right {
    /// The scope.
    Whole(Scope),
    /// The scope, or `call` with its smaller reach.
    OrOwn(Scope),
}

impl Right {
    pub fn scope(self) -> Scope {
        match self {
            Right::Whole(scope) | Right::OrOwn(scope) => scope,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    All,
    Own {
        owner: String,
        agents: Vec<AgentName>,
    },
    /// Of what needs a token but no right: nothing that belongs to anybody.
    Nothing,
}

impl Reach {
    /// `None` without the right.
    pub fn of(principal: &Principal, right: Right) -> Option<Self> {
        if Scope::covers(&principal.scopes, right.scope()) {
            return Some(Reach::All);
        }
        match right {
            Right::OrOwn(_) if principal.scopes.contains(&Scope::Call) => {
                Some(Reach::Own { owner: format!("token:{}", principal.family), agents: principal.agents.clone() })
            }
            _ => None,
        }
    }

    pub fn may_call(&self, agent: &AgentName) -> bool {
        match self {
            Reach::All => true,
            Reach::Own { agents, .. } => agents.contains(agent),
            Reach::Nothing => false,
        }
    }

    fn sees(&self, task: &Task) -> bool {
        match self {
            Reach::All => true,
            Reach::Own { owner, .. } => task.submitted_by == *owner,
            Reach::Nothing => false,
        }
    }

    /// The listing within the reach.
    pub fn narrowed(&self, query: TaskQuery) -> TaskQuery {
        match self {
            Reach::All => query,
            Reach::Own { owner, .. } => TaskQuery { submitted_by: Some(owner.clone()), ..query },
            // Nobody submits under the empty label.
            Reach::Nothing => TaskQuery { submitted_by: Some(String::new()), ..query },
        }
    }

    /// The task, if it is within the reach.
    pub async fn task(&self, kernel: &dyn Kernel, id: &TaskId) -> Result<Task> {
        match kernel.get_task(id).await {
            Ok(task) if self.sees(&task) => Ok(task),
            Err(fault) if *self == Reach::All || fault.code != Code::TASK_NOT_FOUND => Err(fault),
            // A foreign task and one that does not exist are one answer.
            Ok(_) | Err(_) => Err(Fault::new(Code::TASK_NOT_FOUND, format!("the token submitted no task {id}"))),
        }
    }

    /// The same where the task itself is not needed. Who submitted a task never changes, so what follows may rely on it.
    pub async fn check(&self, kernel: &dyn Kernel, id: &TaskId) -> Result<()> {
        match self {
            Reach::All => Ok(()),
            Reach::Own { .. } | Reach::Nothing => self.task(kernel, id).await.map(drop),
        }
    }
}
