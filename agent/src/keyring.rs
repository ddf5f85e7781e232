//! The installation's key: read from its Secret, kept on this host, used from here when the Secret is gone.
//!
//! Reads one Secret through the API and files of this host; writes only the latter. The Secret may be missing (an older
//! etcd was restored, the operator is down): then the newest key that this host has seen signs.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use lifeboat_crds::signing::{INSTALLATION_SECRET, SIGNING_KEY, SigningKey};
use lifeboat_process::api_error::api_words;

use crate::host::keys::{HostKeys, KeyDirectory};

/// Longest wait for the API server.
const ASK_DEADLINE: Duration = Duration::from_secs(10);
/// Between looks at a Secret that is there.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Between looks for one that is not: the operator makes it as soon as it leads.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What a look at the Secret brought.
enum Look {
    Key(SigningKey),
    Missing,
    Unusable(String),
}

/// The keys of this agent.
pub struct Keyring {
    /// None where there is no API server to ask.
    secrets: Option<Api<Secret>>,
    directory: KeyDirectory,
    keys: Mutex<HostKeys>,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring")
    }
}

impl Keyring {
    /// What this host knows from before. Blocking. Files that cannot be used are warned of: they must not keep backups from
    /// being taken.
    pub fn open(client: Client, namespace: &str, state_dir: &Path) -> Self {
        Self { secrets: Some(Api::namespaced(client, namespace)), ..Self::of_host(state_dir) }
    }

    /// What this host knows, and nothing more: where there is no API server. Blocking.
    pub fn of_host(state_dir: &Path) -> Self {
        let directory = KeyDirectory::below(state_dir);
        let found = directory.read().unwrap_or_else(|error| {
            tracing::warn!(%error, "the keys of this host are not known");
            crate::host::keys::FoundKeys::default()
        });
        for words in &found.remarks {
            tracing::warn!(words, "a key of this host cannot be used");
        }
        Self { secrets: None, directory, keys: Mutex::new(found.keys) }
    }

    /// The keys for a piece of work. An agent that has never seen a key looks for it once more.
    pub async fn current(&self) -> HostKeys {
        if self.lock().signer.is_none() {
            self.take(self.look().await).await;
        }
        self.lock().clone()
    }

    /// Keeps looking for as long as the process lives, so that every host gains every key.
    pub async fn keep(self: Arc<Self>) {
        let mut was_there = true;
        loop {
            let look = self.look().await;
            let is_there = matches!(look, Look::Key(_));
            match &look {
                Look::Key(_) => {}
                Look::Missing if was_there => {
                    let signer = self.lock().signer.as_ref().map(|key| key.public().id().to_string());
                    tracing::warn!(
                        signer,
                        "there is no Secret {INSTALLATION_SECRET}; the operator makes it when it leads"
                    );
                }
                Look::Missing => {}
                Look::Unusable(words) => tracing::warn!(words, "the Secret {INSTALLATION_SECRET} cannot be used"),
            }
            self.take(look).await;
            was_there = is_there;
            tokio::time::sleep(if is_there { LOOK_EVERY } else { LOOK_AGAIN }).await;
        }
    }

    async fn look(&self) -> Look {
        let Some(secrets) = &self.secrets else { return Look::Missing };
        match tokio::time::timeout(ASK_DEADLINE, secrets.get_opt(INSTALLATION_SECRET)).await {
            Ok(Ok(Some(secret))) => key_of(&secret),
            Ok(Ok(None)) => Look::Missing,
            Ok(Err(error)) => Look::Unusable(api_words(&error)),
            Err(_elapsed) => Look::Unusable(format!("no answer within {} s", ASK_DEADLINE.as_secs())),
        }
    }

    /// Kept on the disk before anything is signed with it: no host signs with a key that it could lose.
    async fn take(&self, look: Look) {
        let Look::Key(key) = look else { return };
        let id = key.public().id();
        if self.lock().signer.as_ref().is_some_and(|signer| signer.public().id() == id) {
            return;
        }
        let (directory, kept) = (self.directory.clone(), key.clone());
        match tokio::task::spawn_blocking(move || directory.keep(&kept)).await {
            Ok(Ok(())) => tracing::info!(key = %id, "manifests are signed with this installation's key"),
            Ok(Err(error)) => tracing::warn!(key = %id, %error, "the key signs, but is not kept on this host"),
            Err(error) => tracing::warn!(key = %id, %error, "the key signs, but is not kept on this host"),
        }
        let mut keys = self.lock();
        keys.known.insert(key.public());
        keys.signer = Some(key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HostKeys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(secret: &Secret) -> Look {
    let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(SIGNING_KEY)) else {
        return Look::Unusable(format!("it has no key {SIGNING_KEY}: delete it, and the operator makes a new one"));
    };
    match SigningKey::from_pem(&String::from_utf8_lossy(&bytes.0)) {
        Ok(key) => Look::Key(key),
        Err(error) => {
            Look::Unusable(format!("{SIGNING_KEY} is {error}: delete the Secret, and the operator makes a new one"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::tests::secret;

    #[test]
    fn a_secret_gives_its_key_or_words_without_it() {
        let key = SigningKey::from_seed([1; 32]);
        let pem = key.to_pem().unwrap();
        assert!(matches!(key_of(&secret(&[(SIGNING_KEY, &pem)])), Look::Key(found) if found.public() == key.public()));
        for wrong in [secret(&[]), secret(&[(SIGNING_KEY, "hush")]), Secret::default()] {
            let Look::Unusable(words) = key_of(&wrong) else { panic!("a key from {wrong:?}") };
            assert!(words.contains(SIGNING_KEY) && words.contains("delete") && !words.contains("hush"), "{words}");
        }
    }
}
