//! Whether this host may change archives: its id stands in the cluster's `owner.json`, or somebody says that it may all the
//! same. Reads one small object and the host's own id; writes nothing.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use lifeboat_crds::layout;
use lifeboat_crds::location::Owner;
use lifeboat_crds::marker::OwnerDocument;
use lifeboat_storage::{ObjectKey, ObjectStore, StoreError};

use super::ArchiveError;
use crate::host::identity::read_host_id;

/// `owner.json` is a list of ids.
const LARGEST_OWNER: usize = 64 << 10;

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
    pub async fn check(&self, store: &dyn ObjectStore, cluster: &str) -> Result<(), ArchiveError> {
        let Self { state_dir, although_not_owner } = self;
        if *although_not_owner {
            return Ok(());
        }
        let own = read_host_id(state_dir).map_err(|error| ArchiveError::Refused(error.to_string()))?;
        let (owner, own) = (fetch_owner(store, cluster).await?, own.map(|id| id.as_str().to_owned()));
        let words = match (owner, own) {
            (Some(owner), Some(own)) if owner.hosts.contains(&own) => return Ok(()),
            (Some(_), Some(_)) => "the id of this host does not stand in owner.json of the cluster",
            (Some(_) | None, None) => "this host has no id: it is no master with an agent of Lifeboat",
            (None, Some(_)) => "there is no owner.json of the cluster, so nobody has said whose archives these are",
        };
        Err(ArchiveError::Refused(format!(
            "{words}; nothing was changed. Run this on a master of cluster {cluster}, or, if you are sure, with \
             --although-not-owner"
        )))
    }
}

async fn fetch_owner(store: &dyn ObjectStore, cluster: &str) -> Result<Option<Owner>, ArchiveError> {
    let key = ObjectKey::parse(layout::owner(cluster)).map_err(StoreError::from)?;
    match store.get_small(&key, LARGEST_OWNER).await {
        Ok(bytes) => {
            let read = OwnerDocument::from_bytes(&bytes);
            let wrong = |error| ArchiveError::Refused(format!("{}: {error}", store.uri(&key)));
            read.map(|document| Some(document.payload.owner)).map_err(wrong)
        }
        Err(StoreError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a human at the terminal says yes to what was shown; where there is none, `--yes` must have been given.
///
/// # Errors
/// Nobody can be asked, or the answer was another.
pub async fn confirm(out: &mut (dyn Write + Send), is_yes: bool, question: &str) -> Result<(), ArchiveError> {
    if is_yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(ArchiveError::Refused("nobody can be asked here: say --yes if it is to be done".to_owned()));
    }
    write!(out, "{question} [yes/no] ")?;
    out.flush()?;
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let line = read.await.map_err(io::Error::other)??;
    if line.trim() == "yes" { Ok(()) } else { Err(ArchiveError::Refused("nothing was changed".to_owned())) }
}
