//! Whether etcd may be started as its manifest says. Pure.

/// What is known before a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Whether there is any data.
    pub has_data: bool,
    /// Whether etcd would begin a new cluster without it.
    pub begins_cluster: bool,
    /// Whether the administrator allows that.
    pub may_begin_cluster: bool,
}

/// Whether etcd may start.
///
/// On the master that kubeadm init made the manifest lists that master alone, so an emptied directory boots a new, empty
/// cluster without any error, and the API server beside it would serve that.
pub const fn may_start(before: Before) -> bool {
    let Before { has_data, begins_cluster, may_begin_cluster } = before;
    has_data || !begins_cluster || may_begin_cluster
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emptied_master_never_becomes_a_cluster_of_its_own() {
        let before =
            |has_data, begins_cluster, may_begin_cluster| Before { has_data, begins_cluster, may_begin_cluster };
        assert!(!may_start(before(false, true, false)));
        for allowed in [before(true, true, false), before(false, false, false), before(false, true, true)] {
            assert!(may_start(allowed), "{allowed:?}");
        }
    }
}
