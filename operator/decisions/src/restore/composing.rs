//! The plan, made of what one agent found out and of what the operator sees of all masters.

use lifeboat_crds::finding::PlannedTerms;
use lifeboat_crds::restore::{DataLoss, Finding, PlanReport, PlannedBackup, RestorePlan};
use lifeboat_crds::{Assignment, EtcdRestore, Quantity, Time};
use sha2::{Digest, Sha256};

use super::Run;
use super::findings::{self, Grounds, room_needed};
use super::masters::{Master, tell_apart};

/// How long the API is usually away, seconds; the data is staged before that.
const USUAL_OUTAGE: i64 = 15;
/// Most lines of warnings, and of blockers.
const MOST_LINES: usize = 64;

/// What makes the code of a plan that of this plan alone. Who guesses an approval before the plan is made guesses this too.
pub(super) fn nonce(uid: &str, assignment: &Assignment) -> String {
    let Assignment { node_name: _, attempt, task: _, time } = assignment;
    let digest = Sha256::digest(format!("{uid}/{attempt}/{}", time.0));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The approval code of a plan.
pub(super) fn code_of(restore: &EtcdRestore, plan: &RestorePlan) -> Option<String> {
    let request = restore.spec.cluster.as_ref()?;
    let namespace = restore.metadata.namespace.as_deref().unwrap_or_default();
    let name = restore.metadata.name.as_deref().unwrap_or_default();
    PlannedTerms::of(request, plan).code(namespace, name, &restore.spec, plan)
}

/// The lines of a plan: each once, in one order, so that a plan made again of the same reads the same.
fn lines<'f>(findings: impl Iterator<Item = &'f Finding>) -> Vec<String> {
    let mut lines: Vec<String> = findings.map(Finding::line).collect();
    lines.sort();
    lines.dedup();
    lines.truncate(MOST_LINES);
    lines
}

impl Run<'_> {
    /// The plan as it is by what is known now.
    pub(super) fn compose(
        &self,
        assignment: &Assignment,
        report: &PlanReport,
        resolved: &PlannedBackup,
    ) -> RestorePlan {
        // The manifest knows best; where it lies is for the operator to say.
        let backup = PlannedBackup { location: resolved.location.clone(), ..report.backup.clone() };
        let masters = tell_apart(&report.members, &self.observed.members, &self.request.lost);
        let findings = findings::find(&Grounds {
            request: self.request,
            report,
            backup: &backup,
            masters: &masters,
            members: &self.observed.members,
            locations: &self.observed.locations,
            others: &self.observed.others,
            now: self.now,
        });
        let planned = |masters: &[Master<'_>]| masters.iter().map(Master::planned).collect();
        let data_loss = DataLoss {
            from: backup.time.clone(),
            to: Some(Time(report.time.0)),
            revisions: report.revision.saturating_sub(backup.revision).max(0),
        };
        let uid = self.observed.restore.metadata.uid.as_deref().unwrap_or_default();
        let mut plan = RestorePlan {
            approval_code: None,
            nonce: Some(nonce(uid, assignment)),
            members: planned(&masters.taking_part),
            lost: planned(&masters.lost),
            data_loss: Some(data_loss),
            changes: report.changes.clone(),
            persistent_volumes: report.persistent_volumes.clone(),
            disk_needed: Some(Quantity::human(u64::try_from(room_needed(report.size_bytes)).unwrap_or(0))),
            estimated_outage_seconds: Some(USUAL_OUTAGE),
            // Drawn with the order.
            bump_to: None,
            warnings: lines(findings.iter().filter(|finding| !finding.blocks())),
            blockers: lines(findings.iter().filter(|finding| finding.blocks())),
            backup: Some(backup),
        };
        plan.approval_code = code_of(&self.observed.restore, &plan);
        plan
    }
}
