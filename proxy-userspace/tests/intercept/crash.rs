//! weir ended in the midst of attaching. Its links are held by somebody else meanwhile, as a pin or an heir would, or
//! the programs would go with it and this would show nothing.

use std::os::fd::OwnedFd;

use crate::bpf::expect_attached;
use crate::failing::links_of;
use crate::traced::{Command, Traced, consent};
use crate::weir::{Answering, Direct, dial, intercept, options, service};
use crate::world::{Cgroup, World, on_a_node};

/// The hooks that weir attaches to.
const HOOKS: usize = 5;

/// Lets a weir attach so many of its links, and then make so many more calls of bpf(2); and ends it there. What is left
/// of it; `None` if it makes fewer calls and is ready before.
fn crash(world: &World, cgroup: &Cgroup, links: usize, more: usize) -> Option<Vec<OwnedFd>> {
    let options = options(world);
    let weir = Traced::seize(world.start_on_node(cgroup, move || {
        consent();
        std::mem::forget(intercept(&options));
        String::new()
    }));
    if links == 0 {
        weir.reach(Command::LINK_CREATE)?;
    }
    for _ in 0..links {
        while weir.next()? != Command::LINK_CREATE {}
    }
    for _ in 0..more {
        assert_ne!(weir.next()?, Command::LINK_CREATE, "a link more than there are hooks");
    }
    let left = links_of(weir.pid());
    assert_eq!(left.len(), links);
    weir.kill();
    Some(left)
}

fn all_direct(world: &World) {
    assert_eq!(world.run(|| dial(service(0, 80))), "direct, peer 10.96.0.10:80");
    assert_eq!(world.run(|| dial(service(1, 80))), "direct, peer [fd96::10]:80");
}

/// A weir of this process attaches beside so many programs that are left of others, diverts, and goes without a trace.
fn a_fresh_one_works(world: &World, left: usize) {
    let (interception, listeners) = intercept(&options(world));
    let weir = Answering::start(&listeners, &interception.original_dsts());
    assert_eq!(world.run(|| dial(service(0, 80))), "weir 10.96.0.10:80, peer 10.96.0.10:80");
    assert_eq!(world.run(|| dial(service(1, 80))), "weir [fd96::10]:80, peer [fd96::10]:80");
    assert!(interception.status().is_armed());
    drop((weir, interception));
    expect_attached(&world.pods, left as u32);
    all_direct(world);
}

#[test]
fn a_weir_ended_after_any_step_of_attaching_leaves_connections_direct_and_the_next_ones_way_free() {
    on_a_node(|world| {
        // Once in this process, so that the loader's lazy probing is not in the forked one.
        drop(intercept(&options(world)));
        let _direct = Direct::start(world);
        let own = Cgroup::new(world.pods.path.parent().unwrap());
        let mut left = Vec::new();
        for links in 0..=HOOKS {
            left.push(crash(world, &own, links, 0).expect("links for every hook"));
            all_direct(world);
            // What is left piles up, and does no harm.
            a_fresh_one_works(world, (0..=links).sum());
        }
        drop(left);
        expect_attached(&world.pods, 0);
    });
}

#[test]
fn a_weir_ended_while_it_learns_what_to_divert_leaves_connections_direct() {
    on_a_node(|world| {
        drop(intercept(&options(world)));
        let _direct = Direct::start(world);
        let own = Cgroup::new(world.pods.path.parent().unwrap());
        let mut steps = 0;
        while let Some(left) = crash(world, &own, HOOKS, 1 << steps) {
            all_direct(world);
            a_fresh_one_works(world, HOOKS);
            drop(left);
            steps += 1;
        }
        assert!(steps >= 2, "there is a service of each family to be entered");
        expect_attached(&world.pods, 0);
    });
}
