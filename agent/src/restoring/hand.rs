//! Journals and a decision that a human brought to this master: files below the restore's `hand/`, read by command and executor
//! alike, and believed only as far as they prove themselves.

use std::io;
use std::path::{Path, PathBuf};

use lifeboat_crds::NodeName;
use lifeboat_crds::document::Envelope;
use lifeboat_crds::journal::{Journal, decode};
use lifeboat_crds::mac::open_decision;
use lifeboat_executor::Sealed;
use lifeboat_protocol::hand::{Judgement, Word, judge};
use lifeboat_protocol::{Ledger, Terms};
use serde_json::Value;

use crate::host::crashsafe::{self, WriteError};

/// The decision that was brought.
const DECISION: &str = "decision.json";
/// What follows the name of a master whose journal was brought.
const JOURNAL: &str = ".journal";

/// What was brought cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandError {
    /// The disk.
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It proves nothing.
    #[error("{path}: {words}", path = .path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        words: String,
    },
    /// It cannot be kept.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A name that is no member's.
    #[error("{0} is no member of this restore")]
    NoMember(NodeName),
}

/// What a human brought.
#[derive(Clone, Debug)]
pub struct Brought {
    root: PathBuf,
}

impl Brought {
    /// What was brought for the restore in this directory. Touches nothing.
    pub fn of(restore: &Path) -> Self {
        Self { root: restore.join("hand") }
    }

    /// Keeps an authentic decision.
    ///
    /// # Errors
    /// It is none, or the disk.
    pub fn keep_decision(&self, sealed: &Sealed, file: &Path) -> Result<Word, HandError> {
        let bytes = read(file)?;
        let word = word_of_decision(sealed, file, &bytes)?;
        self.keep(DECISION, &bytes)?;
        Ok(word)
    }

    /// Keeps a master's journal.
    ///
    /// # Errors
    /// It is not that master's of this restore, or the disk.
    pub fn keep_journal(&self, sealed: &Sealed, node: &NodeName, file: &Path) -> Result<(), HandError> {
        let bytes = read(file)?;
        ledger_of(sealed, node, file, &bytes)?;
        self.keep(&format!("{node}{JOURNAL}"), &bytes)
    }

    fn keep(&self, name: &str, bytes: &[u8]) -> Result<(), HandError> {
        crashsafe::make_private_directory(&self.root)?;
        Ok(crashsafe::replace(&self.root.join(name), bytes, 0o600)?)
    }

    /// Forgets all of it.
    ///
    /// # Errors
    /// The disk.
    pub fn forget(&self) -> Result<(), WriteError> {
        crashsafe::remove_tree(&self.root)
    }

    /// What it comes to, with this master's own journal; nothing where nothing was brought.
    ///
    /// # Errors
    /// Something of it cannot be used.
    pub fn judgement(&self, sealed: &Sealed, own: (&NodeName, &Path)) -> Result<Option<Judgement>, HandError> {
        if !self.root.exists() {
            return Ok(None);
        }
        let decision = self.root.join(DECISION);
        if decision.exists() {
            return word_of_decision(sealed, &decision, &read(&decision)?).map(|word| Some(Judgement::Tell(word)));
        }
        self.judge_with(sealed, own).map(Some)
    }

    /// Judges the journals that were brought and this master's own.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub fn judge_with(&self, sealed: &Sealed, (node, journal): (&NodeName, &Path)) -> Result<Judgement, HandError> {
        let mut journals = Vec::new();
        for member in &sealed.order.members {
            let path = if member.node_name == *node {
                journal.to_owned()
            } else {
                self.root.join(format!("{}{JOURNAL}", member.node_name))
            };
            journals.push(match path.exists() {
                true => Some(ledger_of(sealed, &member.node_name, &path, &read(&path)?)?),
                false => None,
            });
        }
        Ok(judge(&journals))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, HandError> {
    std::fs::read(path).map_err(|source| HandError::Unreadable { path: path.to_owned(), source })
}

fn word_of_decision(sealed: &Sealed, path: &Path, bytes: &[u8]) -> Result<Word, HandError> {
    let unusable = |words: String| HandError::Unusable { path: path.to_owned(), words };
    let envelope = Envelope::<Value>::from_bytes(bytes).map_err(|error| unusable(error.to_string()))?;
    let decision = open_decision(&sealed.key, &sealed.order, &sealed.digest, envelope);
    Ok(Word::decision(decision.map_err(|error| unusable(error.to_string()))?.verdict))
}

fn ledger_of(sealed: &Sealed, node: &NodeName, path: &Path, bytes: &[u8]) -> Result<Ledger, HandError> {
    let unusable = |words: String| HandError::Unusable { path: path.to_owned(), words };
    let terms = Terms::of(&sealed.order, &sealed.digest, node).map_err(|_| HandError::NoMember(node.clone()))?;
    match decode(bytes).map_err(|error| unusable(error.to_string()))? {
        Journal::Entries { entries, good: _ } => {
            Ledger::replay(&entries, &terms).map_err(|error| unusable(error.to_string()))
        }
        Journal::EndedElsewhere { restore_id: _, outcome } => Ok(Ledger { ended: Some(outcome), ..Ledger::default() }),
    }
}

#[cfg(test)]
#[path = "hand_tests.rs"]
mod tests;
