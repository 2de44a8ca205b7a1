//! Tokens on a real store: what is refused, and that nothing usable lies on disk.

use std::{path::Path, sync::Arc, time::Duration};

use agentos_base::{Ambient, ambient::FakeClock};
use agentos_identity::Tokens;
use agentos_scratch::Scratch;
use agentos_store::{Conn, Database, Sequencer, Store, StoreOptions};
use agentos_types::{Actor, Code, Result, Scope, Timestamp, audit::AuditEvent};
use tempfile::TempDir;

use super::BACKEND;

/// A log that keeps nothing: these tests are not about it.
struct NoLog;

impl Sequencer for NoLog {
    fn load(&mut self, _: &Conn<'_>) -> Result<()> {
        Ok(())
    }
    fn seal(&mut self, _: &Conn<'_>, _: &[AuditEvent]) -> Result<()> {
        Ok(())
    }
    fn settled(&mut self, _: bool) {}
}

/// A place that outlives the stores that are opened in it.
struct House {
    directory: TempDir,
    scratch: Scratch,
}

fn house() -> House {
    House { directory: tempfile::tempdir().unwrap(), scratch: BACKEND.scratch() }
}

impl House {
    fn database(&self) -> Option<Database> {
        self.scratch.urls().map(|(url, admin)| Database::parse(url, Some(admin)).unwrap())
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Everything that lies on disk, in files or in tables.
    fn bytes_at_rest(&self) -> Vec<u8> {
        let files = std::fs::read_dir(self.path()).unwrap();
        let mut bytes: Vec<u8> = files.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        if self.scratch.urls().is_some() {
            bytes.extend(self.scratch.postgres().data_dump());
        }
        bytes
    }
}

fn open(house: &House) -> (Tokens, Arc<FakeClock>) {
    let (ambient, clock) = Ambient::fake(3, Timestamp::from_millis(5));
    let options = StoreOptions {
        directory: house.path().into(),
        database: house.database(),
        queue_max: 64,
        readers: 1,
        sequencer: Some(Box::new(NoLog)),
        ambient: ambient.clone(),
    };
    (Tokens::new(Store::open(options).unwrap(), ambient), clock)
}

#[tokio::test]
async fn a_token_works_until_it_expires_or_is_revoked() {
    let house = house();
    let (tokens, clock) = open(&house);
    let hour = Some(Duration::from_secs(3_600));
    let (short, _) = tokens.create(&Actor::System, "short", &[Scope::Read], hour).await.unwrap();
    let (long, row) = tokens.create(&Actor::System, "long", &[Scope::Read, Scope::Tasks], None).await.unwrap();
    let seen = tokens.authenticate(long.expose()).await.unwrap().unwrap();
    assert_eq!((seen.name.as_str(), seen.scopes), ("long", vec![Scope::Tasks, Scope::Read]));
    clock.advance(Duration::from_secs(3_600));
    assert_eq!(tokens.authenticate(short.expose()).await.unwrap(), None, "expired");
    assert!(tokens.authenticate(long.expose()).await.unwrap().is_some());
    tokens.revoke(&Actor::System, &row.id).await.unwrap();
    assert_eq!(tokens.authenticate(long.expose()).await.unwrap(), None, "revoked");
    assert_eq!(tokens.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let house = house();
    let (tokens, _) = open(&house);
    let year = Some(Duration::from_secs(400 * 86_400));
    for (name, scopes, life) in [("", &[Scope::Read][..], None), ("a", &[][..], None), ("a", &[Scope::Read][..], year)]
    {
        let refused = tokens.create(&Actor::System, name, scopes, life).await.unwrap_err();
        assert_eq!(refused.code, Code::BODY_INVALID);
    }
    for guess in ["", "aos_", "aos_AAAA_000000", "' OR 1=1 --"] {
        assert_eq!(tokens.authenticate(guess).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_token_itself_is_stored_nowhere() {
    let house = house();
    let (tokens, _) = open(&house);
    let (token, _) = tokens.create(&Actor::System, "a", &[Scope::Admin], None).await.unwrap();
    drop(tokens);
    let (bytes, needle) = (house.bytes_at_rest(), token.expose().as_bytes());
    assert!(!bytes.windows(needle.len()).any(|window| window == needle), "the token lies on disk");
}
