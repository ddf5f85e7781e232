use super::*;
use crate::restore_engine::order::Own;

struct Node {
    _dir: tempfile::TempDir,
    place: Place,
    id: RestoreId,
}

/// A node whose member holds `old` and whose staging holds `new`, with a separate WAL if asked for.
fn node(has_old: bool, has_wal: bool) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let place = Place {
        volume: data.clone(),
        data_dir: data.clone(),
        wal_dir: has_wal.then(|| dir.path().join("wal")),
        own: Own { name: "m0".into(), peer_urls: vec![] },
    };
    let id = RestoreId::of_digest("0123456789abcdef0");
    let directory = place.restore(&id);
    let mut made = vec![(directory.staged_member(), "new")];
    made.extend(directory.staged_wal.clone().map(|wal| (wal, "new")));
    std::fs::create_dir_all(&data).unwrap();
    if has_old {
        made.push((place.member(), "old"));
        made.extend(place.wal_dir.clone().map(|wal| (wal, "old")));
    }
    for (path, content) in made {
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("content"), content).unwrap();
    }
    Node { _dir: dir, place, id }
}

fn content(directory: &Path) -> Option<String> {
    std::fs::read_to_string(directory.join("content")).ok()
}

#[test]
fn new_data_takes_the_place_of_the_old_which_is_kept() {
    for has_wal in [false, true] {
        let Node { _dir, place, id } = node(true, has_wal);
        let journal = begin(&place, &id, "d", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(find_unfinished(&place).unwrap(), Some((id.clone(), journal.clone())));
        carry_out(&place, &id, &journal).unwrap();
        // Twice is once.
        carry_out(&place, &id, &journal).unwrap();
        let old = end(&place, &id, &journal).unwrap().unwrap();
        end(&place, &id, &journal).unwrap();
        assert_eq!(content(&place.member()).as_deref(), Some("new"));
        assert_eq!(content(&old.join("member")).as_deref(), Some("old"));
        assert_eq!(find_unfinished(&place).unwrap(), None);
        if let Some(wal) = &place.wal_dir {
            assert_eq!(content(wal).as_deref(), Some("new"));
            assert_eq!(content(&old_wal(&old)).as_deref(), Some("old"));
        }
    }
}

#[test]
fn an_exchange_that_stopped_between_wal_and_member_is_ended_or_taken_back() {
    for forward in [true, false] {
        let Node { _dir, place, id } = node(true, true);
        let journal = begin(&place, &id, "d", Timestamp::UNIX_EPOCH).unwrap();
        let (wal, staged) = (place.wal_dir.clone().unwrap(), place.restore(&id).staged_wal.unwrap());
        rename(&staged, &wal, RenameFlags::EXCHANGE).unwrap();
        if forward {
            carry_out(&place, &id, &journal).unwrap();
        } else {
            take_back(&place, &id, &journal).unwrap();
        }
        let expected = if forward { "new" } else { "old" };
        assert_eq!(content(&place.member()).as_deref(), Some(expected));
        assert_eq!(content(&wal).as_deref(), Some(expected));
    }
}

#[test]
fn a_machine_without_old_data_gets_the_new() {
    let Node { _dir, place, id } = node(false, true);
    let journal = begin(&place, &id, "d", Timestamp::UNIX_EPOCH).unwrap();
    carry_out(&place, &id, &journal).unwrap();
    carry_out(&place, &id, &journal).unwrap();
    assert_eq!(end(&place, &id, &journal).unwrap(), None);
    assert_eq!(content(&place.member()).as_deref(), Some("new"));
}

#[test]
fn directories_that_somebody_moved_are_left_alone() {
    let Node { _dir, place, id } = node(true, false);
    let journal = begin(&place, &id, "d", Timestamp::UNIX_EPOCH).unwrap();
    std::fs::rename(place.member(), place.data_dir.join("elsewhere")).unwrap();
    std::fs::create_dir(place.member()).unwrap();
    let words = carry_out(&place, &id, &journal).unwrap_err().to_string();
    assert!(words.contains("somebody moved them"), "{words}");
}

#[test]
fn a_journal_of_another_version_holds_everything() {
    let Node { _dir, place, id } = node(true, false);
    let journal = begin(&place, &id, "d", Timestamp::UNIX_EPOCH).unwrap();
    write_journal(&place.restore(&id), &Journal { format_version: 2, ..journal }).unwrap();
    assert!(find_unfinished(&place).unwrap_err().is_refusal());
}

#[test]
fn a_file_in_place_of_the_data_is_refused() {
    let Node { _dir, place, id } = node(false, false);
    std::fs::write(place.member(), "x").unwrap();
    assert!(begin(&place, &id, "d", Timestamp::UNIX_EPOCH).is_err());
}

#[test]
fn the_old_data_of_the_last_two_restores_is_kept() {
    let Node { _dir, place, .. } = node(true, false);
    for number in 1..=4 {
        let id = RestoreId::of_digest(&format!("{number:016}"));
        let staged = place.restore(&id).staged_member();
        std::fs::create_dir_all(&staged).unwrap();
        let journal = begin(&place, &id, "d", Timestamp::from_second(number).unwrap()).unwrap();
        carry_out(&place, &id, &journal).unwrap();
        end(&place, &id, &journal).unwrap();
    }
    forget_oldest(&place, &RestoreId::of_digest(&format!("{:016}", 4))).unwrap();
    let kept: Vec<bool> =
        (1..=4).map(|number| place.restore(&RestoreId::of_digest(&format!("{number:016}"))).old().exists()).collect();
    assert_eq!(kept, [false, false, true, true]);
}

#[test]
fn the_data_just_put_aside_is_kept_although_the_clock_was_set_back() {
    let Node { _dir, place, .. } = node(true, false);
    let id = |number: i64| RestoreId::of_digest(&format!("{number:016}"));
    for (number, second) in [(1, 100), (2, 200), (3, 5)] {
        std::fs::create_dir_all(place.restore(&id(number)).staged_member()).unwrap();
        let journal = begin(&place, &id(number), "d", Timestamp::from_second(second).unwrap()).unwrap();
        carry_out(&place, &id(number), &journal).unwrap();
        end(&place, &id(number), &journal).unwrap();
    }
    forget_oldest(&place, &id(3)).unwrap();
    assert_eq!([1, 2, 3].map(|number| place.restore(&id(number)).old().exists()), [false, true, true]);
}

#[test]
fn the_file_system_is_tried_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    try_exchange(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
