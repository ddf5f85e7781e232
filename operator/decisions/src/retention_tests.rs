use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;

use super::*;

fn policy(keep: [i32; 6], max_age_days: Option<i32>, minimum_healthy: i32) -> Retention {
    let [keep_last, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly] = keep;
    Retention {
        keep_last,
        keep_hourly,
        keep_daily,
        keep_weekly,
        keep_monthly,
        keep_yearly,
        max_age_days,
        minimum_healthy,
    }
}

fn good(name: &str, slot: &str) -> Holding {
    Holding { name: name.into(), slot: slot.parse().unwrap(), worth: Worth::Good, pin: None, hold: None }
}

fn judge(holdings: &[Holding], policy: &Retention, zone: &str, now: &str) -> Vec<Verdict> {
    let zone = TimeZone::get(zone).unwrap();
    let judged = Judged { holdings, policy, zone: &zone, newest_run: NewestRun::NotFailed };
    judge_archives(&judged, now.parse().unwrap())
}

/// Reasons in words; those of what goes begin with a minus.
fn words(verdicts: &[Verdict]) -> Vec<String> {
    verdicts
        .iter()
        .map(|verdict| {
            let reasons: Vec<String> = verdict.reasons.iter().map(Why::stable).collect();
            format!("{}{}", if verdict.is_keep() { "" } else { "-" }, reasons.join("; "))
        })
        .collect()
}

const NOW: &str = "2026-11-24T12:00:00Z";

#[test]
fn each_reason_is_given_and_copies_count_as_one() {
    let holdings = [
        good("a", "2026-11-24T06:00:00Z"),
        good("a-1", "2026-11-24T06:00:00Z"),
        good("b", "2026-11-24T00:00:00Z"),
        good("c", "2026-11-23T18:00:00Z"),
        good("d", "2026-11-23T12:00:00Z"),
        good("e", "2026-11-22T18:00:00Z"),
        good("f", "2026-10-31T18:00:00Z"),
        good("g", "2025-12-31T18:00:00Z"),
    ];
    let verdicts = judge(&holdings, &policy([2, 0, 2, 2, 2, 2], None, 1), "Etc/UTC", NOW);
    assert_eq!(
        words(&verdicts),
        [
            "last 2; daily 2026-11-24; weekly 2026-W48; monthly 2026-11; yearly 2026",
            "last 2; daily 2026-11-24; weekly 2026-W48; monthly 2026-11; yearly 2026",
            "last 2",
            "daily 2026-11-23",
            "-kept by no rule (last 2, daily 2, weekly 2, monthly 2, yearly 2)",
            "weekly 2026-W47",
            "monthly 2026-10",
            "yearly 2025",
        ]
    );
    assert_eq!(verdicts[3].reasons[0].ranked(), "daily 2 of 2");
    assert_eq!(verdicts[0].reasons[0].ranked(), "last 1 of 2");
}

#[test]
fn a_week_has_the_year_of_its_thursday() {
    // By the year of the day, Sunday 2023-01-01 would share a bucket with the last week of 2023.
    let holdings = [
        good("a", "2023-12-31T12:00:00Z"),
        good("b", "2023-01-02T12:00:00Z"),
        good("c", "2023-01-01T12:00:00Z"),
        good("d", "2022-12-31T12:00:00Z"),
    ];
    let verdicts = judge(&holdings, &policy([1, 0, 0, 9, 0, 0], None, 1), "Etc/UTC", NOW);
    assert_eq!(
        words(&verdicts),
        ["last 1; weekly 2023-W52", "weekly 2023-W01", "weekly 2022-W52", "-kept by no rule (last 1, weekly 9)"]
    );
}

#[test]
fn days_are_those_of_the_schedules_zone_also_where_clocks_change() {
    // Europe/Berlin: 2026-10-25 has 25 hours, its two o'clock comes twice; 2026-03-29 has 23.
    let holdings = [
        good("after", "2026-10-25T23:00:00Z"),
        good("evening", "2026-10-25T22:59:00Z"),
        good("second two", "2026-10-25T01:30:00Z"),
        good("first two", "2026-10-25T00:30:00Z"),
        good("before", "2026-10-24T21:59:00Z"),
        good("spring", "2026-03-29T21:59:00Z"),
        good("spring night", "2026-03-29T00:59:00Z"),
    ];
    let daily = judge(&holdings, &policy([1, 0, 9, 0, 0, 0], None, 1), "Europe/Berlin", NOW);
    assert_eq!(
        words(&daily),
        [
            "last 1; daily 2026-10-26",
            "daily 2026-10-25",
            "-kept by no rule (last 1, daily 9)",
            "-kept by no rule (last 1, daily 9)",
            "daily 2026-10-24",
            "daily 2026-03-29",
            "-kept by no rule (last 1, daily 9)",
        ]
    );
    let hourly = judge(&holdings, &policy([1, 9, 0, 0, 0, 0], None, 1), "Europe/Berlin", NOW);
    assert_eq!(words(&hourly)[2..4], ["hourly 2026-10-25T02+01:00", "hourly 2026-10-25T02+02:00"]);
}

