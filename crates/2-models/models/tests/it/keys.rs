//! Keys that are kept for a moment: never beyond a change.

use agentos_base::redact::Redactor;
use agentos_models::{Keys, SealedKeys};
use agentos_router::Kind;
use agentos_secrets::{ExposeSecret, SecretString, Secrets, SecretsKey};
use agentos_types::{Actor, SecretName};

use super::{
    house::{House, target},
    provider::Provider,
};

#[tokio::test]
async fn a_key_is_another_one_from_its_change_on() {
    let provider = Provider::start(Vec::new()).await;
    let house = House::new(vec![target(Kind::Openai, &provider)]).await;
    let key = SecretsKey::new([7; 32]);
    let secrets = Secrets::open(house.store.clone(), house.ambient.clone(), key, Redactor::default()).await.unwrap();
    let keys = SealedKeys::new(secrets.clone());
    let name: SecretName = "provider-key".parse().unwrap();
    let found = async || keys.reveal(&name).await.map(|key| key.expose_secret().to_owned());
    assert!(found().await.is_err());
    for (at, value) in ["first-of-all-keys", "second-of-all-keys", "third-of-all-keys"].into_iter().enumerate() {
        let value = SecretString::from(value);
        match at {
            2 => secrets.rotate(&Actor::System, &name, value.clone()).await.unwrap(),
            _ => secrets.set(&Actor::System, &name, value.clone()).await.unwrap(),
        };
        assert_eq!(found().await.unwrap(), value.expose_secret());
        assert_eq!(found().await.unwrap(), value.expose_secret(), "kept");
    }
    secrets.revoke(&Actor::System, &name).await.unwrap();
    assert!(found().await.is_err(), "nothing that was revoked is used");
}
