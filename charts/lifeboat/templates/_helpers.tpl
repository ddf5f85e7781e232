{{- define "lifeboat.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Prefix of every name. Short enough for the suffixes that are added to it. */}}
{{- define "lifeboat.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "lifeboat.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "lifeboat.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Call with (list $ "operator"): labels by which a component's pods are selected. They never change. */}}
{{- define "lifeboat.selectorLabels" -}}
{{- $top := index . 0 -}}
app.kubernetes.io/name: {{ include "lifeboat.name" $top }}
app.kubernetes.io/instance: {{ $top.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "lifeboat.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: {{ include "lifeboat.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: lifeboat
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* Name of a cluster-scoped object: with the namespace, so that two releases do not clash. Call with (list $ "agent"). */}}
{{- define "lifeboat.clusterName" -}}
{{- $top := index . 0 -}}
{{ include "lifeboat.fullname" $top }}-{{ index . 1 }}.{{ $top.Release.Namespace }}
{{- end }}

{{/* Call with (list $ .Values.operator.image). */}}
{{- define "lifeboat.image" -}}
{{- $top := index . 0 -}}
{{- $image := index . 1 -}}
{{- $name := printf "%s/%s" (trimSuffix "/" $top.Values.image.registry) $image.name -}}
{{- if $image.digest -}}
{{ $name }}@{{ $image.digest }}
{{- else -}}
{{ $name }}:{{ default $top.Chart.AppVersion $top.Values.image.tag }}
{{- end }}
{{- end }}

{{/* The host's directories that the agent sees, as a JSON list. */}}
{{- define "lifeboat.agent.hostDirectories" -}}
{{- $host := .Values.agent.host -}}
{{- concat (list $host.kubernetes $host.etcdData) $host.directories | compact | uniq | toJson }}
{{- end }}

{{/* Fails where a restore could not be carried out. */}}
{{- define "lifeboat.agent.checkRestore" -}}
{{- $agent := .Values.agent -}}
{{- if $agent.restore.enabled -}}
{{- if or (not $agent.hostTools.install) $agent.toolsDir -}}
{{- fail "agent.restore.enabled needs agent.hostTools.install, and no agent.toolsDir: the executor of a restore is the program that is installed on the master" -}}
{{- end -}}
{{- if not $agent.host.etcdData -}}
{{- fail "agent.restore.enabled needs agent.host.etcdData: the restored data is staged there" -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Where the agent sees a directory of agent.directories: with restores, where the host itself has it. Call with (list . directory). */}}
{{- define "lifeboat.agent.directory" -}}
{{- $values := (index . 0).Values -}}
{{- $directory := index . 1 -}}
{{- if and $values.agent.restore.enabled $directory.hostPath -}}
{{- $directory.hostPath -}}
{{- else -}}
/directories/{{ $directory.name }}
{{- end -}}
{{- end }}

{{/* Fails where an override names a path that the agent could not see. */}}
{{- define "lifeboat.agent.checkDiscovery" -}}
{{- $seen := include "lifeboat.agent.hostDirectories" . | fromJsonArray -}}
{{- range $key := list "manifestDir" "dataDir" "etcdCA" "etcdCert" "etcdKey" -}}
{{- $path := index $.Values.agent.discovery $key -}}
{{- $state := dict "covered" (empty $path) -}}
{{- range $directory := $seen -}}
{{- if or (eq $path $directory) (hasPrefix (printf "%s/" $directory) $path) -}}
{{- $_ := set $state "covered" true -}}
{{- end -}}
{{- end -}}
{{- if not $state.covered -}}
{{- fail (printf "agent.discovery.%s: %s is in none of the directories that the agent sees (%s): set agent.host.etcdData, or add its directory to agent.host.directories" $key $path (join ", " $seen)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Address and port as a program takes them. Call with a `listen` value. */}}
{{- define "lifeboat.listen" -}}
{{- printf (ternary "[%s]:%v" "%s:%v" (contains ":" .address)) .address .port }}
{{- end }}
