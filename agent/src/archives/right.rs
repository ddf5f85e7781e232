//! Whether this host may change archives: its id stands in the cluster's `owner.json`, or somebody says that it may all the
//! same. Reads one small object and the host's own id; writes nothing.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::ArchiveError;
use super::shelf::Shelf;
use crate::host::identity::read_host_id;
use crate::location::ownership::{Ownership, OwnershipError};

/// For how long a store that does not say whose the archives are is asked again.
const PATIENCE: Duration = Duration::from_secs(30);

/// By what right archives are changed.
#[derive(Debug, clap::Args)]
pub struct Right {
    /// Where the agent of this master keeps its identity.
    #[arg(long, value_name = "DIR", env = "LIFEBOAT_STATE_DIR", default_value = "/var/lib/lifeboat")]
    state_dir: PathBuf,
    /// Change archives although this host is no master of the cluster that they are of, by owner.json in the location.
    /// Only where that cluster is known to be gone, or by those who run it.
    #[arg(long)]
    although_not_owner: bool,
}

impl Right {
    /// Refuses where this host is not one of the cluster's.
    ///
    /// # Errors
    /// It is not, or that is not known.
    pub async fn check(&self, shelf: &Shelf) -> Result<(), ArchiveError> {
        let Self { state_dir, although_not_owner } = self;
        if *although_not_owner {
            return Ok(());
        }
        let Shelf { store, cluster, cancel, .. } = shelf;
        let refused = |words: String| {
            ArchiveError::Refused(format!(
                "{words}; nothing was changed. Run this on a master of cluster {cluster}, or, if you are sure, with \
                 --although-not-owner"
            ))
        };
        let own = read_host_id(state_dir).map_err(|error| ArchiveError::Refused(error.to_string()))?;
        let own =
            own.ok_or_else(|| refused("this host has no id: it is no master with an agent of Lifeboat".to_owned()))?;
        let ownership = Ownership { store: store.as_ref(), cluster, me: &own, patience: PATIENCE, cancel };
        match ownership.check().await {
            Ok(()) => Ok(()),
            Err(OwnershipError::Store(error)) => Err(error.into()),
            Err(OwnershipError::OwnedByAnother(_)) => {
                Err(refused("the id of this host does not stand in owner.json of the cluster".to_owned()))
            }
            Err(OwnershipError::Unclaimed { uri }) => {
                Err(refused(format!("{uri} is not there, so nobody has said whose archives these are")))
            }
            Err(error @ (OwnershipError::Document { .. } | OwnershipError::Damaged(_))) => {
                Err(refused(error.to_string()))
            }
        }
    }
}

/// Whether a human at the terminal says yes to what was shown; where there is none, `--yes` must have been given.
///
/// # Errors
/// Nobody can be asked, the answer was another, or the command was told to end.
pub async fn confirm(
    out: &mut (dyn Write + Send),
    is_yes: bool,
    question: &str,
    cancel: &CancellationToken,
) -> Result<(), ArchiveError> {
    if is_yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(ArchiveError::Refused("nobody can be asked here: say --yes if it is to be done".to_owned()));
    }
    ask(out, question, || io::stdin().lock(), cancel).await
}

async fn ask<R: BufRead>(
    out: &mut (dyn Write + Send),
    question: &str,
    answers: impl FnOnce() -> R + Send + 'static,
    cancel: &CancellationToken,
) -> Result<(), ArchiveError> {
    write!(out, "{question} [yes/no] ")?;
    out.flush()?;
    let (sender, answer) = oneshot::channel();
    // A thread that nobody waits for: the runtime ends with its own threads only, and so with an answer that may never come.
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = sender.send(answers().read_line(&mut line).map(|_| line));
    });
    let refused = || ArchiveError::Refused("nothing was changed".to_owned());
    let line = tokio::select! {
        biased;
        () = cancel.cancelled() => {
            writeln!(out)?;
            return Err(refused());
        }
        line = answer => line.map_err(io::Error::other)??,
    };
    if line.trim() == "yes" { Ok(()) } else { Err(refused()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A terminal at which nobody types.
    struct Silent;

    impl io::Read for Silent {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            loop {
                std::thread::park();
            }
        }
    }

    #[test]
    fn a_question_ends_with_the_command_although_nobody_answers() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let asked = runtime.block_on(async {
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                stop.cancel();
            });
            ask(&mut io::sink(), "Delete?", || io::BufReader::new(Silent), &cancel).await
        });
        // It waits for the threads of its own.
        drop(runtime);
        assert!(matches!(asked, Err(ArchiveError::Refused(_))), "{asked:?}");
    }

    #[tokio::test]
    async fn only_yes_is_yes() {
        for (typed, is_yes) in [("yes\n", true), ("y\n", false), ("\n", false), ("", false)] {
            let asked = ask(&mut io::sink(), "Delete?", move || typed.as_bytes(), &CancellationToken::new()).await;
            assert_eq!(asked.is_ok(), is_yes, "{typed:?}");
        }
    }
}
