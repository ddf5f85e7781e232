{{/* Metadata of an object, but for its name. */}}
{{- define "lifeboat-backups.metadata" -}}
namespace: {{ .Release.Namespace }}
labels:
  helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
  app.kubernetes.io/name: {{ .Chart.Name }}
  app.kubernetes.io/instance: {{ .Release.Name }}
  app.kubernetes.io/part-of: lifeboat
  app.kubernetes.io/managed-by: {{ .Release.Service }}
  {{- with .Values.labels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .Values.annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
