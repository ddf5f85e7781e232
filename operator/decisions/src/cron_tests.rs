use super::*;
use proptest::prelude::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(expression: &str, zone: &str) -> CronSchedule {
    CronSchedule::parse(expression, zone).unwrap_or_else(|refusal| panic!("{refusal}"))
}

#[test]
fn what_cannot_be_followed_is_refused_with_words_that_say_what_to_write() {
    for (expression, zone, reason, words) in [
        ("0 0 * * * *", "Etc/UTC", Reason::InvalidSchedule, "five fields"),
        ("0 0 * *", "Etc/UTC", Reason::InvalidSchedule, "has 4 fields"),
        ("", "Etc/UTC", Reason::InvalidSchedule, "has 0 fields"),
        ("@every 1h", "Etc/UTC", Reason::InvalidSchedule, "@every"),
        ("@fortnightly", "Etc/UTC", Reason::InvalidSchedule, "@fortnightly"),
        ("@daily 5", "Etc/UTC", Reason::InvalidSchedule, "@daily 5"),
        ("TZ=Europe/Berlin 0 6 * * *", "Etc/UTC", Reason::InvalidSchedule, "timeZone"),
        ("CRON_TZ=Europe/Berlin 0 6 * * *", "Etc/UTC", Reason::InvalidSchedule, "timeZone"),
        ("61 * * * *", "Etc/UTC", Reason::InvalidSchedule, "minute \"61\""),
        ("0 24 * * *", "Etc/UTC", Reason::InvalidSchedule, "hour \"24\""),
        ("0 0 32 * *", "Etc/UTC", Reason::InvalidSchedule, "day of month \"32\""),
        ("0 0 * 13 *", "Etc/UTC", Reason::InvalidSchedule, "month \"13\""),
        ("0 0 * * 8", "Etc/UTC", Reason::InvalidSchedule, "day of week \"8\""),
        ("a * * * *", "Etc/UTC", Reason::InvalidSchedule, "minute \"a\""),
        ("0 6 * * *", "Europe/Atlantis", Reason::InvalidSchedule, "Europe/Atlantis"),
        ("0 6 * * *", "", Reason::InvalidSchedule, "IANA"),
        ("30 2 30 2 *", "Etc/UTC", Reason::NeverFires, "30 2 30 2 *"),
        ("0 0 31 4,6,9,11 *", "Etc/UTC", Reason::NeverFires, "0 0 31 4,6,9,11 *"),
    ] {
        let refusal = CronSchedule::parse(expression, zone).map(|_| ()).unwrap_err();
        assert_eq!(refusal.reason(), reason, "{refusal}");
        assert!(refusal.to_string().contains(words), "{words:?} is not in {refusal}");
    }
}

#[test]
fn nicknames_and_names_of_days_are_read() {
    let after = time("2026-11-24T12:00:00Z");
    for (expression, next) in [
        ("@hourly", "2026-11-24T13:00:00Z"),
        ("@daily", "2026-11-25T00:00:00Z"),
        ("@midnight", "2026-11-25T00:00:00Z"),
        ("@weekly", "2026-11-29T00:00:00Z"),
        ("@monthly", "2026-12-01T00:00:00Z"),
        ("@yearly", "2027-01-01T00:00:00Z"),
        ("@annually", "2027-01-01T00:00:00Z"),
        ("0 3 * * mon-fri", "2026-11-25T03:00:00Z"),
        ("0 3 * * 7", "2026-11-29T03:00:00Z"),
        ("0 3 1 jan *", "2027-01-01T03:00:00Z"),
        // Day of month or day of week: either, as cron always did.
        ("0 0 1 * 5", "2026-11-27T00:00:00Z"),
    ] {
        assert_eq!(cron(expression, "Etc/UTC").next_after(after), Some(time(next)), "{expression}");
    }
}

