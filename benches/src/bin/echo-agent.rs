//! The agent of the benches: answers a task with its own input, so that everything that is measured is the system's.

use agentos_sdk::{TaskContext, Value};

#[tokio::main(flavor = "current_thread")]
async fn main() -> agentos_sdk::Result<()> {
    agentos_sdk::run(|_: TaskContext, input: Value| async move { Ok(input) }).await
}
