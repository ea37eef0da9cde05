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
