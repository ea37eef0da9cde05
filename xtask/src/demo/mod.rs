//! `cargo xtask demo`: weir's main job on one's own terminal, in a minute.
//!
//! With root: pods that are network namespaces, a service address that nothing serves, and clients that know nothing of
//! a proxy. Without: the explicit half on loopback, and a word on what was left out. It exits with 0 only if what it
//! shows is what weir promises.

mod admin;
mod backend;
mod client;
mod half;
mod load;
mod rule;
mod scene;
mod services;
mod summary;
mod tally;
mod view;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::os::interrupt;
use crate::process::{cargo, run, target};
use crate::setup::{self, CC, CURL, IP, NFT};
pub(crate) use backend::{Backend, serve};
pub(crate) use client::{Client, run as run_client};
use half::Half;
use rule::Rule;
use scene::{Door, Scene};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the explicit half on loopback, also with root
    #[arg(long)]
    loopback: bool,
    /// Leave everything running at the end, until Ctrl-C, to look around
    #[arg(long)]
    keep: bool,
    /// A weir to show instead of building one
    #[arg(long, value_name = "BINARY")]
    weir: Option<PathBuf>,
}

pub(crate) fn run_demo(options: &Options) -> Result<()> {
    let possible = match options.loopback {
        true => Err("--loopback was asked for".to_owned()),
        false => setup::interception_possible(),
    };
    setup::ensure(if possible.is_ok() { &[CC, CURL, IP, NFT] } else { &[CC, CURL] })?;
    let weir = match &options.weir {
        Some(binary) => std::path::absolute(binary)?,
        None => build()?,
    };
    // From here on Ctrl-C is an error like any other, so that everything is cleaned up.
    interrupt::catch();
    let begun = Instant::now();
    let node = possible.and_then(|()| Scene::pretend_node().map_err(|error| format!("{error:#}")));
    let left_out = node.as_ref().err().cloned();
    let (mut scene, doors) = match node {
        Ok(node) => {
            println!(
                "A pretend node with pods a, b and c (network namespaces) behind hello at {}; weir's sockets are in the pods.",
                scene::HELLO
            );
            println!(
                "Nothing serves that address: what answers there was diverted to weir by its eBPF program.\n"
            );
            (Scene::on_a_node(&weir, node)?, vec![(Door::Transparent, 1), (Door::Outgoing, 2)])
        }
        Err(why) => {
            println!("Left out: diversion, since it cannot be had here: {why}.");
            println!("Shown: three backends on loopback, reached by name through the proxy.\n");
            (Scene::on_loopback(&weir)?, vec![(Door::Outgoing, 1)])
        }
    };
    println!("weir's admin port, while this runs: http://{}/", scene.admin_address());
    let played = play(&mut scene, &doors, left_out.is_none()).map_err(|error| match interrupt::check() {
        Ok(()) => error.context(scene.log()),
        Err(interrupted) => interrupted,
    })?;
    finish(options, scene, &played, begun, left_out.as_deref())
}

/// What was shown.
struct Played {
    halves: Vec<Half>,
    rule: Option<Rule>,
}

/// Says what held, and cleans up.
fn finish(
    options: &Options,
    mut scene: Scene,
    played: &Played,
    begun: Instant,
    left_out: Option<&str>,
) -> Result<()> {
    let mut held = summary::print(&played.halves, played.rule.as_ref());
    println!();
    if options.keep {
        println!(
            "Everything is left running, weir's admin at http://{}/; Ctrl-C ends it.",
            scene.admin_address()
        );
        interrupt::wait();
    }
    if !held {
        println!("{}", scene.log());
    }
    if !scene.stop_weir()? {
        println!("BROKEN  weir did not end by itself, and well, on SIGTERM");
        held = false;
    }
    drop(scene);
    println!("Everything was cleaned up after {:.0} s.", begun.elapsed().as_secs_f64());
    if !options.keep {
        println!("With --keep it is left running, to look around.");
    }
    if let Some(why) = left_out {
        println!("Left out: diversion of clients that know nothing of a proxy, and the TCP service ({why}).");
    }
    if !held {
        bail!("a promise was broken");
    }
    Ok(())
}

fn play(scene: &mut Scene, doors: &[(Door, usize)], on_a_node: bool) -> Result<Played> {
    let mut halves = Vec::new();
    for (door, victim) in doors {
        match door {
            Door::Transparent => println!("\nDiverted: an unmodified client dials the service's address."),
            Door::Outgoing => println!("\nExplicit: the same client, told of a proxy by http_proxy."),
        }
        halves.push(half::play(scene, *door, *victim)?);
    }
    let rule = if on_a_node { rule::play(scene)? } else { None };
    Ok(Played { halves, rule })
}

/// The development build: a newcomer waits least for it, and it is fast enough to show.
fn build() -> Result<PathBuf> {
    println!("Building weir (the development build; the first time takes a few minutes):");
    run(cargo().args(["build", "--package", "weir", "--bins"]))?;
    println!();
    Ok(target().join("debug/weir"))
}
