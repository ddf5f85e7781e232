{{- /*
Makes values.schema.json from the CRDs; run by `hack/charts.sh --write`. Helm's own template language, because helm is the
one tool at hand that reads YAML. What JSON Schema has no word for (CEL rules, quantities) is left to the API server.
*/ -}}
{{- define "schema" -}}
{{- $in := . -}}
{{- $out := dict -}}
{{- range $key := list "description" "type" "enum" "pattern" "minLength" "maxLength" "minimum" "maximum" "minItems" "maxItems" "required" -}}
{{- if hasKey $in $key -}}{{- $_ := set $out $key (index $in $key) -}}{{- end -}}
{{- end -}}
{{- if index $in "x-kubernetes-int-or-string" -}}
{{- $_ := set $out "type" (list "integer" "string") -}}
{{- $_ := unset $out "maxLength" -}}
{{- end -}}
{{- if hasKey $in "properties" -}}
{{- $properties := dict -}}
{{- range $name, $property := $in.properties -}}
{{- $_ := set $properties $name (include "schema" $property | fromJson) -}}
{{- end -}}
{{- $_ := set $out "properties" $properties -}}
{{- $_ := set $out "additionalProperties" false -}}
{{- end -}}
{{- if hasKey $in "items" -}}
{{- $_ := set $out "items" (include "schema" $in.items | fromJson) -}}
{{- end -}}
{{- if hasKey $in "additionalProperties" -}}
{{- $_ := set $out "additionalProperties" (include "schema" $in.additionalProperties | fromJson) -}}
{{- end -}}
{{- toJson $out -}}
{{- end -}}
{{- $specs := dict -}}
{{- range $kind := list "etcdbackuplocations" "etcdbackupschedules" -}}
{{- $crd := $.Files.Get (printf "crds/%s.yaml" $kind) | fromYaml -}}
{{- $version := first $crd.spec.versions -}}
{{- $spec := include "schema" $version.schema.openAPIV3Schema.properties.spec | fromJson -}}
{{- /* null takes an entry of an earlier values file away. */ -}}
{{- $_ := set $specs $kind (set $spec "type" (list "object" "null")) -}}
{{- end -}}
{{- $name := "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$" -}}
{{- $strings := dict "type" "object" "additionalProperties" (dict "type" "string") -}}
{{- dict
  "$schema" "https://json-schema.org/draft/2020-12/schema"
  "title" "Values of the chart lifeboat-backups"
  "$comment" "Generated from charts/lifeboat/templates/crds by `hack/charts.sh --write`. Do not edit."
  "type" "object"
  "additionalProperties" false
  "properties" (dict
    "global" (dict "type" "object" "description" "Set by Helm where this is the dependency of another chart; not read.")
    "labels" $strings
    "annotations" $strings
    "locations" (dict
      "type" "object"
      "description" "Specs of EtcdBackupLocations by name."
      "propertyNames" (dict "pattern" $name "maxLength" 253)
      "additionalProperties" $specs.etcdbackuplocations)
    "schedules" (dict
      "type" "object"
      "description" "Specs of EtcdBackupSchedules by name."
      "propertyNames" (dict "pattern" $name "maxLength" 40)
      "additionalProperties" $specs.etcdbackupschedules))
  | toPrettyJson }}