#[test]
fn a_day_that_comes_twice_is_one_day() {
    // In St. John's the clocks went back from 00:01 to 23:01 of the day before.
    let holdings = [
        good("next", "2009-11-01T03:35:00Z"),
        good("again", "2009-11-01T03:00:00Z"),
        good("a minute", "2009-11-01T02:30:30Z"),
        good("day", "2009-10-31T12:00:00Z"),
    ];
    let verdicts = judge(&holdings, &policy([1, 0, 9, 0, 0, 0], None, 1), "America/St_Johns", NOW);
    assert_eq!(words(&verdicts)[..2], ["last 1; daily 2009-11-01", "daily 2009-10-31"]);
    assert!(!verdicts[2].is_keep() && !verdicts[3].is_keep());
}

#[test]
fn age_lets_go_what_rules_would_keep_but_never_the_last_good_ones() {
    let holdings =
        [good("a", "2026-11-01T00:00:00Z"), good("b", "2026-10-01T00:00:00Z"), good("c", "2026-09-01T00:00:00Z")];
    let aged = |minimum| words(&judge(&holdings, &policy([7, 0, 0, 0, 6, 0], Some(10), minimum), "Etc/UTC", NOW));
    assert_eq!(aged(1), ["minimum healthy 1", "-older than 10 days", "-older than 10 days"]);
    assert_eq!(aged(2), ["minimum healthy 2", "minimum healthy 2", "-older than 10 days"]);
    assert_eq!(aged(9), ["minimum healthy 9"; 3]);
}

#[test]
fn while_the_newest_run_failed_keep_last_holds_against_age() {
    let holdings =
        [good("a", "2026-11-01T00:00:00Z"), good("b", "2026-10-01T00:00:00Z"), good("c", "2026-09-01T00:00:00Z")];
    let policy = policy([2, 0, 0, 0, 0, 0], Some(10), 1);
    let judged = Judged { holdings: &holdings, policy: &policy, zone: &TimeZone::UTC, newest_run: NewestRun::Failed };
    assert_eq!(
        words(&judge_archives(&judged, NOW.parse().unwrap())),
        ["minimum healthy 1", "the newest run failed: the last 2 stay", "-older than 10 days"]
    );
}

#[test]
fn what_is_not_proven_keeps_nothing_else_from_staying_and_goes_by_age_alone() {
    let broken =
        |name: &str, slot: &str| Holding { worth: Worth::NotCounted("ArchiveCorrupt".into()), ..good(name, slot) };
    let holdings = [
        broken("a", "2026-11-24T06:00:00Z"),
        good("b", "2026-11-23T06:00:00Z"),
        good("c", "2026-11-22T06:00:00Z"),
        broken("d", "2026-11-21T06:00:00Z"),
    ];
    let judged = |days, minimum| words(&judge(&holdings, &policy([1, 0, 0, 0, 0, 0], days, minimum), "Etc/UTC", NOW));
    assert_eq!(
        judged(None, 1),
        ["not counted: ArchiveCorrupt", "last 1", "-kept by no rule (last 1)", "not counted: ArchiveCorrupt"]
    );
    assert_eq!(judged(Some(2), 1)[3], "-older than 2 days");
    assert_eq!(judged(Some(2), 3)[3], "not counted: ArchiveCorrupt", "there are too few good ones");
}

#[test]
fn pins_and_pauses_keep_what_would_go() {
    let pinned = Holding { pin: Some("audit".into()), ..good("b", "2026-11-22T06:00:00Z") };
    let paused = Holding { hold: Some("location x is ReadOnly".into()), ..good("c", "2026-11-21T06:00:00Z") };
    let first = Holding { hold: Some("location x is ReadOnly".into()), ..good("a", "2026-11-24T06:00:00Z") };
    let verdicts = judge(&[first, pinned, paused], &policy([1, 0, 0, 0, 0, 0], None, 1), "Etc/UTC", NOW);
    assert_eq!(
        words(&verdicts),
        ["last 1", "pinned: audit", "would expire, but nothing is deleted while location x is ReadOnly"]
    );
}

