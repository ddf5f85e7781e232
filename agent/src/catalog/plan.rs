//! How much of a location is listed: everything, or what is newer than the last listing saw. Pure.
//!
//! Decided from what the location's status says alone, so that any agent goes on where another ended (docs/adr/012).

use jiff::{SignedDuration, Timestamp};
use lifeboat_crds::EtcdBackupLocationStatus;

/// Up to so many archives everything is listed each time: no more than a page or two.
const SMALL: i64 = 500;
/// Between listings of everything where that is little.
const SMALL_PERIOD: SignedDuration = SignedDuration::from_secs(590);
/// Between listings of everything where that is much.
const PERIOD: SignedDuration = SignedDuration::from_hours(24);
/// A backup's id is of when it was asked for, and its archive is whole up to so much later (twice the default of
/// spec.limits.timeoutSeconds): one that takes longer is found by the next listing of everything.
const MARGIN: SignedDuration = SignedDuration::from_secs(3_600);

/// What is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything, compared with every record.
    Full,
    /// Archives whose backupId sorts after this text.
    After(String),
}

/// Plans the listing of a location that was asked for at `asked`, a time of the operator's clock as those in the status.
pub fn plan_pass(status: &EtcdBackupLocationStatus, asked: Timestamp) -> Scope {
    let full = status.catalog.as_ref().and_then(|pass| pass.full_pass_time.as_ref()).map(|time| time.0);
    let newest = status.backups.as_ref().and_then(|backups| Some((backups.count, backups.newest.as_ref()?.0)));
    let (Some(full), Some((count, newest))) = (full, newest) else { return Scope::Full };
    let period = if count <= SMALL { SMALL_PERIOD } else { PERIOD };
    let age = asked.duration_since(full);
    // One that lies ahead was noted under a clock that was wrong.
    if age >= period || age.is_negative() {
        return Scope::Full;
    }
    let since = newest.checked_sub(MARGIN).unwrap_or(Timestamp::MIN);
    Scope::After(since.strftime("%Y%m%d-%H%M%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_crds::Time;
    use lifeboat_crds::location::{ArchiveSummary, CatalogPass};
    use proptest::prelude::*;

    fn status(full: Option<i64>, count: i64, newest: Option<i64>) -> EtcdBackupLocationStatus {
        let time = |second| Time(Timestamp::from_second(second).unwrap());
        let pass = CatalogPass {
            pass_id: "p".into(),
            time: None,
            full_pass_time: full.map(time),
            note: None,
            orphans: 0,
            error: None,
        };
        let newest = newest.map(time);
        EtcdBackupLocationStatus {
            catalog: Some(pass),
            backups: Some(ArchiveSummary { count, bytes: 0, oldest: None, newest }),
            ..EtcdBackupLocationStatus::default()
        }
    }

    fn plan(full: Option<i64>, count: i64, newest: Option<i64>, asked: i64) -> Scope {
        plan_pass(&status(full, count, newest), Timestamp::from_second(asked).unwrap())
    }

    #[test]
    fn little_is_listed_whole_every_ten_minutes_and_much_once_a_day() {
        assert_eq!(plan_pass(&EtcdBackupLocationStatus::default(), Timestamp::UNIX_EPOCH), Scope::Full);
        assert_eq!(plan(None, 10, Some(0), 100), Scope::Full, "never yet");
        assert_eq!(plan(Some(0), 0, None, 100), Scope::Full, "empty");
        assert_eq!(plan(Some(100_000), 500, Some(99_000), 100_060), Scope::After("19700102-023000".into()));
        assert_eq!(plan(Some(100_000), 500, Some(99_000), 100_600), Scope::Full);
        assert!(matches!(plan(Some(100_000), 501, Some(99_000), 186_399), Scope::After(_)));
        assert_eq!(plan(Some(100_000), 501, Some(99_000), 186_400), Scope::Full);
        assert_eq!(plan(Some(100_000), 501, Some(99_000), 99_999), Scope::Full, "a clock that was wrong");
    }

    proptest! {
        #[test]
        fn nothing_stays_unlisted_for_longer_than_a_day(full in 0_i64..1 << 33, count in 0_i64..20_000, newest in 0_i64..1 << 33, later in 86_400_i64..1 << 30) {
            prop_assert_eq!(plan(Some(full), count, Some(newest), full + later), Scope::Full);
        }

        #[test]
        fn whatever_is_newer_than_the_margin_is_listed(newest in 4_000_i64..1 << 33, ahead in -3_599_i64..1 << 20) {
            let Scope::After(mark) = plan(Some(1 << 33), 10, Some(newest), (1 << 33) + 60) else { panic!("all") };
            let id = lifeboat_crds::BackupId::new(Timestamp::from_second(newest + ahead).unwrap(), "u");
            prop_assert!(id.as_str() > mark.as_str());
        }
    }
}
