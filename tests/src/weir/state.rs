//! Reading `/api/state.json`. Everything the tests know of its shape is here.

use std::net::SocketAddr;

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

    /// What the state says of the endpoint at this address; fails the test when it is not there.
    #[track_caller]
    pub fn endpoint(&self, address: SocketAddr) -> Value {
        let state = self.state();
        let found = objects(&state).into_iter().find(|o| o["address"] == address.to_string());
        found.unwrap_or_else(|| panic!("no endpoint {address} in {state:#}")).clone()
    }

    /// Whether the state has an endpoint at this address.
    pub fn knows(&self, address: SocketAddr) -> bool {
        objects(&self.state()).iter().any(|o| o["address"] == address.to_string())
    }

    /// Whether the breaker of the endpoint at this address keeps requests away from it.
    #[track_caller]
    pub fn is_ejected(&self, address: SocketAddr) -> bool {
        let endpoint = self.endpoint(address);
        match endpoint["breaker"].as_str().or_else(|| endpoint["breaker"]["state"].as_str()) {
            Some("closed") => false,
            Some("open" | "due" | "probing") => true,
            other => panic!("breaker {other:?} in {endpoint:#}"),
        }
    }

    /// Failures counted against the endpoint at this address since weir started.
    #[track_caller]
    pub fn failures(&self, address: SocketAddr) -> u64 {
        let endpoint = self.endpoint(address);
        endpoint["failures"].as_u64().unwrap_or_else(|| panic!("no failures in {endpoint:#}"))
    }

    /// Requests and tunnels in flight to all endpoints.
    #[track_caller]
    pub fn in_flight(&self) -> u64 {
        let state = self.state();
        objects(&state).iter().filter_map(|o| o["inFlight"].as_u64()).sum()
    }

    /// Whether the state reports a problem of a service file whose text holds `words`.
    pub fn reports(&self, words: &str) -> bool {
        let state = self.state();
        let problems = state["fileProblems"].as_array().cloned().unwrap_or_default();
        problems.iter().any(|p| p.to_string().contains(words))
    }
}

/// Every object in `value`, at any depth.
fn objects(value: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(fields) => {
                found.push(value);
                left.extend(fields.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    found
}
