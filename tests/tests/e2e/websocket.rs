//! A WebSocket echo with Python's `websockets`, as an application would: diverted, and through :4140.

use std::process::Stdio;

use crate::transparent::{Stage, TARGET, V4};
use e2e::python::python;
use e2e::{Place, Weir};
use test_support::process::Running;

const SERVER: &str = r#"
import asyncio, sys, websockets
async def echo(ws):
    async for message in ws:
        await ws.send(message)
async def main():
    async with websockets.serve(echo, sys.argv[1], int(sys.argv[2]), max_size=None) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.Future()
asyncio.run(main())
"#;

const CLIENT: &str = r#"
import asyncio, os, sys, websockets
async def main():
    proxy = sys.argv[2] if len(sys.argv) > 2 else None
    async with websockets.connect(sys.argv[1], proxy=proxy, max_size=None) as ws:
        for message in ["hello", "", "caf\u00e9", os.urandom(10), os.urandom(200_000)]:
            await ws.send(message)
            assert await ws.recv() == message
        await (await ws.ping())
    print("echoed", ws.close_code)
asyncio.run(main())
"#;

/// A running echo server.
struct Echo {
    _process: Running,
    port: u16,
}

impl Echo {
    fn start(place: &Place, address: &str, port: u16) -> Self {
        let mut command = place.command(python());
        command.args(["-c", SERVER, address, &port.to_string()]).stdout(Stdio::piped());
        let mut process = Running::spawn("the echo server", &mut command).unwrap();
        let port = process.first_line().unwrap().trim().parse().expect("the echo server's port");
        Self { _process: process, port }
    }
}

#[track_caller]
fn echoes(place: &Place, arguments: &[&str]) {
    let output = place.command(python()).args(["-c", CLIENT]).args(arguments).output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.trim() == "echoed 1000", "{said}{error}");
}

#[test]
fn a_websocket_echoes_through_the_explicit_proxy() {
    let server = Echo::start(&Place::Here, "127.0.0.1", 0);
    let weir = Weir::serving("chat", &[([127, 0, 0, 1], server.port).into()]);
    echoes(&Place::Here, &["ws://chat/", &format!("http://{}", weir.outgoing())]);
    assert_eq!(weir.accepted("outgoing"), 1.0);
}

#[test]
fn a_websocket_echoes_when_it_is_diverted() {
    let Some(mut stage) = Stage::with_one_endpoint() else { return };
    let _server = Echo::start(&Place::from(&stage.a), &stage.a.v4().to_string(), TARGET);
    let before = stage.diverted();
    echoes(&Place::from(&stage.client), &[&format!("ws://{V4}/")]);
    assert!(stage.diverted() > before);
    let proxy = format!("http://{}:4140", e2e::net::NODE_V4);
    echoes(&Place::from(&stage.client), &["ws://hello/", &proxy]);
}