#[test]
fn ten_thousand_archives_are_judged_in_no_time() {
    let holdings: Vec<Holding> = (0..10_000)
        .map(|hour| Holding {
            slot: Timestamp::from_second(1_700_000_000 + hour * 3_600).unwrap(),
            ..good(&hour.to_string(), NOW)
        })
        .collect();
    let begun = Instant::now();
    let verdicts = judge(&holdings, &policy([7, 24, 7, 4, 6, 9], Some(400), 3), "America/Sao_Paulo", NOW);
    assert_eq!(verdicts.len(), 10_000);
    // Unoptimised and on a busy machine; a tenth of that is usual.
    assert!(begun.elapsed().as_millis() < 2_000, "{:?}", begun.elapsed());
}

// Properties, over archives of some years in zones whose clocks change.

const ZONES: [&str; 6] =
    ["Etc/UTC", "Europe/Berlin", "America/St_Johns", "America/Sao_Paulo", "Australia/Lord_Howe", "Pacific/Apia"];

#[derive(Clone, Debug)]
struct Case {
    holdings: Vec<Holding>,
    policy: Retention,
    zone: TimeZone,
    newest_run: NewestRun,
    now: Timestamp,
}

impl Case {
    fn verdicts(&self) -> Vec<Verdict> {
        let Self { holdings, policy, zone, newest_run, now } = self;
        judge_archives(&Judged { holdings, policy, zone, newest_run: *newest_run }, *now)
    }

    fn going(&self) -> BTreeSet<String> {
        let pairs = self.holdings.iter().zip(self.verdicts());
        pairs.filter(|(_, verdict)| !verdict.is_keep()).map(|(holding, _)| holding.name.clone()).collect()
    }

    /// What is left once everything that is to go has gone.
    fn carried_out(&self) -> Self {
        let going = self.going();
        let holdings = self.holdings.iter().filter(|holding| !going.contains(&holding.name)).cloned().collect();
        Self { holdings, ..self.clone() }
    }

    fn good_runs(&self) -> BTreeSet<Timestamp> {
        let good = self.holdings.iter().filter(|holding| holding.worth == Worth::Good);
        good.map(|holding| holding.slot).collect()
    }
}

const FIRST: i64 = 1_230_000_000;

fn any_case() -> impl Strategy<Value = Case> {
    let holding = (0..4_000_u32, 0..3_600_i64, 0..10_u8).prop_map(|(step, second, kind)| {
        // Half of them close together, the rest spread over years.
        let hours = if step % 2 == 0 { i64::from(step % 200) } else { i64::from(step) * 9 };
        Holding {
            name: String::new(),
            slot: Timestamp::from_second(FIRST + hours * 3_600 + second / 1_800 * 1_800).unwrap(),
            worth: if kind == 0 { Worth::NotCounted("no".into()) } else { Worth::Good },
            pin: (kind == 1).then(|| "why".into()),
            hold: (kind == 2).then(|| "it rains".into()),
        }
    });
    let policy = (1..6_i32, 0..6_i32, 0..6_i32, 0..4_i32, 0..4_i32, 0..3_i32, prop::option::of(1..2_000_i32), 1..5_i32)
        .prop_map(|(last, hours, days, weeks, months, years, age, minimum)| {
            policy([last, hours, days, weeks, months, years], age, minimum)
        });
    let zone = prop::sample::select(ZONES.to_vec());
    let now = (0..40_000_i64).prop_map(|hours| Timestamp::from_second(FIRST + hours * 3_600).unwrap());
    (prop::collection::vec(holding, 0..40), policy, zone, any::<bool>(), now).prop_map(
        |(mut holdings, policy, zone, has_failed, now)| {
            for (index, holding) in holdings.iter_mut().enumerate() {
                holding.name = format!("b{index}");
            }
            let newest_run = if has_failed { NewestRun::Failed } else { NewestRun::NotFailed };
            Case { holdings, policy, zone: TimeZone::get(zone).unwrap(), newest_run, now }
        },
    )
}

