//! `restore status`: the restores of this master, from their journals. Asks nobody.

use std::fmt::Write as _;
use std::io::Write;

use crate::node_cli::{Format, print};
use crate::restoring::RestoringError;
use crate::restoring::humans::Progress;
use crate::restoring::site::{SiteArguments, find_site};
use crate::restoring::standing::{Standing, standings};

/// Flags of `restore status`.
#[derive(Debug, clap::Args)]
pub struct StatusArguments {
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// This master.
    #[command(flatten)]
    site: SiteArguments,
}

/// Shows them.
///
/// # Errors
/// Something cannot be read.
pub async fn run(arguments: StatusArguments, out: &mut (dyn Write + Send)) -> Result<(), RestoringError> {
    let StatusArguments { output, site } = arguments;
    let site = find_site(site).await?;
    let all = standings(&site)?;
    let mut words = String::new();
    for standing in &all {
        let Standing { restore_id, phase, why, progress, is_running, backup_id, members, outcome, owes, .. } = standing;
        let _ = writeln!(words, "restore {restore_id}: {phase}");
        if let Some(backup) = backup_id {
            let _ = writeln!(words, "  backup:  {backup}");
        }
        let _ = writeln!(words, "  members: {}", members.join(", "));
        if let Some(Progress { doing, trouble, time }) = progress.as_ref().filter(|_| outcome.is_none()) {
            let _ = writeln!(words, "  now:     {doing} (since {time})");
            if let Some(trouble) = trouble {
                let _ = writeln!(words, "  trouble: {trouble}");
            }
        }
        if let Some(why) = why {
            let _ = writeln!(words, "  why:     {why}");
        }
        match (outcome.is_none(), owes, is_running) {
            (true, _, false) => words.push_str("  NO EXECUTOR RUNS: start it again with `lifeboat restore join`\n"),
            (false, true, false) => words.push_str(
                "  NO EXECUTOR RUNS to tell the others that it ended here: start it again with `lifeboat restore join`\n",
            ),
            (false, true, true) => words.push_str("  the others do not know of it yet: the location has not taken it\n"),
            (true, _, true) | (false, false, _) => {}
        }
    }
    if all.is_empty() {
        words.push_str("no restore was ever sealed on this master\n");
    }
    Ok(print(out, output, &words, &all)?)
}
