//! What other nodes of a database say of tokens.

use std::time::{Duration, Instant};

use agentos_identity::Tokens;
use agentos_types::notify::Notice;

use super::{
    house::{house, open_store},
    remembered::{made, revoke_behind_its_back, works},
};

/// Only a defect lets it pass.
const PATIENCE: Duration = Duration::from_secs(20);

/// Its own hints do not reach the node that gave them, so another session says what another node would have said.
#[tokio::test(start_paused = true)]
async fn the_hint_of_another_node_is_heard_before_the_second_is_over() {
    let house = house();
    let (store, ambient, _, _) = open_store(&house);
    let tokens = Tokens::new(store.clone(), ambient);
    let (token, row) = made(&tokens).await;
    let mut heard = store.subscribe();
    assert!(works(&tokens, &token).await);
    revoke_behind_its_back(&store, &row.id).await;
    assert!(works(&tokens, &token).await, "no time has passed and nothing was said");
    house.scratch.postgres().ask("SELECT pg_notify('agent_os', 'tokens')::text");
    // The clock of this test stands still but for what waits by it; the database's is the real one.
    let waited = Instant::now();
    while heard.is_empty() {
        assert!(waited.elapsed() < PATIENCE, "the hint was not heard");
        tokio::task::yield_now().await;
    }
    assert_eq!(heard.recv().await, Ok(Notice::Tokens));
    assert!(!works(&tokens, &token).await);
}
