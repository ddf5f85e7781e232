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
            assert_eq!(content(&place.restore(&id).old_wal.unwrap()).as_deref(), Some("old"));
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
fn the_old_data_of_every_restore_is_kept() {
    let Node { _dir, place, .. } = node(true, true);
    for number in 1..=4 {
        let id = RestoreId::of_digest(&format!("{number:016}"));
        let directory = place.restore(&id);
        for path in [directory.staged_member(), directory.staged_wal()] {
            std::fs::create_dir_all(path).unwrap();
        }
        let journal = begin(&place, &id, "d", Timestamp::from_second(number).unwrap()).unwrap();
        carry_out(&place, &id, &journal).unwrap();
        end(&place, &id, &journal).unwrap();
        assert!(was_ended(&place, &id).unwrap());
    }
    forget_unbegun(&place).unwrap();
    let kept = find_kept(&place).unwrap();
    assert_eq!(kept.len(), 8, "{kept:?}");
    assert!(kept.iter().any(|path| content(&path.join("member")).as_deref() == Some("old")), "{kept:?}");
}

#[test]
fn an_old_wal_is_kept_also_where_the_data_itself_was_lost() {
    let Node { _dir, place, id } = node(true, true);
    std::fs::remove_dir_all(place.member()).unwrap();
    let journal = begin(&place, &id, "d", Timestamp::UNIX_EPOCH).unwrap();
    carry_out(&place, &id, &journal).unwrap();
    end(&place, &id, &journal).unwrap();
    end(&place, &id, &journal).unwrap();
    forget_unbegun(&place).unwrap();
    assert_eq!(content(place.wal_dir.as_deref().unwrap()).as_deref(), Some("new"));
    assert_eq!(content(&place.restore(&id).old_wal.unwrap()).as_deref(), Some("old"));
}

#[test]
fn what_never_came_to_an_exchange_is_thrown_away_and_nothing_else() {
    let Node { _dir, place, id } = node(true, true);
    let directory = place.restore(&id);
    std::fs::write(directory.order(), "{}").unwrap();
    forget_unbegun(&place).unwrap();
    assert!(!directory.root.exists() && !directory.staged_wal().exists());
    assert_eq!(content(&place.member()).as_deref(), Some("old"));
    assert_eq!(content(place.wal_dir.as_deref().unwrap()).as_deref(), Some("old"));
    // What somebody else put there, or what was begun.
    std::fs::create_dir_all(directory.old()).unwrap();
    forget_unbegun(&place).unwrap();
    assert!(directory.old().exists());
    let Node { _dir, place, id } = node(true, false);
    begin(&place, &id, "d", Timestamp::UNIX_EPOCH).unwrap();
    forget_unbegun(&place).unwrap();
    assert!(place.restore(&id).staged_member().exists());
}

#[test]
fn a_manifest_that_no_longer_names_the_wal_stops_an_exchange() {
    let Node { _dir, place, id } = node(true, true);
    let journal = begin(&place, &id, "d", Timestamp::UNIX_EPOCH).unwrap();
    let without = Place { wal_dir: None, ..place.clone() };
    assert!(carry_out(&without, &id, &journal).unwrap_err().to_string().contains("manifest"));
    assert_eq!(content(&place.member()).as_deref(), Some("old"));
}

#[test]
fn what_cannot_change_places_is_refused_before_anything_is_touched() {
    let Node { _dir, place, .. } = node(true, true);
    crashsafe::make_directory(&place.own_directory(), 0o700).unwrap();
    check_places(&place).unwrap();
    let with = |wal: &Path| check_places(&Place { wal_dir: Some(wal.to_owned()), ..place.clone() });
    let words = with(Path::new("/proc")).unwrap_err();
    assert!(words.is_refusal() && words.to_string().contains("mount point"), "{words}");
    let link = place.data_dir.join("link");
    std::os::unix::fs::symlink(place.wal_dir.as_deref().unwrap(), &link).unwrap();
    assert!(with(&link).unwrap_err().is_refusal());
    assert!(with(&place.member().join("wal")).unwrap_err().to_string().contains("within"));
}

#[test]
fn the_file_system_is_tried_before_anything_else() {
    let dir = tempfile::tempdir().unwrap();
    try_exchange(dir.path()).unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
