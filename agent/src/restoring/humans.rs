//! What people ask an executor for, and what it tells them: files in the restore's directory, which `lifeboat restore` writes
//! and reads. The log says the same.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use lifeboat_crds::NodeName;
use lifeboat_crds::journal::Record;
use lifeboat_executor::{Humans, MachineError, RestoreDirectory, Sealed, Told};
use lifeboat_protocol::hand::{Judgement, Word};
use lifeboat_protocol::observed::Wishes;
use serde::{Deserialize, Serialize};

use super::hand::Brought;
use crate::host::crash_point::crash_point;
use crate::host::crashsafe;

/// Name of the wish to call it off.
pub const CANCEL: &str = "wish-cancel";
/// Name of the wish to go on.
pub const RELEASE: &str = "wish-release";
/// Name of the wish to have the journal.
pub const SURRENDER: &str = "wish-surrender";
/// What the executor told last.
const PROGRESS: &str = "progress.json";

/// What an executor told last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// What it does or waits for.
    pub doing: String,
    /// What went wrong last, where that still holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// When it said so.
    pub time: Timestamp,
}

impl Progress {
    /// What was told below `root`; nothing where nothing was, or where it cannot be read.
    pub fn read(root: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(root.join(PROGRESS)).ok()?).ok()
    }
}

/// The humans of this master.
#[derive(Debug)]
pub struct HostHumans {
    root: PathBuf,
    sealed: Sealed,
    node: NodeName,
    progress: Progress,
}

impl HostHumans {
    /// Those who look into a restore's directory.
    pub fn of(directory: &RestoreDirectory, sealed: Sealed, node: NodeName) -> Self {
        Self { root: directory.root().to_owned(), sealed, node, progress: Progress::default() }
    }

    fn word(&self) -> Result<Option<Word>, MachineError> {
        let own = (&self.node, self.root.join("journal"));
        let judged = Brought::of(&self.root).judgement(&self.sealed, (own.0, &own.1));
        match judged.map_err(|error| MachineError { words: error.to_string(), is_permanent: false })? {
            Some(Judgement::Tell(word)) => Ok(Some(word)),
            Some(Judgement::Missing(_) | Judgement::NotSurrendered(_) | Judgement::Contradiction) | None => Ok(None),
        }
    }

    fn wishes_for(&self, name: &str) -> Result<bool, MachineError> {
        let path = self.root.join(name);
        path.try_exists().map_err(|error| MachineError {
            words: format!("{} cannot be looked for: {error}", path.display()),
            is_permanent: false,
        })
    }

    fn answer(&self, wish: &str) {
        let _ = std::fs::remove_file(self.root.join(wish));
    }

    fn write(&mut self) {
        self.progress.time = Timestamp::now();
        let text = serde_json::to_vec_pretty(&self.progress).unwrap_or_default();
        if let Err(error) = crashsafe::replace(&self.root.join(PROGRESS), &text, 0o600) {
            tracing::warn!(%error, "what is done cannot be shown");
        }
    }
}

impl Humans for HostHumans {
    fn wishes(&mut self) -> Result<Wishes, MachineError> {
        Ok(Wishes {
            cancel: self.wishes_for(CANCEL)?,
            release: self.wishes_for(RELEASE)?,
            surrender: self.wishes_for(SURRENDER)?,
            hand: self.word()?,
        })
    }

    fn tell(&mut self, told: Told<'_>) {
        match told {
            Told::Doing(words) => {
                tracing::info!("{words}");
                self.progress = Progress { doing: words.to_owned(), trouble: None, ..self.progress.clone() };
                self.write();
            }
            Told::Trouble(words) => {
                tracing::warn!("{words}");
                self.progress.trouble = Some(words.to_owned());
                self.write();
            }
            Told::Recorded(record) => {
                tracing::info!(?record, "recorded");
                crash_point(format_args!("Recorded({record:?})"));
                match record {
                    Record::ReleaseGranted => self.answer(RELEASE),
                    Record::Surrendered => self.answer(SURRENDER),
                    Record::Resumed => {
                        self.answer(SURRENDER);
                        if let Err(error) = Brought::of(&self.root).forget() {
                            tracing::warn!(%error, "what was brought by hand is still there");
                        }
                    }
                    _ => {}
                }
            }
            Told::Ignored(words) => tracing::warn!("not believed: {words}"),
        }
    }
}

/// Leaves a wish.
///
/// # Errors
/// The disk.
pub fn wish(root: &Path, name: &str) -> io::Result<()> {
    crashsafe::replace(&root.join(name), b"", 0o600).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wish_is_seen_until_it_is_granted_and_what_is_told_can_be_read() {
        let home = tempfile::tempdir().unwrap();
        let master = crate::restoring::fixture::masters(home.path()).await.swap_remove(0);
        let dir = master.directory.root().to_owned();
        let mut humans = HostHumans::of(&master.directory, master.sealed, master.name);
        assert_eq!(humans.wishes().unwrap(), Wishes::default());
        wish(&dir, RELEASE).unwrap();
        assert!(humans.wishes().unwrap().release);
        humans.tell(Told::Recorded(&Record::ReleaseGranted));
        assert!(!humans.wishes().unwrap().release);
        humans.tell(Told::Doing("waits"));
        humans.tell(Told::Trouble("no room"));
        let told = Progress::read(&dir).unwrap();
        assert_eq!((told.doing.as_str(), told.trouble.as_deref()), ("waits", Some("no room")));
        humans.tell(Told::Doing("goes on"));
        assert_eq!(Progress::read(&dir).unwrap().trouble, None);
    }
}
