//! The executor: looks, asks the protocol, does the one thing, looks again; until nothing is left to do.
//!
//! It may be killed at any instruction and started again: the journal, the inodes and the store are all it goes by.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use lifeboat_crds::NodeName;
use lifeboat_crds::journal::Record;
use lifeboat_crds::mark::{Claim, Outcome, Reason, Verdict};
use lifeboat_crds::order::RestoreId;
use lifeboat_protocol::ledger::LedgerError;
use lifeboat_protocol::observed::{Failure, Host, Store, Wishes};
use lifeboat_protocol::{Decision, Effect, KEEP_TIME_EVERY, Ledger, Next, Observed, Phase, decide};
use lifeboat_storage::ObjectStore;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Sight};
use crate::directory::{DirectoryError, RestoreDirectory, Sealed};
use crate::journal::{JournalFile, JournalFileError};
use crate::machine::{Humans, Machine, MachineError, Told};

/// How often is looked while nothing happens and everything still serves, or all is over.
const LOOK: Duration = Duration::from_secs(1);
/// And while the API is away.
const LOOK_IN_OUTAGE: Duration = Duration::from_millis(200);
/// How often a mark is renewed that tells that this node lives (restore.md, Protocol).
const RENEW: Duration = Duration::from_secs(10);
/// Before something that failed is tried again.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// A mark is tried so often before the store counts as one that takes no writes.
const MARK_TRIES: u32 = 3;
/// Between those.
const MARK_PAUSE: Duration = Duration::from_millis(500);
/// The outcome in the bucket is for people; the marks are what counts.
const OUTCOME_TRIES: u32 = 5;

/// Why an executor ended without an end of the restore. Start it again.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalFileError),
    /// The directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The journal is of another restore.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// How an executor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is left to do: it may be removed.
    Over(Outcome),
    /// It was asked to stop; another one goes on.
    Stopped,
}

/// The executor of one restore on one master.
#[derive(Debug)]
pub struct Executor<M, H> {
    machine: M,
    humans: H,
    journal: JournalFile,
    sealed: Sealed,
    board: Board,
    ledger: Ledger,
    opened: Instant,
    /// Time on this node before it was opened.
    before: Duration,
    failure: Option<Failure>,
    refused: bool,
    renewed: Option<Instant>,
    wished: Wishes,
    told: Vec<String>,
    doing: String,
    trouble: Option<String>,
}

impl<M: Machine, H: Humans> Executor<M, H> {
    /// Opens the restore that was sealed below `<dataDir>/lifeboat`; nobody else works on it from here on.
    ///
    /// # Errors
    /// Another executor works on it, or what was sealed must not be acted upon.
    pub fn open(
        lifeboat: &Path,
        id: &RestoreId,
        node: &NodeName,
        store: Arc<dyn ObjectStore>,
        (machine, humans): (M, H),
    ) -> Result<Self, RunError> {
        let directory = RestoreDirectory::of(lifeboat, id);
        let journal = JournalFile::open(&directory.journal(), &directory.lock())?;
        let sealed = directory.read(node)?;
        let ledger = Ledger::replay(journal.entries(), &sealed.terms)?;
        let board = Board::of(store, &sealed, node);
        Ok(Self {
            machine,
            humans,
            journal,
            sealed,
            board,
            ledger,
            opened: Instant::now(),
            before: ledger.elapsed,
            failure: None,
            refused: false,
            renewed: None,
            wished: Wishes::default(),
            told: Vec::new(),
            doing: String::new(),
            trouble: None,
        })
    }

    /// Where this node is.
    pub fn phase(&self) -> Phase {
        self.ledger.phase()
    }

    /// Goes on until nothing is left to do.
    ///
    /// # Errors
    /// The journal could not be written: what it says must be read anew.
    pub async fn run(mut self, stop: &CancellationToken) -> Result<Ended, RunError> {
        while !stop.is_cancelled() {
            let sight = self.read_board().await;
            let Some(host) = self.look().await else {
                sleep(AFTER_FAILURE).await;
                continue;
            };
            let lost_answers = self.ask_the_lost().await;
            self.read_wishes();
            let seen = self.observed(&host, sight.as_ref(), lost_answers);
            let Decision { next, mark } = decide(&seen);
            if let Some(claim) = mark.filter(|claim| self.is_due(claim, sight.as_ref()))
                && self.show(claim).await
            {
                continue;
            }
            match next {
                Next::Record(record) => self.record(record)?,
                Next::Carry(effect) => self.carry(effect, &host, stop).await?,
                Next::Propose { verdict, reason } => self.propose(verdict, reason).await,
                Next::Wait(wait) => {
                    self.refused = false;
                    self.say(&self.words_of(&wait));
                    self.pause(stop).await;
                }
                Next::Rest(outcome) => {
                    self.publish_outcome(outcome, sight.as_ref()).await;
                    return Ok(Ended::Over(outcome));
                }
            }
        }
        Ok(Ended::Stopped)
    }

