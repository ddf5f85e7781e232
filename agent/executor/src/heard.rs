//! Whether members are alive, told by counters that change. Pure; `now` is a parameter.

use std::collections::BTreeMap;
use std::time::Duration;

use lifeboat_crds::NodeName;
use lifeboat_protocol::observed::Freshness;
use tokio::time::Instant;

/// A counter that this node saw change within this time is fresh (restore.md, Protocol).
const FRESH: Duration = Duration::from_secs(60);

/// What was heard of each member since this executor started.
#[derive(Debug, Default)]
pub(crate) struct Heard(BTreeMap<NodeName, Last>);

#[derive(Clone, Copy, Debug)]
struct Last {
    counter: u64,
    /// When it was seen to grow; never by the first sight, which may be of a mark left by one who is dead.
    grew: Option<Instant>,
}

impl Heard {
    /// Takes a counter in, and says what its member is. One that goes back is a write that landed late, and no sign of life.
    pub(crate) fn hear(&mut self, node: &NodeName, counter: u64, now: Instant) -> Freshness {
        let last = self.0.entry(node.clone()).or_insert(Last { counter, grew: None });
        if counter > last.counter {
            *last = Last { counter, grew: Some(now) };
        }
        match last.grew {
            Some(grew) if now.saturating_duration_since(grew) <= FRESH => Freshness::Fresh,
            Some(_) | None => Freshness::Stale,
        }
    }

    /// The highest counter that was ever seen of a member.
    pub(crate) fn highest(&self, node: &NodeName) -> Option<u64> {
        self.0.get(node).map(|last| last.counter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_a_counter_that_grew_lately_is_fresh() {
        let (mut heard, node, begun) = (Heard::default(), NodeName::from("m0"), Instant::now());
        assert_eq!(heard.hear(&node, 7, begun), Freshness::Stale, "it may be of one who is dead");
        assert_eq!(heard.hear(&node, 7, begun), Freshness::Stale);
        assert_eq!(heard.hear(&node, 8, begun), Freshness::Fresh);
        assert_eq!(heard.hear(&node, 8, begun + FRESH), Freshness::Fresh);
        let late = begun + FRESH + Duration::from_millis(1);
        assert_eq!(heard.hear(&node, 8, late), Freshness::Stale);
        assert_eq!(heard.hear(&node, 6, late), Freshness::Stale, "a write that landed late");
        assert_eq!(heard.hear(&node, 8, late), Freshness::Stale);
        assert_eq!(heard.hear(&node, 9, late), Freshness::Fresh);
        assert_eq!(heard.highest(&node), Some(9));
    }
}