#[test]
fn daylight_saving_moves_a_run_out_of_the_gap_and_runs_it_once_in_the_fold() {
    for (expression, zone, start, expected) in [
        // Berlin, 29 March 2026: 02:00 becomes 03:00.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-03-27T12:00:00Z",
            ["2026-03-28T02:30:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
        ),
        (
            "15,45 2,14 * * *",
            "Europe/Berlin",
            "2026-03-28T20:00:00Z",
            ["2026-03-29T03:00:00+02:00", "2026-03-29T14:15:00+02:00", "2026-03-29T14:45:00+02:00"],
        ),
        (
            "0 3 * * *",
            "Europe/Berlin",
            "2026-03-28T12:00:00Z",
            ["2026-03-29T03:00:00+02:00", "2026-03-30T03:00:00+02:00", "2026-03-31T03:00:00+02:00"],
        ),
        (
            "30 * * * *",
            "Europe/Berlin",
            "2026-03-28T23:45:00Z",
            ["2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00", "2026-03-29T04:30:00+02:00"],
        ),
        // Berlin, 25 October 2026: 03:00 becomes 02:00.
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00", "2026-10-27T02:30:00+01:00"],
        ),
        (
            "0 2,3 * * *",
            "Europe/Berlin",
            "2026-10-24T12:00:00Z",
            ["2026-10-25T02:00:00+02:00", "2026-10-25T03:00:00+01:00", "2026-10-26T02:00:00+01:00"],
        ),
        (
            "0 * * * *",
            "Europe/Berlin",
            "2026-10-24T23:30:00Z",
            ["2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"],
        ),
        // New York, 8 March 2026: 02:00 becomes 03:00.
        (
            "0 2 * * 0",
            "America/New_York",
            "2026-03-05T12:00:00Z",
            ["2026-03-08T03:00:00-04:00", "2026-03-15T02:00:00-04:00", "2026-03-22T02:00:00-04:00"],
        ),
        // New York, 1 November 2026: 02:00 becomes 01:00.
        (
            "30 1 1 * *",
            "America/New_York",
            "2026-10-05T12:00:00Z",
            ["2026-11-01T01:30:00-04:00", "2026-12-01T01:30:00-05:00", "2027-01-01T01:30:00-05:00"],
        ),
        // The leap day.
        (
            "0 0 29 2 *",
            "Etc/UTC",
            "2026-01-01T00:00:00Z",
            ["2028-02-29T00:00:00+00:00", "2032-02-29T00:00:00+00:00", "2036-02-29T00:00:00+00:00"],
        ),
    ] {
        let schedule = cron(expression, zone);
        let runs: Vec<String> =
            upcoming(&schedule, time(start), 3).into_iter().map(|run| schedule.local(run)).collect();
        assert_eq!(runs, expected, "{expression} in {zone}");
    }
}

#[test]
fn in_the_second_half_of_the_fold_a_daily_run_is_over_for_that_day() {
    let schedule = cron("30 2 * * *", "Europe/Berlin");
    for start in ["2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:29:59Z", "2026-10-25T01:30:00Z"] {
        assert_eq!(schedule.next_after(time(start)), Some(time("2026-10-26T01:30:00Z")), "{start}");
    }
}

#[test]
fn the_interval_is_the_longest_time_between_runs() {
    const HOUR: i64 = 3_600;
    const DAY: i64 = 24 * HOUR;
    for (expression, seconds) in [
        ("* * * * *", 60),
        ("*/15 * * * *", 900),
        ("*/7 * * * *", 420),
        ("@hourly", HOUR),
        ("0 */6 * * *", 6 * HOUR),
        ("@daily", DAY),
        ("0 8,9 * * *", 23 * HOUR),
        ("0 3 * * 1-5", 3 * DAY),
        ("* * * * 1-5", 2 * DAY + 60),
        ("*/5 8-17 * * 1-5", 2 * DAY + 14 * HOUR + 300),
        ("@weekly", 7 * DAY),
        ("@monthly", 31 * DAY),
        ("@yearly", 366 * DAY),
        ("0 0 29 2 *", 8 * 365 * DAY + DAY),
        ("0 0 * 1-11 *", 32 * DAY),
        ("0 0 31 * *", 61 * DAY),
    ] {
        assert_eq!(cron(expression, "Europe/Berlin").interval().as_secs(), seconds, "{expression}");
    }
}

