//! The Monitor agent's program: the library behind the SDK's loop.

use agentos_agent_monitor::handle;
use agentos_sdk::TaskContext;

// Two threads: while one compares a long text, the other answers the kernel's pings.
#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> agentos_sdk::Result<()> {
    agentos_sdk::run(|context: TaskContext, input| async move { handle(&context, input).await }).await
}
