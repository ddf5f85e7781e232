//! `restore decide`: ends a restore that is in doubt because the location does not come back, from the journals of all masters
//! or from a copy of the decision (docs/restore-protocol.md).

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use lifeboat_crds::NodeName;
use lifeboat_crds::journal::{Journal, Record};
use lifeboat_crds::order::RestoreId;
use lifeboat_executor::{JournalFile, Sealed, read_journal};
use lifeboat_protocol::hand::Judgement;
use lifeboat_protocol::{Ledger, Seats};

use crate::restoring::RestoringError;
use crate::restoring::hand::{Brought, HandError};
use crate::restoring::humans::{self, SURRENDER};
use crate::restoring::launch::is_running;
use crate::restoring::site::{Site, SiteArguments, find_site};
use crate::restoring::standing::{Standing, only_open};

/// Within which an executor that runs hands its journal over.
const HANDS_OVER: Duration = Duration::from_secs(30);
/// How often is looked whether it did.
const LOOK: Duration = Duration::from_millis(200);

/// Flags of `restore decide`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["surrender", "journals", "decision"]))]
pub struct DecideArguments {
    /// Have this master write no decision from now on, and name its journal, to be copied to the master that decides.
    #[arg(long)]
    surrender: bool,
    /// The journal of another master, surrendered and copied here; once for each of them.
    #[arg(long = "journal", value_name = "NODE=FILE", value_parser = parse_journal)]
    journals: Vec<(NodeName, PathBuf)>,
    /// A copy of decision.json, from the bucket or another master: it settles it alone.
    #[arg(long, value_name = "FILE")]
    decision: Option<PathBuf>,
    /// Which restore, where more than one is under way here.
    #[arg(long, value_name = "ID")]
    restore: Option<RestoreId>,
    /// This master.
    #[command(flatten)]
    site: SiteArguments,
}

fn parse_journal(text: &str) -> Result<(NodeName, PathBuf), String> {
    match text.split_once('=') {
        Some((node, path)) if !node.is_empty() && !path.is_empty() => Ok((NodeName(node.to_owned()), path.into())),
        Some(_) | None => Err("write it as NODE=FILE".to_owned()),
    }
}

/// Decides, or hands the journal over.
///
/// # Errors
/// Nobody can decide yet, in words.
pub async fn run(arguments: DecideArguments, out: &mut (dyn Write + Send)) -> Result<(), RestoringError> {
    let DecideArguments { surrender, journals, decision, restore, site } = arguments;
    let site = find_site(site).await?;
    let standing = only_open(&site, restore.as_ref())?;
    let sealed = standing.directory.read(&site.name)?;
    if surrender {
        return hand_over(&site, &standing, out).await;
    }
    let brought = Brought::of(standing.directory.root());
    let judgement = if let Some(file) = &decision {
        Judgement::Tell(brought.keep_decision(&sealed, file)?)
    } else {
        for (node, file) in &journals {
            brought.keep_journal(&sealed, node, file)?;
        }
        brought.judge_with(&sealed, (&site.name, &standing.directory.journal()))?
    };
    match judgement {
        Judgement::Tell(word) => {
            match word.verdict() {
                Some(verdict) => writeln!(
                    out,
                    "{verdict}. This master obeys it, and writes it into the location when that is back. Type the same on every other \
                     master, with the same journals"
                )?,
                None => writeln!(
                    out,
                    "both decisions may have been written: nobody can know before the location is back. The journal is given back"
                )?,
            }
            Ok(())
        }
        refused @ (Judgement::Missing(_) | Judgement::NotSurrendered(_) | Judgement::Contradiction) => {
            brought.forget()?;
            Err(RestoringError::Refused(words_of(&refused, &sealed)))
        }
    }
}

fn words_of(judgement: &Judgement, sealed: &Sealed) -> String {
    let names = |seats: &Seats| {
        let members = (0..).zip(&sealed.order.members);
        members.fold(seats.to_string(), |words, (seat, member): (usize, _)| {
            words.replace(&format!("#{seat}"), member.node_name.as_str())
        })
    };
    match judgement {
        Judgement::Missing(seats) => format!(
            "the journals of {} are missing: `lifeboat restore decide --surrender` there, copy what it names, and say --journal NODE=FILE for \
             each",
            names(seats)
        ),
        Judgement::NotSurrendered(seats) => format!(
            "{} may still write a decision: `lifeboat restore decide --surrender` there first, and copy the journal after that",
            names(seats)
        ),
        Judgement::Contradiction => {
            "one journal proves that all go forward, another that all go back: start nothing; see \
                                     docs/restore-protocol.md, Damage"
                .to_owned()
        }
        Judgement::Tell(_) => String::new(),
    }
}

/// Surrenders the journal of this master: by its executor where one runs, else by this command.
async fn hand_over(site: &Site, standing: &Standing, out: &mut (dyn Write + Send)) -> Result<(), RestoringError> {
    let directory = &standing.directory;
    let journal = directory.journal();
    if is_running(directory)? {
        humans::wish(directory.root(), SURRENDER)?;
        let begun = std::time::Instant::now();
        while !ledger(&journal)?.is_some_and(|ledger| ledger.surrendered) {
            if begun.elapsed() > HANDS_OVER {
                return Err(RestoringError::GoesOn(
                    "the executor has not handed the journal over yet: it does so once it is in doubt; see `lifeboat restore status`"
                        .to_owned(),
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    } else if !ledger(&journal)?.is_some_and(|ledger| ledger.surrendered) {
        let mut file = JournalFile::open(&journal, &directory.lock())?;
        let elapsed = Ledger::sum(file.entries()).elapsed;
        file.append(Record::Surrendered, elapsed)?;
    }
    writeln!(
        out,
        "{} writes no decision from now on. Copy {} to the master that decides, and say there: lifeboat restore decide --journal {}=FILE …",
        site.name,
        journal.display(),
        site.name
    )?;
    Ok(())
}

fn ledger(journal: &std::path::Path) -> Result<Option<Ledger>, RestoringError> {
    Ok(match read_journal(journal)? {
        Some(Ok(Journal::Entries { entries, good: _ })) => Some(Ledger::sum(&entries)),
        Some(Ok(Journal::EndedElsewhere { .. }) | Err(_)) | None => None,
    })
}

impl From<HandError> for RestoringError {
    fn from(error: HandError) -> Self {
        match error {
            HandError::Unreadable { .. } | HandError::Unusable { .. } | HandError::NoMember(_) => {
                Self::Refused(error.to_string())
            }
            HandError::Write(_) => Self::Failed(error.to_string()),
        }
    }
}