    fn observed<'a>(&'a self, host: &Host, sight: Option<&'a Sight>, lost_answers: bool) -> Observed<'a> {
        Observed {
            terms: &self.sealed.terms,
            journal: &self.ledger,
            host: *host,
            store: sight.map_or(Store::Silent, |sight| Store::Answers(sight.reading())),
            lost_answers,
            elapsed: self.elapsed(),
            wishes: self.wished,
            failure: self.failure,
            refused: self.refused,
        }
    }

    fn elapsed(&self) -> Duration {
        self.before + self.opened.elapsed()
    }

    async fn read_board(&mut self) -> Option<Sight> {
        match self.board.read().await {
            Ok(sight) => {
                for words in sight.ignored.iter().filter(|words| !self.told.contains(words)) {
                    self.humans.tell(Told::Ignored(words));
                }
                self.told.clone_from(&sight.ignored);
                Some(sight)
            }
            Err(error) => {
                self.trouble(error.to_string());
                None
            }
        }
    }

    async fn look(&mut self) -> Option<Host> {
        match self.machine.look(&self.ledger).await {
            Ok(host) => Some(host),
            Err(error) => {
                self.trouble(error.to_string());
                None
            }
        }
    }

    /// Asked only as long as the answer can matter: until this node carries a decision out.
    async fn ask_the_lost(&mut self) -> bool {
        let matters = match self.ledger.phase() {
            Phase::Staging
            | Phase::Gathering
            | Phase::Stopping
            | Phase::Exchanging
            | Phase::Serving
            | Phase::InDoubt => true,
            Phase::Leaving | Phase::Obeying(_) | Phase::Over(_) => false,
        };
        matters && !self.sealed.order.lost.is_empty() && self.machine.lost_answers().await
    }

    fn read_wishes(&mut self) {
        match self.humans.wishes() {
            Ok(wishes) => self.wished = wishes,
            Err(error) => self.trouble(error.to_string()),
        }
    }

    /// A mark that is not there is due, unless the store has just refused one: then the next thing comes first. One that is
    /// there is renewed from time to time.
    fn is_due(&self, claim: &Claim, sight: Option<&Sight>) -> bool {
        let seat = usize::from(self.sealed.terms.seat.0);
        let is_shown = sight.and_then(|sight| sight.marks.get(seat)).is_some_and(|own| own.staged.is_some());
        if *claim == Claim::Staged && is_shown {
            return self.renewed.is_none_or(|at| at.elapsed() >= RENEW);
        }
        !self.refused
    }

    /// Whether something was written that was not there before.
    async fn show(&mut self, claim: Claim) -> bool {
        let counter = self.board.next_counter();
        let mut tries = 0;
        loop {
            tries += 1;
            match self.board.show(claim, counter).await {
                Ok(()) => {
                    let is_renewal = claim == Claim::Staged && self.renewed.is_some();
                    self.renewed = Some(Instant::now());
                    self.refused = false;
                    return !is_renewal;
                }
                Err(error) if tries >= MARK_TRIES => {
                    self.trouble(error.to_string());
                    self.refused = true;
                    return true;
                }
                Err(_) => sleep(MARK_PAUSE).await,
            }
        }
    }

    fn record(&mut self, record: Record) -> Result<(), RunError> {
        let elapsed = self.elapsed();
        self.journal.append(record.clone(), elapsed)?;
        self.ledger = self.ledger.with(&record, elapsed);
        (self.failure, self.refused) = (None, false);
        self.humans.tell(Told::Recorded(&record));
        Ok(())
    }

