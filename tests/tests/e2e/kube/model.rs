//! What a catalog should say, computed from what an API server has; by the EndpointSlice API's documentation, and in
//! another way than weir does it. And what weir's says.

use std::collections::BTreeMap;

use e2e::Weir;
use e2e::kube::ApiServer;
use serde_json::Value;

/// The services, by `namespace/name`.
pub(super) type Services = BTreeMap<String, Service>;

/// A service: its addresses, sorted, and its endpoints' conditions, by port and address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) addresses: Vec<String>,
    pub(super) external: Option<String>,
    pub(super) ports: BTreeMap<u64, BTreeMap<String, &'static str>>,
}

/// What the server's objects amount to.
pub(super) fn of_server(server: &ApiServer) -> Services {
    let slices = server.objects("endpointslices");
    let services = server.objects("services");
    services.iter().map(|it| (name_of(it), service(it, &slices))).collect()
}

fn name_of(object: &Value) -> String {
    let metadata = &object["metadata"];
    format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]))
}

fn service(object: &Value, slices: &[Value]) -> Service {
    let (name, spec) = (name_of(object), &object["spec"]);
    let mut addresses: Vec<_> = list(&spec["clusterIPs"]).map(text).filter(|it| it != "None").collect();
    addresses.sort();
    let external = (spec["type"] == "ExternalName").then(|| text(&spec["externalName"]));
    let mut ports = BTreeMap::new();
    for port in list(&spec["ports"]) {
        let mut endpoints = BTreeMap::new();
        let of_this = |slice: &&Value| {
            let labels = &slice["metadata"]["labels"];
            let owner = text(&labels["kubernetes.io/service-name"]);
            format!("{}/{owner}", text(&slice["metadata"]["namespace"])) == name
        };
        for slice in slices.iter().filter(of_this).filter(|_| external.is_none()) {
            for target in list(&slice["ports"]).filter(|it| it["name"] == port["name"]) {
                for endpoint in list(&slice["endpoints"]) {
                    let at = format!("{}:{}", text(&endpoint["addresses"][0]), target["port"]);
                    let is = condition(&endpoint["conditions"]);
                    let known = endpoints.entry(at).or_insert(is);
                    // An endpoint in two slices is moving; it is as well as the better of them says.
                    if rank(is) < rank(known) {
                        *known = is;
                    }
                }
            }
        }
        ports.insert(port["port"].as_u64().unwrap(), endpoints);
    }
    Service { addresses, external, ports }
}

fn condition(conditions: &Value) -> &'static str {
    let is = |name: &str, unknown: bool| conditions[name].as_bool().unwrap_or(unknown);
    let ready = is("ready", true);
    match (ready, is("serving", ready), is("terminating", false)) {
        (true, _, _) => "ready",
        (false, true, true) => "terminating",
        (false, _, _) => "notReady",
    }
}

fn rank(condition: &str) -> usize {
    ["ready", "terminating", "notReady"].iter().position(|it| *it == condition).unwrap()
}

/// What weir's state says.
pub(super) fn of_weir(weir: &Weir) -> Services {
    let state = weir.state();
    list(&state["services"]).filter_map(seen).collect()
}

fn seen(service: &Value) -> Option<(String, Service)> {
    let name = text(&service["service"]).strip_prefix("/#/io.l5d.k8s/")?.to_owned();
    let mut addresses: Vec<_> = list(&service["addresses"]).map(text).collect();
    addresses.sort();
    let external = service["externalName"].as_str().map(str::to_owned);
    let ports = list(&service["clusters"]).map(|cluster| {
        let name = text(&cluster["name"]);
        let port = name.rsplit_once(':').map_or(80, |(_, port)| port.parse().unwrap());
        let endpoints = list(&cluster["endpoints"]).map(|it| {
            let condition = text(&it["condition"]);
            let conditions = ["ready", "terminating", "notReady"];
            (text(&it["address"]), *conditions.iter().find(|it| **it == condition).unwrap())
        });
        (port, endpoints.collect())
    });
    Some((name, Service { addresses, external, ports: ports.collect() }))
}

/// Where they differ, a line each.
pub(super) fn differences(should: &Services, is: &Services) -> Vec<String> {
    let names: std::collections::BTreeSet<_> = should.keys().chain(is.keys()).collect();
    let differ = names.into_iter().filter(|it| should.get(*it) != is.get(*it));
    differ.map(|it| format!("{it}:\n  server {:?}\n  weir   {:?}", should.get(it), is.get(it))).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
