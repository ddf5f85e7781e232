//! Watches the executor of this master until its restore is over, and says what it does.

use std::io::Write;
use std::time::Duration;

use lifeboat_crds::mark::Outcome;
use lifeboat_crds::order::RestoreId;
use tokio_util::sync::CancellationToken;

use crate::restoring::RestoringError;
use crate::restoring::humans::Progress;
use crate::restoring::launch::is_running;
use crate::restoring::site::Site;
use crate::restoring::standing::standing_of;

/// How often is looked.
const LOOK: Duration = Duration::from_millis(200);
/// An executor that was just asked for may need so long to take its lock.
const STARTS: Duration = Duration::from_secs(10);

/// Watches to the end.
///
/// # Errors
/// The old data was put back; nobody waits any more; or the executor is gone before the end.
pub async fn follow(
    site: &Site,
    id: &RestoreId,
    out: &mut (dyn Write + Send),
    cancel: &CancellationToken,
) -> Result<(), RestoringError> {
    let directory = site.restore(id);
    let mut shown = None;
    let mut away = Duration::ZERO;
    loop {
        let progress = Progress::read(directory.root());
        if progress != shown {
            if let Some(Progress { doing, trouble, time: _ }) = &progress {
                let trouble = trouble.as_ref().map(|words| format!("; trouble: {words}")).unwrap_or_default();
                writeln!(out, "{}: {doing}{trouble}", site.name)?;
            }
            shown = progress;
        }
        let standing = standing_of(&directory, id)?;
        match standing.outcome {
            Some(Outcome::Committed) => {
                writeln!(out, "{}: restored", site.name)?;
                return Ok(());
            }
            Some(Outcome::RolledBack) => {
                let why = standing.why.map(|why| format!(": {why}")).unwrap_or_default();
                return Err(RestoringError::Failed(format!("nothing was restored, the old data is back{why}")));
            }
            None => {}
        }
        away = if is_running(&directory)? { Duration::ZERO } else { away + LOOK };
        if away > STARTS {
            return Err(RestoringError::Failed(format!(
                "the executor of this restore does not run: see {} and begin it again with `lifeboat restore join`",
                crate::restoring::launch::log_of(&directory).display()
            )));
        }
        tokio::select! {
            () = cancel.cancelled() => {
                return Err(RestoringError::GoesOn(
                    "the restore goes on; see `lifeboat restore status`, or call it off with `lifeboat restore cancel`".to_owned(),
                ));
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}
