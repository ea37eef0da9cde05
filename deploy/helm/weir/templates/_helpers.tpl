{{/* Names are fixed, not made from the release's: a node has room for one weir, whose ports are the node's. */}}
{{- define "weir.labels" -}}
app.kubernetes.io/name: weir
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The port of a listener: of its section of the configuration, or else its default. */}}
{{- define "weir.port" -}}
{{- $listen := dig "listen" "" (index . 0 | default dict) -}}
{{- regexFind "[0-9]+$" $listen | default (index . 1) -}}
{{- end }}

{{/* The folder of the pods' network namespaces; empty where weir does not enter them. */}}
{{- define "weir.netns" -}}
{{- $transparent := .Values.config.transparent -}}
{{- if and (kindIs "map" $transparent) (ne (dig "sockets" "auto" $transparent) "node") -}}
{{- dig "netns" "/run/netns" $transparent -}}
{{- end -}}
{{- end }}

{{/* The routers, as a JSON list: `outgoing` is one, a list of them, or left out. */}}
{{- define "weir.routers" -}}
{{- $outgoing := .Values.config.outgoing | default dict -}}
{{- ternary $outgoing (list $outgoing) (kindIs "slice" $outgoing) | toJson -}}
{{- end }}

{{/* Whether a router reads its dtab from a Dtab object; empty if not. */}}
{{- define "weir.readsDtabs" -}}
{{- range fromJsonArray (include "weir.routers" .) -}}
{{- $interpreter := get . "interpreter" | default dict -}}
{{- if eq (get $interpreter "kind") "io.l5d.k8s.dtabs" }}yes{{ end -}}
{{- end -}}
{{- end }}

{{/* Whether a router identifies by Ingresses; empty if not. `identifier` is one, or a list of them. */}}
{{- define "weir.readsIngresses" -}}
{{- range fromJsonArray (include "weir.routers" .) -}}
{{- $identifier := get . "identifier" | default list -}}
{{- range ternary $identifier (list $identifier) (kindIs "slice" $identifier) -}}
{{- if kindIs "map" . -}}{{- if eq (get . "kind") "io.l5d.ingress" }}yes{{ end -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* The objects that routers read their dtabs from, as JSON: by namespace, the names of Dtabs and of ConfigMaps. */}}
{{- define "weir.dtabObjects" -}}
{{- $objects := dict -}}
{{- range fromJsonArray (include "weir.routers" .) -}}
{{- $interpreter := get . "interpreter" | default dict -}}
{{- $kind := get $interpreter "kind" -}}
{{- if or (eq $kind "io.l5d.k8s.dtabs") (eq $kind "io.l5d.k8s.configMap") -}}
{{- $key := ternary "dtabs" "configMaps" (eq $kind "io.l5d.k8s.dtabs") -}}
{{- $namespace := get $interpreter "namespace" | default "default" -}}
{{- $of := get $objects $namespace | default dict -}}
{{- $names := append (get $of $key | default list) $interpreter.name | uniq -}}
{{- $_ := set $objects $namespace (merge (dict $key $names) $of) -}}
{{- end -}}
{{- end -}}
{{- toJson $objects -}}
{{- end }}
