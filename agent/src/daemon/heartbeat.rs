//! When a running task is heard of. Pure.

use std::time::Duration;

/// How long the frequent part lasts.
const FIRST_MINUTE: Duration = Duration::from_secs(60);
/// While somebody may be looking on.
const OFTEN: Duration = Duration::from_secs(10);
/// Later. Every heartbeat goes through the etcd that is being read; the operator gives an agent up after 90 s, and one
/// write that hangs must leave time for another (docs/adr/018).
pub const SELDOM: Duration = Duration::from_secs(45);

/// After one that was lost: two in a row would look like a dead agent.
pub const AFTER_A_LOST_HEARTBEAT: Duration = Duration::from_secs(10);

/// Pause before the next heartbeat of a task that has run for `elapsed`.
pub fn next_heartbeat(elapsed: Duration) -> Duration {
    if elapsed < FIRST_MINUTE { OFTEN } else { SELDOM }
}

#[cfg(test)]
mod tests {
    use lifeboat_decisions::SILENCE;

    use super::*;
    use crate::report::WRITE_DEADLINE;

    #[test]
    fn one_write_that_hangs_is_not_yet_silence() {
        let lost = SELDOM + WRITE_DEADLINE + AFTER_A_LOST_HEARTBEAT;
        assert!(lost + WRITE_DEADLINE < SILENCE, "{lost:?} until the second one begins");
    }

    #[test]
    fn five_minutes_cost_eleven_heartbeats() {
        let mut elapsed = Duration::ZERO;
        let mut written = 0;
        while elapsed + next_heartbeat(elapsed) <= Duration::from_secs(300) {
            elapsed += next_heartbeat(elapsed);
            written += 1;
        }
        assert_eq!(written, 11);
    }
}
