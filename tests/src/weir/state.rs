//! Reading `/api/state.json`.

use serde_json::Value;

use super::Weir;

impl Weir {
    /// The whole state.
    #[track_caller]
    pub fn state(&self) -> Value {
        let answer = self.admin_get("/api/state.json");
        answer.expect_status(200);
        serde_json::from_slice(&answer.body)
            .unwrap_or_else(|e| panic!("state.json is no JSON: {e}: {}", answer.text()))
    }
}
