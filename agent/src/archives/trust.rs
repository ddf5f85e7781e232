//! Whose signatures a command believes: the keys of this host, and those that a human names.
//!
//! Reads files; asks nobody. A host whose keys cannot be read (not root) has none, and says so beside what is unknown.

use std::path::PathBuf;

use lifeboat_crds::signing::{KnownKeys, SignatureState};

use crate::host::keys::{FoundKeys, KeyDirectory, KeysError, read_public_keys};

/// Whose signatures are believed.
#[derive(Debug, clap::Args)]
pub struct Trust {
    /// Public keys to believe besides those of this host: a file in PEM, or a directory with *.pub files. May be given
    /// several times.
    #[arg(long = "trust-keys", value_name = "DIR|FILE", env = "LIFEBOAT_TRUST_KEYS", value_delimiter = ',')]
    trust_keys: Vec<PathBuf>,
    /// Keys of this host; they are believed.
    #[arg(long, value_name = "DIR", env = "LIFEBOAT_HOST_KEYS", default_value = "/var/lib/lifeboat/keys")]
    host_keys: PathBuf,
}

/// Whom to believe.
#[derive(Debug, Default)]
pub struct Trusted {
    /// The keys.
    pub known: KnownKeys,
    /// What could not be read, in words.
    pub remarks: Vec<String>,
}

impl Trust {
    /// Reads the keys.
    ///
    /// # Errors
    /// What a human named is no key. Keys of the host that cannot be read are remarked.
    pub fn read(&self) -> Result<Trusted, KeysError> {
        let Self { trust_keys, host_keys } = self;
        let mut trusted = match KeyDirectory::at(host_keys).read() {
            Ok(FoundKeys { keys, remarks }) => Trusted { known: keys.known, remarks },
            Err(error) => Trusted { known: KnownKeys::default(), remarks: vec![error.to_string()] },
        };
        for path in trust_keys {
            trusted.known.extend(read_public_keys(path)?);
        }
        Ok(trusted)
    }
}

/// One word for a column.
pub const fn signature_word(state: &SignatureState) -> &'static str {
    match state {
        SignatureState::Valid(_) => "known",
        SignatureState::Unknown(_) => "unknown",
        SignatureState::Unsigned => "unsigned",
        SignatureState::Invalid => "INVALID",
    }
}

/// What a signature is worth, in a sentence.
pub fn signature_words(state: &SignatureState) -> String {
    match state {
        SignatureState::Valid(key) => format!("signed by {key}, a key known on this host"),
        SignatureState::Unknown(key) => {
            format!("signed by {key}, a key not known on this host: name its public part with --trust-keys")
        }
        SignatureState::Unsigned => "unsigned: nothing proves who wrote its manifest".to_owned(),
        SignatureState::Invalid => "INVALID signature: its manifest was altered after it was written".to_owned(),
    }
}
