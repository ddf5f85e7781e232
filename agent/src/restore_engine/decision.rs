//! What is to be done about a node's data, decided from what lies there. Pure.

use crate::etcd::status::ClusterId;
use crate::host::tools::Minor;

/// What lies in the volume when nothing runs yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Whether there is a `restore.db`.
    pub has_file: bool,
    /// Whether there is a `restore.db.failed`.
    pub has_failed: bool,
    /// The cluster that the order beside `restore.db` makes; nothing where there is no readable order.
    pub ordered: Option<ClusterId>,
    /// The cluster that etcd's data belongs to; nothing where there is no data.
    pub live: Option<ClusterId>,
    /// Whether a journal says that an exchange was begun and not ended.
    pub is_swapping: bool,
}

/// What to do before etcd may start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: etcd may start.
    Start,
    /// An exchange was begun: end it. Its new data is whole.
    EndSwap,
    /// The data is already what the order makes; only tidy up. A restore is never done twice over a member that may
    /// have voted.
    TidyUp,
    /// Restore.
    Perform,
    /// A restore failed: start nothing until a human decides, because the other masters may be restored already.
    Hold,
}

/// What to do before etcd may start.
pub fn decide_next(seen: &Seen) -> Next {
    let Seen { has_file, has_failed, ordered, live, is_swapping } = *seen;
    match (is_swapping, has_file, has_failed) {
        (true, true | false, true | false) => Next::EndSwap,
        (false, true, true | false) if ordered.is_some() && ordered == live => Next::TidyUp,
        (false, true, true | false) => Next::Perform,
        (false, false, true) => Next::Hold,
        (false, false, false) => Next::Start,
    }
}

/// Which of two directories is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The old is in use, the new is staged.
    Before,
    /// The new is in use.
    After,
    /// Neither: somebody moved directories meanwhile.
    Lost,
}

/// Tells by inodes which side is in use; the old one may be missing altogether, on a machine that starts from nothing.
pub fn decide_side(old: Option<u64>, new: u64, live: Option<u64>, staged: Option<u64>) -> Side {
    if live == Some(new) {
        Side::After
    } else if live == old && staged == Some(new) {
        Side::Before
    } else {
        Side::Lost
    }
}

/// The version of etcd's tools for a file and the server that will run its data.
///
/// # Errors
/// They do not go together, or neither version is known: words.
pub fn decide_tool(file: Option<Minor>, server: Option<Minor>) -> Result<Minor, String> {
    let tool = match (file, server) {
        (None, None) => {
            return Err(
                "neither the file nor this node tells which version of etcd it is: give --etcd-version".to_owned()
            );
        }
        (Some(only), None) | (None, Some(only)) => only,
        (Some(file), Some(server)) if server == file || server == file.next() => server,
        (Some(file), Some(server)) if server < file => {
            return Err(format!(
                "the file is of etcd {file} and this node runs etcd {server}, which cannot read newer data: run etcd {file} \
                 first"
            ));
        }
        (Some(file), Some(server)) => {
            return Err(format!(
                "the file is of etcd {file} and this node runs etcd {server}: etcd reads data of its own minor version and of \
                 the one before, so run etcd {} first",
                file.next()
            ));
        }
    };
    if tool < Minor::OLDEST {
        return Err(format!("etcd {tool} is older than {}, the oldest that lifeboat restores", Minor::OLDEST));
    }
    Ok(tool)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minor(text: &str) -> Option<Minor> {
        Minor::parse(text)
    }

    #[test]
    fn every_state_of_the_volume_has_one_answer() {
        let one = Some(ClusterId(1));
        let two = Some(ClusterId(2));
        for (is_swapping, has_file, has_failed, ordered, live, expected) in [
            (false, false, false, None, one, Next::Start),
            (false, false, false, None, None, Next::Start),
            (false, true, false, two, one, Next::Perform),
            (false, true, false, two, None, Next::Perform),
            (false, true, false, None, None, Next::Perform),
            (false, true, true, two, one, Next::Perform),
            (false, true, false, two, two, Next::TidyUp),
            (false, true, true, two, two, Next::TidyUp),
            (false, false, true, None, one, Next::Hold),
            (true, true, false, two, one, Next::EndSwap),
            (true, false, false, None, one, Next::EndSwap),
            (true, false, true, None, two, Next::EndSwap),
        ] {
            let seen = Seen { has_file, has_failed, ordered, live, is_swapping };
            assert_eq!(decide_next(&seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn inodes_tell_the_side_and_anything_else_is_lost() {
        for (old, live, staged, expected) in [
            (Some(1), Some(1), Some(2), Side::Before),
            (Some(1), Some(2), Some(1), Side::After),
            (None, None, Some(2), Side::Before),
            (None, Some(2), None, Side::After),
            (Some(1), None, Some(2), Side::Lost),
            (Some(1), Some(3), Some(2), Side::Lost),
            (Some(1), Some(1), None, Side::Lost),
            (None, Some(3), Some(2), Side::Lost),
        ] {
            assert_eq!(decide_side(old, 2, live, staged), expected, "{old:?} {live:?} {staged:?}");
        }
    }

    #[test]
    fn tools_are_those_of_the_server_and_never_older_than_the_data() {
        assert_eq!(decide_tool(minor("3.5"), minor("3.6")), Ok(minor("3.6").unwrap()));
        assert_eq!(decide_tool(minor("3.7"), minor("3.7")), Ok(minor("3.7").unwrap()));
        assert_eq!(decide_tool(minor("3.5"), None), Ok(minor("3.5").unwrap()));
        assert_eq!(decide_tool(None, minor("3.6")), Ok(minor("3.6").unwrap()));
        for (file, server, words) in [
            (minor("3.6"), minor("3.5"), "run etcd 3.6 first"),
            (minor("3.5"), minor("3.7"), "run etcd 3.6 first"),
            (minor("3.4"), minor("3.4"), "oldest"),
            (None, None, "--etcd-version"),
        ] {
            let said = decide_tool(file, server).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
    }
}
