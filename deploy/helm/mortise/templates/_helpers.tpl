{{/* What tells the pods of this release from all others. */}}
{{- define "mortise.selector" -}}
app.kubernetes.io/name: mortise
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "mortise.labels" -}}
{{ include "mortise.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "mortise.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}
