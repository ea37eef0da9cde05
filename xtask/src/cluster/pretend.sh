#!/bin/sh
# kubectl on a cluster where all is well: it notes its calls, and keeps what is applied as a file per kustomization, in the
# folder of the link it is called by. The file `fails` there is a word of a call that fails; `via` is the header by which an
# answer shows that it went through weir, and `load-NAME` what the load of a client says of itself.
cd "$(dirname "$0")" && shift 2 && call=$(echo "$*" | tr '\n' ' ') && echo "$call" >> calls
case "$*" in *"$(cat fails)"*) echo "the cluster says no" >&2; exit 1;; esac
case "$*" in *deployment/diverted*) who=diverted;; *deployment/explicit*) who=explicit;; esac
case "$*" in
*"apply --kustomize"*hello-world*) touch hello;;
*"apply --kustomize"*) touch weir;;
*"delete --kustomize"*hello-world*) rm -f hello;;
*"delete --kustomize"*) rm -f weir;;
*"get namespace/hello"*) [ ! -e hello ] || echo namespace/hello;;
*"get namespace/weir"* | *"get clusterrole"*) [ ! -e weir ] || echo namespace/weir;;
*"get pods"*) echo pod/world-1;;
*"rm -f /tmp/stop"*) while [ ! -e stop-$who ]; do sleep 0.01; done; rm stop-$who; cat load-$who;;
*"touch /tmp/stop"*) touch stop-$who;;
*curl*) printf 'HTTP/1.1 200 OK\r\n%s\r\n\r\nworld-1' "$(cat via)";;
esac
