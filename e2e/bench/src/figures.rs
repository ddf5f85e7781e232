//! All that was measured, as it goes to `backup.json`, and the figures that the design sets bounds for. Pure.

use serde::Serialize;

use crate::machine::{Machine, Quiet};
use crate::rest::{OperatorAtRest, Rest};
use crate::rounds::{Compared, Disturbed};

/// Everything of one run of the bench.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    #[serde(flatten)]
    pub figures: Figures,
    pub date: String,
    pub machine: Machine,
    pub versions: Vec<String>,
    pub seed: u64,
    pub runs: u32,
    /// Runs before which the machine was busy with something else, of all runs.
    pub busy_runs: usize,
    pub all_runs: usize,
    pub raw: Raw,
}

/// What the figures are made from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Raw {
    pub compared: Option<Compared>,
    pub grown: Option<Compared>,
    pub disturbed: Option<Disturbed>,
    /// The agent before its first backup, and after its last.
    pub agent_fresh: Option<Rest>,
    pub agent_after_backups: Option<Rest>,
    pub operator: Option<OperatorAtRest>,
    pub verifier_gib_per_s: Vec<f64>,
}

/// The table of the design, a row a field; nothing where it was not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    pub backup_vs_etcdctl_save: Option<f64>,
    pub backup_vs_stream_floor: Option<f64>,
    pub put_p99_vs_etcdctl_save: Option<f64>,
    pub agent_peak_rss_mib_1gib: Option<f64>,
    pub agent_peak_rss_mib_4gib: Option<f64>,
    pub agent_idle_rss_mib: Option<f64>,
    pub operator_idle_rss_mib_1000_backups: Option<f64>,
    pub verifier_gib_per_s: Option<f64>,
    pub time_4gib_vs_1gib: Option<f64>,
    pub api_writes_per_backup: Option<f64>,
}

/// The middle value; the mean of the two in the middle of an even number.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => values.get(middle).copied(),
        _ => Some((values.get(middle - 1)? + values.get(middle)?) / 2.0),
    }
}

/// The largest value.
pub fn most(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    values.into_iter().reduce(f64::max)
}

fn ratio(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    Some(above? / below?)
}

impl Compared {
    /// Median time from request to `Complete`.
    pub fn backup(&self) -> Option<f64> {
        median(self.backups.iter().map(|run| run.seconds_seen))
    }

    fn peak(&self) -> Option<f64> {
        most(self.backups.iter().map(|run| run.agent_peak_rss_mib))
    }
}

impl Figures {
    /// From what was measured. Memory is the worst of all runs, all else a median.
    pub fn of(raw: &Raw) -> Self {
        let Raw { compared, grown, disturbed, agent_fresh, agent_after_backups, operator, verifier_gib_per_s } = raw;
        let compared = compared.as_ref();
        let backup = compared.and_then(Compared::backup);
        let p99 = |kind: fn(&Disturbed) -> &Vec<crate::latency::Latencies>| {
            median(disturbed.iter().flat_map(|disturbed| kind(disturbed).iter().map(|run| run.p99_ms)))
        };
        let agents = [*agent_fresh, *agent_after_backups, operator.map(|operator| operator.agent)];
        let operators = operator.map(|operator| [operator.after_start, operator.after_changes]);
        Self {
            backup_vs_etcdctl_save: ratio(backup, median(compared.iter().flat_map(|c| c.save.iter().copied()))),
            backup_vs_stream_floor: ratio(backup, median(compared.iter().flat_map(|c| c.floor.iter().copied()))),
            put_p99_vs_etcdctl_save: ratio(p99(|d| &d.backup), p99(|d| &d.save)),
            agent_peak_rss_mib_1gib: compared.and_then(Compared::peak),
            agent_peak_rss_mib_4gib: grown.as_ref().and_then(Compared::peak),
            agent_idle_rss_mib: most(agents.into_iter().flatten().map(|rest| rest.rss_mib)),
            operator_idle_rss_mib_1000_backups: most(operators.into_iter().flatten().map(|rest| rest.rss_mib)),
            verifier_gib_per_s: median(verifier_gib_per_s.iter().copied()),
            time_4gib_vs_1gib: ratio(grown.as_ref().and_then(Compared::backup), backup),
            api_writes_per_backup: median(
                compared.iter().flat_map(|compared| compared.backups.iter().map(|run| run.api_writes as f64)),
            ),
        }
    }
}

impl Raw {
    /// Looks at the machine before the runs.
    pub fn looks(&self) -> Vec<Quiet> {
        let compared = self.compared.iter().chain(&self.grown).flat_map(|compared| &compared.before);
        compared.chain(self.disturbed.iter().flat_map(|disturbed| &disturbed.before)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median([]), None);
    }

    #[test]
    fn what_was_not_measured_has_no_figure() {
        assert_eq!(Figures::of(&Raw::default()), Figures::default());
        let compared = Compared { save: vec![2.0], floor: vec![], ..Compared::default() };
        assert_eq!(Figures::of(&Raw { compared: Some(compared), ..Raw::default() }), Figures::default());
    }
}
