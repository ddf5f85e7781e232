//! Whether all masters see the same directory: a location that is a directory is probed by each of them in turn, and each tells
//! the mark it read there. Pure.

use std::collections::BTreeMap;

use lifeboat_crds::location::Sight;

use crate::SeenMember;
use crate::assignment::node_of;

/// Most sights in a status.
const MOST_SIGHTS: usize = 64;

/// Notes what a master sees, in place of what it saw before.
pub(super) fn note(sights: &mut Vec<Sight>, sight: Sight) {
    sights.retain(|known| known.node_name != sight.node_name);
    sights.push(sight);
    sights.sort_by(|one, other| one.node_name.cmp(&other.node_name));
    sights.truncate(MOST_SIGHTS);
}

/// Forgets masters that are no more.
pub(super) fn keep_present(sights: &mut Vec<Sight>, members: &[SeenMember]) {
    sights.retain(|sight| members.iter().any(|seen| node_of(seen) == sight.node_name));
}

/// Who sees another directory than the others, in words. Most are taken to be right; of equally many, those of the first name.
pub(super) fn disagreement(sights: &[Sight]) -> Option<String> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Sight { node_name, directory_id } in sights {
        groups.entry(directory_id).or_default().push(&node_name.0);
    }
    let mut groups: Vec<Vec<&str>> = groups.into_values().collect();
    groups.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    let (most, others) = groups.split_first().filter(|(_, others)| !others.is_empty())?;
    let (most, others) = (most.join(", "), others.concat().join(", "));
    Some(format!(
        "{others} and {most} see different directories here, and so different archives: the same file system must be mounted \
         on every master (agent.directories in the chart's values)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_see_another_directory_are_named() {
        let mut sights = Vec::new();
        for (node, id) in [("m3", "aa"), ("m1", "bb"), ("m2", "aa"), ("m1", "cc")] {
            note(&mut sights, Sight { node_name: node.into(), directory_id: id.into() });
        }
        let words = disagreement(&sights).unwrap();
        assert!(words.starts_with("m1 and m2, m3 see different"), "{words}");
        note(&mut sights, Sight { node_name: "m1".into(), directory_id: "aa".into() });
        assert_eq!((disagreement(&sights), sights.len()), (None, 3));
        assert_eq!(disagreement(&[]), None);
    }
}
