# weir on a node with a pod, with exactly the capabilities that the DaemonSet gives it and its sockets on the node, in an emulated
# machine: the pod's
# connections are diverted; when weir hangs, they go direct, or are refused with `fail: closed`.
set -e
# busybox's shell takes its own `ip` and `setpriv` first, which know less.
IP=/usr/sbin/ip
SETPRIV=/usr/sbin/setpriv
CAPABILITIES="+bpf,+net_admin,+sys_admin"
PODS=/sys/fs/cgroup/kubepods

fail() {
    echo "failed: $*"
    tail -n 20 /tmp/weir.log
    exit 1
}

# The node's address is 10.77.0.1. In the pod's namespace, a server stands for an endpoint at 10.77.0.2:8080, and another for
# what is reached directly at the service's address, 10.96.0.10:80.
$IP netns add pod
$IP link add pod0 type veth peer name eth0 netns pod
$IP address add 10.77.0.1/24 dev pod0
$IP link set pod0 up
$IP -n pod address add 10.77.0.2/24 dev eth0
$IP -n pod address add 10.96.0.10/32 dev lo
$IP -n pod link set lo up
$IP -n pod link set eth0 up
mkdir -p $PODS/pod /tmp/endpoint /tmp/direct /tmp/services
echo endpoint >/tmp/endpoint/index.html
echo direct >/tmp/direct/index.html
$IP netns exec pod httpd -p 10.77.0.2:8080 -h /tmp/endpoint
$IP netns exec pod httpd -p 10.96.0.10:80 -h /tmp/direct
cat >/tmp/services/hello.yaml <<END
apiVersion: v1
kind: Service
metadata: { name: hello, namespace: default }
spec: { clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10], ports: [{ name: http, port: 80, protocol: TCP }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: hello-1, namespace: default, labels: { kubernetes.io/service-name: hello } }
addressType: IPv4
endpoints: [{ addresses: [10.77.0.2], conditions: { ready: true } }]
ports: [{ name: http, port: 8080, protocol: TCP }]
END

# What a process of the pod hears from the service: a word, or why not.
dial() {
    sh -c "echo 0 >$PODS/pod/cgroup.procs; exec $IP netns exec pod timeout 20 wget -q -O - http://10.96.0.10/" 2>&1 || true
}

# Repeats that until it has this word in it.
until_heard() {
    for _ in $(seq 150); do
        heard=$(dial)
        case "$heard" in
        *"$1"*) return 0 ;;
        esac
        usleep 200000
    done
    fail "expected '$1', heard '$heard'"
}

for setting in open closed; do
    echo "transparent: { sockets: node, cgroup: $PODS, fail: $setting }" >/tmp/weir.yaml
    echo "discovery: { files: { path: /tmp/services } }" >>/tmp/weir.yaml
    $SETPRIV --inh-caps "-all,$CAPABILITIES" --bounding-set "-all,$CAPABILITIES" --no-new-privs \
        /weir run --config /tmp/weir.yaml >/tmp/weir.log 2>&1 &
    weir=$!
    until_heard endpoint
    grep -q "CapEff:.*0000008000201000" /proc/$weir/status ||
        fail "weir has other capabilities: $(grep Cap /proc/$weir/status)"
    echo "== shown fail: $setting diverts"
    kill -STOP $weir
    case $setting in
    open) until_heard direct ;;
    closed) until_heard "wget: can't connect" ;;
    esac
    echo "== shown fail: $setting, weir stopped: $heard"
    kill -CONT $weir
    until_heard endpoint
    kill $weir
    wait $weir || true
    until_heard direct
done
