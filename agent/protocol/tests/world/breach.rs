//! What must never happen.

use super::cluster::World;

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    ApiOnUndecidedData,
    ApiOnOldBesideNew,
    ApiOnUnequalMember,
    BothDecisionsObeyed,
    NewDataBeforeAllPrepared,
    OldDataChanged,
    SecondRun,
    TwoOrders,
    WentBackOnADecision,
    HalfExchanged,
    EndedHeld,
    ActedBesideApi,
    StartedBesideStray,
}

impl Breach {
    pub const ALL: [Self; 13] = [
        Self::ApiOnUndecidedData,
        Self::ApiOnOldBesideNew,
        Self::ApiOnUnequalMember,
        Self::BothDecisionsObeyed,
        Self::NewDataBeforeAllPrepared,
        Self::OldDataChanged,
        Self::SecondRun,
        Self::TwoOrders,
        Self::WentBackOnADecision,
        Self::HalfExchanged,
        Self::EndedHeld,
        Self::ActedBesideApi,
        Self::StartedBesideStray,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::ApiOnUndecidedData => "no API server on new data while any node may roll back",
            Self::ApiOnOldBesideNew => "no API server on old data beside one on new",
            Self::ApiOnUnequalMember => "no API server on a member that did not verify equal",
            Self::BothDecisionsObeyed => "never both decisions obeyed",
            Self::NewDataBeforeAllPrepared => "no start of new data before all are Prepared",
            Self::OldDataChanged => "old data is not changed before Complete",
            Self::SecondRun => "no second run of one id",
            Self::TwoOrders => "one order",
            Self::WentBackOnADecision => "no node goes back on a decision",
            Self::HalfExchanged => "no etcd on a half-exchanged directory",
            Self::EndedHeld => "no node ends with its services held or not started",
            Self::ActedBesideApi => "no step to a decision while an API server runs beside undecided data",
            Self::StartedBesideStray => "nothing is started or exchanged beside a stray that holds the old data",
        }
    }
}

impl World {
    pub fn breach(&mut self, breach: Breach) {
        self.breaches |= 1 << breach as u16;
    }

    pub fn has(&self, breach: Breach) -> bool {
        self.breaches & (1 << breach as u16) != 0
    }
}
