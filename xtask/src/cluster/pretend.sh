#!/bin/sh
# kubectl on a cluster where all is well: it notes its calls, and keeps what is applied as a file per kustomization, in the
# folder of the link it is called by. The file `fails` there is a word of a call that fails.
cd "$(dirname "$0")" && shift 2 && echo "$*" >> calls
case "$*" in *"$(cat fails)"*) echo "the cluster says no" >&2; exit 1;; esac
case "$*" in
*"apply --kustomize"*hello-world*) touch hello;;
*"apply --kustomize"*) touch weir;;
*"delete --kustomize"*hello-world*) rm -f hello;;
*"delete --kustomize"*) rm -f weir;;
*"get namespace/hello"*) [ ! -e hello ] || echo namespace/hello;;
*"get namespace/weir"* | *"get clusterrole"*) [ ! -e weir ] || echo namespace/weir;;
*jsonpath*) echo weir-a weir-b;;
*"get --raw"*) echo x >> asked; echo "weir_interception_decisions_total{decision=\"diverted\"} $(wc -l < asked)";;
*"get pods"*) echo pod/world-1;;
*"rm -f /tmp/stop"*) while [ ! -e stop ]; do sleep 0.01; done; rm stop; cat load;;
*"touch /tmp/stop"*) touch stop;;
*"deployment/explicit"*) printf 'HTTP/1.1 200 OK\r\nVia: 1.1 weir\r\n\r\nworld-1';;
*"deployment/diverted"*) echo world-1;;
esac
