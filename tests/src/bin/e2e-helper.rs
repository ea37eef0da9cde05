//! What tests need in a process of its own: a backend to kill, the agent that makes sockets inside a pod, the double of
//! agnhost, and, for the bench, the API server of a large cluster, which takes orders. All but agnhost, which ends by
//! signals, end when their standard input does, that is, with the test, however that ends.
#![allow(clippy::unwrap_used, reason = "it fails the test that started it")]

use std::io::Read;
use std::net::SocketAddr;

use e2e::{
    Backend, Place,
    agnhost::{self, Agnhost},
    kube::{self, ApiServer, Endpoint},
    net::agent,
    raw,
};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["backend", address, name] => {
            let backend =
                Backend::http().answers(name).inside(Place::Here).on(address.parse().unwrap()).start();
            println!("{}", backend.addr());
            wait_for_the_end();
        }
        ["agent", how, socket] => {
            match how {
                "unshare" => agent::leave_namespace(),
                "unshare-users" => agent::leave_namespaces(),
                _ => {}
            }
            agent::serve(std::path::Path::new(socket));
            println!("ready");
            wait_for_the_end();
        }
        ["agnhost", ..] => {
            agnhost::block_sigterm();
            let code = match Agnhost::parse(&args[1..]) {
                Ok(agnhost) => agnhost.run(),
                Err(why) => {
                    eprintln!("Error: {why}");
                    1
                }
            };
            std::process::exit(code);
        }
        // Before its SYN is answered each is closed: what the programs filed of it is left.
        ["leave", first, count, to] => {
            let (first, to): (u16, SocketAddr) = (first.parse().unwrap(), to.parse().unwrap());
            for port in (first..).take(count.parse().unwrap()) {
                raw::begin_to_connect(port, to).unwrap();
            }
        }
        ["cluster", services, endpoints, folder] => {
            let server = ApiServer::start();
            server.fill(services.parse().unwrap(), endpoints.parse().unwrap());
            server.delete("endpointslices", "default", "s0-abcde");
            let endpoint = Endpoint::ready("127.0.0.1".parse().unwrap());
            let slice = kube::slice("s0-1", "s0", ("http", 1), &[endpoint]);
            server.kubeconfig(std::path::Path::new(folder));
            println!("ready");
            for order in std::io::stdin().lines() {
                match order.unwrap().as_str() {
                    "gone" => drop(server.delete("endpointslices", "default", "s0-1")),
                    "back" => drop(server.put(slice.clone())),
                    order => panic!("no order: {order}"),
                }
                println!("done");
            }
        }
        _ => panic!(
            "usage: e2e-helper backend ADDRESS NAME | agent unshare|unshare-users|stay SOCKET | agnhost ARGUMENTS | leave PORT COUNT ADDRESS | cluster SERVICES ENDPOINTS FOLDER"
        ),
    }
}

fn wait_for_the_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}