/// The rules once more, slowly and from their words: group by the text of the bucket, newest of each, newest groups.
fn kept_by_the_letter(case: &Case) -> BTreeSet<Timestamp> {
    let runs: Vec<Timestamp> = case.good_runs().into_iter().rev().collect();
    let mut kept: BTreeSet<Timestamp> = runs.iter().take(case.policy.keep_last as usize).copied().collect();
    for (form, number) in [
        ("%Y %j %H %z", case.policy.keep_hourly),
        ("%F", case.policy.keep_daily),
        ("%G %V", case.policy.keep_weekly),
        ("%Y %m", case.policy.keep_monthly),
        ("%Y", case.policy.keep_yearly),
    ] {
        let mut buckets: BTreeMap<String, Timestamp> = BTreeMap::new();
        for run in &runs {
            let text = run.to_zoned(case.zone.clone()).strftime(form).to_string();
            let newest = buckets.entry(text).or_insert(*run);
            *newest = (*newest).max(*run);
        }
        let mut newest: Vec<Timestamp> = buckets.into_values().collect();
        newest.sort();
        kept.extend(newest.into_iter().rev().take(number as usize));
    }
    kept
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_rules_keep_what_an_independent_reading_of_them_keeps(case in any_case()) {
        let by_the_letter = kept_by_the_letter(&case);
        let without_age = Case { policy: Retention { max_age_days: None, minimum_healthy: 1, ..case.policy.clone() }, ..case };
        for (holding, verdict) in without_age.holdings.iter().zip(without_age.verdicts()) {
            let is_free = holding.pin.is_none() && holding.hold.is_none() && holding.worth == Worth::Good;
            if is_free {
                prop_assert_eq!(verdict.is_keep(), by_the_letter.contains(&holding.slot), "{:?}", holding);
            }
        }
    }

    #[test]
    fn once_carried_out_nothing_more_goes_and_no_reason_changes(case in any_case()) {
        let before: BTreeMap<String, Vec<String>> = case.holdings.iter().zip(case.verdicts())
            .map(|(holding, verdict)| (holding.name.clone(), verdict.reasons.iter().map(Why::stable).collect())).collect();
        let after = case.carried_out();
        for (holding, verdict) in after.holdings.iter().zip(after.verdicts()) {
            prop_assert!(verdict.is_keep(), "{:?}", holding);
            let reasons: Vec<String> = verdict.reasons.iter().map(Why::stable).collect();
            prop_assert_eq!(&reasons, &before[&holding.name]);
        }
    }

    #[test]
    fn what_goes_at_one_time_goes_at_every_later_one(case in any_case(), hours in 0..50_000_i64) {
        let later = Case { now: after(case.now, SignedDuration::from_hours(hours)), ..case.clone() };
        prop_assert!(case.going().is_subset(&later.going()));
    }

    #[test]
    fn carrying_out_early_or_late_ends_the_same(case in any_case(), hours in 0..50_000_i64) {
        let now = after(case.now, SignedDuration::from_hours(hours));
        let names = |case: &Case| case.holdings.iter().map(|holding| holding.name.clone()).collect::<BTreeSet<_>>();
        let both = Case { now, ..case.carried_out() }.carried_out();
        let late = Case { now, ..case }.carried_out();
        prop_assert_eq!(names(&both), names(&late));
    }

    #[test]
    fn the_order_of_the_archives_does_not_matter(case in any_case(), seed in any::<u64>()) {
        let mut shuffled = case.clone();
        shuffled.holdings.sort_by_key(|holding| {
            let mut hash = std::hash::DefaultHasher::new();
            std::hash::Hash::hash(&(seed, &holding.name), &mut hash);
            std::hash::Hasher::finish(&hash)
        });
        prop_assert_eq!(case.going(), shuffled.going());
    }

    #[test]
    fn as_many_good_runs_stay_as_must(case in any_case()) {
        let mut must = usize::try_from(case.policy.minimum_healthy).unwrap();
        if case.newest_run == NewestRun::Failed {
            must = must.max(usize::try_from(case.policy.keep_last).unwrap());
        }
        let runs = case.good_runs();
        let left = case.carried_out().good_runs();
        prop_assert!(left.len() >= must.min(runs.len()), "{} of {} stay, {must} must", left.len(), runs.len());
        prop_assert_eq!(left.last(), runs.last(), "the newest good one");
    }

    #[test]
    fn pinned_and_held_archives_never_go(case in any_case()) {
        let going = case.going();
        for holding in &case.holdings {
            prop_assert!(holding.pin.is_none() && holding.hold.is_none() || !going.contains(&holding.name));
        }
    }
}
