//! Whose address a connection comes from: whoever has it is served, and nobody in another's name.

use super::{Stage, V4, answered, until_diverted};
use e2e::eventually;

#[test]
fn a_container_that_is_started_anew_with_its_address_is_served_again_at_once() {
    let Some(mut stage) = Stage::running() else { return };
    let (_backends, _direct) = (stage.backends(), stage.direct());
    until_diverted(&stage);
    assert_eq!(stage.weir().metric("weir_interception_addresses", &[("source", "learnt")]), 1.0);
    for _ in 0..3 {
        stage.net.anew(&mut stage.client);
        // Who had the address last was another network namespace. The first connection may be closed for that; then weir
        // finds that its cgroup is gone.
        eventually("an answer to the new container", || ["a", "b"].contains(&&*answered(&stage.client)));
        assert!(["a", "b"].contains(&&*stage.get(V4)), "and from then on");
    }
    assert_eq!(stage.weir().turned_away("transparent", "no_original"), 0.0);
}