    async fn propose(&mut self, verdict: Verdict, reason: Reason) {
        self.say(&format!("writes the decision {verdict}: {reason}"));
        let message = match &self.trouble {
            Some(trouble) if reason == Reason::StepFailed => format!("{reason}: {trouble}"),
            Some(_) | None => reason.to_string(),
        };
        match self.board.propose(verdict, reason, message).await {
            Ok(()) => self.refused = false,
            Err(error) => {
                self.trouble(error.to_string());
                self.refused = true;
            }
        }
    }

    /// Does one thing. Time goes on in the journal meanwhile; what takes long is given up as soon as it is not wanted.
    async fn carry(&mut self, effect: Effect, host: &Host, stop: &CancellationToken) -> Result<(), RunError> {
        self.say(&effect.to_string());
        let may_stop = matches!(effect, Effect::Stage | Effect::TakeSafetyBackup);
        let give_up = if may_stop { stop.child_token() } else { CancellationToken::new() };
        let carried = {
            let Self {
                machine, humans, journal, sealed, board, ledger, opened, before, refused, failure, wished, ..
            } = self;
            let begun_at = *ledger;
            let mut work = machine.carry(effect, &begun_at, &give_up);
            loop {
                tokio::select! {
                    carried = &mut work => break carried,
                    () = sleep(LOOK) => {}
                }
                let elapsed = *before + opened.elapsed();
                if elapsed.saturating_sub(ledger.elapsed) >= KEEP_TIME_EVERY {
                    journal.append(Record::Waited, elapsed)?;
                    *ledger = ledger.with(&Record::Waited, elapsed);
                }
                if !may_stop {
                    continue;
                }
                *wished = humans.wishes().unwrap_or(*wished);
                // Only what others and humans say has changed: the host is this effect's own.
                let sight = board.read().await.ok();
                let store = sight.as_ref().map_or(Store::Silent, |sight| Store::Answers(sight.reading()));
                let seen = Observed {
                    terms: &sealed.terms,
                    journal: ledger,
                    host: *host,
                    store,
                    lost_answers: false,
                    elapsed,
                    wishes: *wished,
                    failure: *failure,
                    refused: *refused,
                };
                if let Next::Record(record) = decide(&seen).next
                    && record != Record::Waited
                {
                    give_up.cancel();
                }
            }
        };
        self.refused = false;
        match carried {
            Ok(()) => self.failure = None,
            Err(MachineError { words, is_permanent }) => {
                self.failure = Some(Failure { effect, permanent: is_permanent });
                self.trouble(format!("{effect}: {words}"));
                sleep(AFTER_FAILURE).await;
            }
        }
        Ok(())
    }

    async fn publish_outcome(&mut self, outcome: Outcome, sight: Option<&Sight>) {
        let decided = sight.and_then(|sight| sight.decided.clone());
        let why = decided.map_or((Reason::DecidedBefore, Reason::DecidedBefore.to_string()), |decided| {
            (decided.reason, decided.message)
        });
        let outage = self.ledger.quiesced_at.map(|at| self.ledger.elapsed.saturating_sub(at));
        let outcome = self.board.outcome_of(outcome, why, outage, Timestamp::now());
        for _ in 0..OUTCOME_TRIES {
            match self.board.publish_outcome(&outcome).await {
                Ok(()) => return,
                Err(error) => self.trouble(error.to_string()),
            }
            sleep(AFTER_FAILURE).await;
        }
    }

    async fn pause(&self, stop: &CancellationToken) {
        let is_outage = self.ledger.quiesced_at.is_some() && !self.ledger.released && self.ledger.ended.is_none();
        let pause = if is_outage { LOOK_IN_OUTAGE } else { LOOK };
        tokio::select! {
            () = stop.cancelled() => {}
            () = sleep(pause) => {}
        }
    }

    /// Members by name instead of by seat.
    fn words_of(&self, wait: &lifeboat_protocol::Wait) -> String {
        let members = (0..).zip(&self.sealed.order.members);
        members.fold(wait.to_string(), |words, (seat, member): (usize, _)| {
            words.replace(&format!("#{seat}"), member.node_name.as_str())
        })
    }

    fn say(&mut self, doing: &str) {
        if self.doing != doing {
            doing.clone_into(&mut self.doing);
            self.humans.tell(Told::Doing(doing));
        }
        if self.failure.is_none() && !self.refused {
            self.trouble = None;
        }
    }

    fn trouble(&mut self, words: String) {
        if self.trouble.as_ref() != Some(&words) {
            self.humans.tell(Told::Trouble(&words));
            self.trouble = Some(words);
        }
    }
}