#[test]
fn the_objective_leaves_room_for_one_slow_run() {
    assert_eq!(objective(SignedDuration::from_hours(6)).as_secs(), 27_900);
    assert_eq!(starting_deadline(None, SignedDuration::from_hours(6)).as_secs(), 10_800);
    assert_eq!(starting_deadline(Some(60), SignedDuration::from_hours(6)).as_secs(), 60);
}

#[test]
fn the_description_is_in_words_with_the_zone() {
    let words = cron("0 */6 * * *", "Europe/Berlin").description();
    assert!(words.starts_with("At ") && words.ends_with(", Europe/Berlin"), "{words}");
    assert!(words.contains("6 hours"), "{words}");
}

#[test]
fn jitter_is_a_fixed_part_of_its_span() {
    let span = SignedDuration::from_secs(600);
    let nightly = jitter("lifeboat/nightly", span);
    assert_eq!(nightly, jitter("lifeboat/nightly", span));
    assert!(nightly < span && nightly >= SignedDuration::ZERO);
    let different = (0..20).map(|n| jitter(&format!("lifeboat/s{n}"), span)).collect::<std::collections::BTreeSet<_>>();
    assert!(different.len() > 15, "{different:?}");
    assert_eq!(jitter("lifeboat/nightly", SignedDuration::ZERO), SignedDuration::ZERO);
}

fn expressions() -> impl Strategy<Value = CronSchedule> {
    let expression = prop::sample::select(vec![
        "* * * * *",
        "*/7 * * * *",
        "0 * * * *",
        "30 2 * * *",
        "0 */6 * * *",
        "15,45 1-3 * * *",
        "0 3 * * 1-5",
        "59 23 31 12 *",
        "0 0 29 2 *",
        "0 0 1 * *",
        "*/20 2 * * 0",
    ]);
    let zone = prop::sample::select(vec![
        "Etc/UTC",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "Asia/Kathmandu",
        "Pacific/Apia",
    ]);
    (expression, zone).prop_map(|(expression, zone)| cron(expression, zone))
}

proptest! {
    #[test]
    fn runs_never_go_back_and_none_is_passed_over(schedule in expressions(), second in 1_700_000_000_i64..2_000_000_000, ahead in 0..100_000_i64) {
        let start = Timestamp::from_second(second).unwrap();
        let next = schedule.next_after(start).unwrap();
        prop_assert!(next > start);
        // From anywhere before it, it is still the next; at it, it no longer is.
        let between = Timestamp::from_second((second + ahead).min(next.as_second() - 1)).unwrap();
        prop_assert_eq!(schedule.next_after(between), Some(next));
        prop_assert!(schedule.next_after(next).unwrap() > next);
    }

    #[test]
    fn the_last_run_is_the_last_of_all_up_to_then(schedule in expressions(), second in 1_700_000_000_i64..2_000_000_000, span in 0..40_000_i64) {
        let start = Timestamp::from_second(second).unwrap();
        let end = Timestamp::from_second(second + span).unwrap();
        let all = std::iter::successors(schedule.next_after(start), |last| schedule.next_after(*last));
        let expected = all.take_while(|run| *run <= end).last();
        prop_assert_eq!(schedule.last_between(start, end), expected);
    }

    #[test]
    fn any_text_is_read_or_refused_but_never_panics(expression in ".{0,40}", zone in ".{0,20}") {
        let _ = CronSchedule::parse(&expression, &zone);
        let _ = CronSchedule::parse(&expression, "Europe/Berlin");
    }

    #[test]
    fn anything_like_cron_is_read_or_refused_but_never_panics(fields in prop::collection::vec("[-*0-9/,L#W?]{1,5}", 5)) {
        if let Ok(schedule) = CronSchedule::parse(&fields.join(" "), "Europe/Berlin") {
            let start = Timestamp::from_second(1_780_000_000).unwrap();
            prop_assert!(schedule.next_after(start).is_none_or(|next| next > start));
            prop_assert!(schedule.interval() > SignedDuration::ZERO || schedule.next_after(start).is_none());
        }
    }
}
