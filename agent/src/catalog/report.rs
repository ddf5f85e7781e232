//! What a pass found, gathered within the bounds of the report. Pure.

use lifeboat_crds::BackupId;
use lifeboat_crds::location::{AlteredArchive, CatalogReport};

use super::listing::Orphans;

/// Backups named in each list; what is beyond is told by the next pass.
pub const MOST_NAMED: usize = 64;
/// Manifests named that cannot be used.
const MOST_UNREADABLE: usize = 8;
/// Longest words about one archive, characters.
const MOST_WORDS: usize = 512;

/// A report in the making.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    report: CatalogReport,
}

impl Findings {
    /// A pass begins.
    pub fn new(pass_id: String, is_full: bool) -> Self {
        Self { report: CatalogReport { pass_id, is_full, ..CatalogReport::default() } }
    }

    /// A record was made, or filled in.
    pub fn imported(&mut self) {
        self.report.imported += 1;
    }

    /// Something was left for the next pass.
    pub fn left_over(&mut self) {
        self.report.has_more = true;
    }

    /// A backup's archive is gone.
    pub fn missing(&mut self, id: &BackupId) {
        let CatalogReport { missing, has_more, .. } = &mut self.report;
        push(missing, id.to_string(), has_more);
    }

    /// A backup's archive was deleted on somebody's word.
    pub fn deleted(&mut self, id: &BackupId, words: &str) {
        let CatalogReport { deleted, has_more, .. } = &mut self.report;
        push(deleted, altered(id, words), has_more);
    }

    /// A backup's archive is as it should be again.
    pub fn recovered(&mut self, id: &BackupId) {
        let CatalogReport { recovered, has_more, .. } = &mut self.report;
        push(recovered, id.to_string(), has_more);
    }

    /// A backup's archive is another.
    pub fn corrupt(&mut self, id: &BackupId, words: &str) {
        let CatalogReport { corrupt, has_more, .. } = &mut self.report;
        push(corrupt, altered(id, words), has_more);
    }

    /// An archive without a record cannot be given one.
    pub fn unreadable(&mut self, id: &BackupId, words: &str) {
        self.report.unreadable += 1;
        if self.report.unreadable_examples.len() < MOST_UNREADABLE {
            self.report.unreadable_examples.push(altered(id, words));
        }
    }

    /// Records made so far.
    pub fn imports(&self) -> i64 {
        self.report.imported
    }

    /// The report.
    pub fn finish(mut self, orphans: Orphans) -> CatalogReport {
        let Orphans { count, examples } = orphans;
        // They come as they are confirmed.
        self.report.missing.sort_unstable();
        CatalogReport { orphans: count, orphan_examples: examples, ..self.report }
    }
}

fn push<T>(list: &mut Vec<T>, item: T, has_more: &mut bool) {
    if list.len() < MOST_NAMED {
        list.push(item);
    } else {
        *has_more = true;
    }
}

fn altered(id: &BackupId, words: &str) -> AlteredArchive {
    AlteredArchive { backup_id: id.to_string(), message: words.chars().take(MOST_WORDS).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_for_the_next_pass() {
        let mut findings = Findings::new("p".into(), true);
        for second in 0..70 {
            let id = format!("20261124-0203{:02}-00000001", second % 60).parse().unwrap();
            findings.missing(&id);
            findings.unreadable(&id, &"w".repeat(5_000));
        }
        let report = findings.finish(Orphans::default());
        assert_eq!((report.missing.len(), report.has_more), (64, true));
        assert_eq!((report.unreadable, report.unreadable_examples.len()), (70, 8));
        assert!(serde_json::to_vec(&report).unwrap().len() < 10_000, "it is read by every backup's controller");
    }
}
