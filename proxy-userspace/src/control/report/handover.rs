//! One weir follows another.

use serde::{Deserialize, Serialize};

use crate::control::Handover;

/// The weirs of this node before and after this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandoverReport {
    /// For how many seconds the next weir has had this one's listeners; absent while this one serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over_seconds: Option<f64>,
    /// Earlier weirs that have handed over to this one and still drain; absent if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<DrainingReport>,
}

/// Earlier weirs that drain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DrainingReport {
    /// For how many seconds the first of them has been draining.
    #[serde(default)]
    pub seconds: f64,
    /// Connections open there.
    #[serde(default)]
    pub open: usize,
    /// How many weirs; 0 if a weir of an older version does not tell.
    #[serde(default)]
    pub weirs: usize,
}

impl HandoverReport {
    /// As it is now.
    pub(super) fn read(handover: &Handover) -> Self {
        Self {
            handed_over_seconds: handover.handed_over().map(|it| it.elapsed().as_secs_f64()),
            draining: handover.draining().map(|it| DrainingReport {
                seconds: it.since.elapsed().as_secs_f64(),
                open: it.open,
                weirs: it.weirs,
            }),
        }
    }
}
