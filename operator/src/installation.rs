//! The key that this installation signs with: a Secret that the leader creates where none is.
//!
//! Creates and nothing else: the operator may neither read nor replace a Secret, so it draws a key each time and the API
//! server decides whether it is the first. A Secret that was deleted comes back within ten minutes, with another key;
//! hosts keep the old one. No private key is ever logged.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use lifeboat_crds::signing::{INSTALLATION_SECRET, KeyError, SIGNING_KEY, SIGNING_PUB, SigningKey};
use lifeboat_process::api_error::api_words;
use rand::TryRngCore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::leadership::Gate;

/// Between tries.
const EVERY: Duration = Duration::from_secs(600);
/// After a try that brought no answer.
const SOON: Duration = Duration::from_secs(15);
/// Longest wait for the API server.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there may be no Secret.
#[derive(Debug, thiserror::Error)]
enum InstallationError {
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the API server did not answer within {} s", CALL_TIMEOUT.as_secs())]
    TimedOut,
    #[error("{}", api_words(.0))]
    Api(#[from] kube::Error),
}

/// What became of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Creation {
    Made,
    Exists,
}

/// Sees to it that there is a Secret, for as long as this process leads.
pub async fn keep_installation_key(client: Client, namespace: String, gate: Gate, drain: CancellationToken) {
    let secrets = Api::namespaced(client, &namespace);
    loop {
        let pause = if gate.may_write() { try_once(&secrets).await } else { SOON };
        tokio::select! {
            () = drain.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn try_once(secrets: &Api<Secret>) -> Duration {
    match create(secrets).await {
        Ok(Creation::Made) => {
            tracing::info!("a signing key was made for this installation, Secret {INSTALLATION_SECRET}");
            EVERY
        }
        Ok(Creation::Exists) => EVERY,
        Err(error) => {
            tracing::warn!(%error, "whether there is a Secret {INSTALLATION_SECRET} is not known; without one, new hosts \
                cannot sign what they write");
            SOON
        }
    }
}

async fn create(secrets: &Api<Secret>) -> Result<Creation, InstallationError> {
    let secret = installation_secret(&draw_key()?)?;
    let created = timeout(CALL_TIMEOUT, secrets.create(&PostParams::default(), &secret)).await;
    match created.map_err(|_elapsed| InstallationError::TimedOut)? {
        Ok(_) => Ok(Creation::Made),
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Creation::Exists),
        Err(error) => Err(error.into()),
    }
}

fn draw_key() -> Result<SigningKey, InstallationError> {
    let mut seed = [0; 32];
    let drawn = rand::rngs::OsRng.try_fill_bytes(&mut seed);
    drawn.map_err(|error| InstallationError::Randomness(error.to_string()))?;
    Ok(SigningKey::from_seed(seed))
}

/// Immutable: a key that is edited would look to every host like another installation's.
fn installation_secret(key: &SigningKey) -> Result<Secret, KeyError> {
    let data = [(SIGNING_KEY, key.to_pem()?), (SIGNING_PUB, key.public().to_pem()?)];
    let labels = [("app.kubernetes.io/name", "lifeboat"), ("app.kubernetes.io/managed-by", "lifeboat-operator")];
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(INSTALLATION_SECRET.to_owned()),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        immutable: Some(true),
        data: Some(BTreeMap::from(data.map(|(name, pem)| (name.to_owned(), ByteString(pem.into_bytes()))))),
        ..Secret::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::Conversation;
    use lifeboat_crds::signing::PublicKey;
    use serde_json::json;

    const PATH: &str = "/api/v1/namespaces/lifeboat/secrets";

    #[tokio::test]
    async fn a_secret_is_only_ever_created_and_one_that_is_there_is_left_alone() {
        let (client, mut server) = Conversation::start();
        let secrets = Api::namespaced(client, "lifeboat");
        let script = async {
            let create = server.expect("POST", PATH).await;
            let body = create.json().clone();
            create.answer(201, &body);
            server.expect("POST", PATH).await.refuse(
                409,
                "AlreadyExists",
                "secrets \"lifeboat-installation\" already exists",
            );
            server.expect("POST", PATH).await.refuse(403, "Forbidden", "secrets is forbidden");
            body
        };
        let tries = async { [create(&secrets).await, create(&secrets).await, create(&secrets).await] };
        let ([made, exists, forbidden], body) = tokio::join!(tries, script);
        assert_eq!((made.unwrap(), exists.unwrap()), (Creation::Made, Creation::Exists));
        assert!(forbidden.unwrap_err().to_string().contains("forbidden"));
        assert_eq!((&body["type"], &body["immutable"]), (&json!("Opaque"), &json!(true)));
        let secret: Secret = serde_json::from_value(body).unwrap();
        assert_eq!(secret.metadata.name.as_deref(), Some(INSTALLATION_SECRET));
        let data = secret.data.unwrap();
        let text = |key: &str| String::from_utf8(data[key].0.clone()).unwrap();
        let key = SigningKey::from_pem(&text(SIGNING_KEY)).unwrap();
        assert_eq!(PublicKey::from_pem(&text(SIGNING_PUB)).unwrap(), key.public());
    }

    #[tokio::test]
    async fn one_that_does_not_lead_creates_nothing() {
        let (client, server) = Conversation::start();
        let drain = CancellationToken::new();
        drain.cancel();
        let kept = keep_installation_key(client, "lifeboat".into(), Gate::fixed(false), drain);
        timeout(Duration::from_secs(2), kept).await.expect("nothing is asked of the API server");
        drop(server);
    }

    #[test]
    fn each_key_is_another() {
        assert_ne!(draw_key().unwrap().public(), draw_key().unwrap().public());
    }
}
