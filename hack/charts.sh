#!/usr/bin/env bash
# Lints and renders both charts with the helm of the testbed, and looks at what was rendered.
#
#   hack/charts.sh            checks
#   hack/charts.sh --write    makes charts/lifeboat-backups/values.schema.json from the CRDs anew (after `make gen`)
set -euo pipefail
cd "$(dirname "$0")/.."
helm=$PWD/target/testbed/bin/helm
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
schema=charts/lifeboat-backups/values.schema.json

die() { echo "charts: $*" >&2; exit 1; }

# made_schema: values.schema.json of lifeboat-backups as the CRDs say, by way of a chart that lives for this moment.
made_schema() {
  mkdir -p "$work/schema/templates"
  cp -r charts/lifeboat/templates/crds "$work/schema/crds"
  cp charts/lifeboat-backups/ci/values.schema.tpl "$work/schema/templates/values.json"
  printf 'apiVersion: v2\nname: schema\nversion: 0.0.0\n' > "$work/schema/Chart.yaml"
  "$helm" template schema "$work/schema" | sed -n '/^{/,$p'
}

case ${1:-} in
  "") ;;
  --write) made_schema > "$work/made" && cp "$work/made" "$schema"; exit 0 ;;
  *) echo "usage: hack/charts.sh [--write]" >&2; exit 2 ;;
esac

# render NAMESPACE CHART ARGS…: as an administrator installs it; the release is named as in the README.
render() { "$helm" template lifeboat "charts/$2" --namespace "$1" "${@:3}"; }

# lint CHART ARGS…: with warnings as errors; silent where there are none.
lint() {
  local said
  said=$("$helm" lint --quiet --strict "charts/$1" "${@:2}" 2>&1) || die "$1 does not pass lint: $said"
}

# has FILE LINE…: each of these lines is there, whatever its indentation.
has() {
  local file=$1 line
  for line in "${@:2}"; do
    grep -qxE "[- ]*$(sed 's/[][\.*^$(){}?+|/]/\\&/g' <<< "$line")" "$file" || die "$(basename "$file"): no line $line"
  done
}

# lacks FILE REGEX…: no line matches.
lacks() {
  local file=$1 regex
  for regex in "${@:2}"; do ! grep -nE "$regex" "$file" >&2 || die "$(basename "$file"): must not have $regex"; done
}

# refuses CHART WORDS ARGS…: rendering fails and says so in these words.
refuses() {
  local chart=$1 words=$2 said
  shift 2
  if said=$(render any "$chart" "$@" 2>&1 > /dev/null); then die "$chart takes $*"; fi
  grep -qF -- "$words" <<< "$said" || die "$chart refuses $* in other words than \"$words\": $said"
}

# names FILE: kind and name of every object that no namespace keeps apart, but for CRDs and roles for people.
names() {
  awk '/^---/ {kind = ""; name = ""; inside = 0}
    /^kind: / {kind = $2}
    /^metadata:/ {inside = 1; next}
    /^[^ ]/ {inside = 0}
    inside && /^  name: / && name == "" {name = $2; print kind "/" name}' "$1" |
    grep -E '^(ClusterRole|ClusterRoleBinding|ValidatingAdmissionPolicy|ValidatingAdmissionPolicyBinding)/' |
    grep -vE -- '-(view|edit|restore-approver)$'
}

# One version for programs and charts.
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
for chart in lifeboat lifeboat-backups; do
  grep -qx "version: $version" "charts/$chart/Chart.yaml" || die "$chart is not of version $version"
done
grep -qx "appVersion: \"$version\"" charts/lifeboat/Chart.yaml || die "appVersion is not $version"

made_schema | diff - "$schema" || die "$schema is out of date: run 'hack/charts.sh --write' and commit"

# Lint, with its warnings as errors, and render with every set of values.
for chart in lifeboat lifeboat-backups; do
  lint "$chart"
  render lifeboat "$chart" > "$work/$chart.default"
  for values in "charts/$chart"/ci/*.yaml; do
    lint "$chart" --values "$values"
    render lifeboat "$chart" --values "$values" > "$work/$chart.$(basename "$values" .yaml)"
  done
done

# Rights: never a wildcard; on Secrets agents may read one by its name, and the operator may make one and read none.
for file in "$work"/lifeboat.*; do
  awk 'BEGIN {RS = "\n---\n"} /\nkind: (Cluster)?Role\n/' "$file" > "$work/roles"
  [ -s "$work/roles" ] || die "$(basename "$file"): no roles found"
  lacks "$work/roles" '\*'
  secrets=$(grep -A1 'resources: .*secrets' "$work/roles" | sed -n 's/^ *verbs: //p' | sort | tr '\n' ' ')
  [ "$secrets" = "[create] [get] " ] || die "$(basename "$file"): rights on Secrets other than create and get: $secrets"
done

# What the tests and the README count on.
has "$work/lifeboat.default" \
  "name: lifeboat-operator" "name: lifeboat-agent" \
  "image: registry.example.org/lifeboat/lifeboat-operator:$version" "image: registry.example.org/lifeboat/lifeboat-agent:$version" \
  "request.userInfo.username == 'system:serviceaccount:lifeboat:lifeboat-agent'" \
  "kubernetes.io/metadata.name: lifeboat" "mountPath: /host/etc/kubernetes" "mountPath: /host/var/lib/etcd" \
  "mountPath: /host/var/lib/kubelet/config.yaml" "runAsNonRoot: true"
lacks "$work/lifeboat.default" "privileged: true" "hostPID" "hostIPC" "add:$" "monitoring.coreos.com"
[ "$(grep -c 'helm.sh/resource-policy: keep' "$work/lifeboat.default")" = 5 ] || die "not every CRD is kept on uninstall"
# All that the agent sees of the host is read-only but its own state; the program and the tools are put there by the container
# before it, which sees nothing else of the host.
host_paths=$(grep -cE '^ +hostPath: \{' "$work/lifeboat.default")
[ "$host_paths" = $(($(grep -c 'readOnly: true' "$work/lifeboat.default") + 1)) ] || die "a host path can be written"
awk '/^      initContainers:/ {inside = 1; next} /^      [a-z]/ {inside = 0} inside' "$work/lifeboat.default" > "$work/install"
has "$work/install" "name: install" "args: [install, --directory, /host/opt/lifeboat]" "mountPath: /host/opt/lifeboat" \
  "image: registry.example.org/lifeboat/lifeboat-agent:$version" "drop: [ALL]" "readOnlyRootFilesystem: true"
[ "$(grep -c 'mountPath:' "$work/install")" = 1 ] || die "the container that installs sees more than it must"
has "$work/lifeboat.default" "hostPath: {path: \"/opt/lifeboat\", type: DirectoryOrCreate}" "value: /opt/lifeboat/tools"
render lifeboat lifeboat --set agent.hostTools.directory=/srv/tools > "$work/elsewhere"
has "$work/elsewhere" "hostPath: {path: \"/srv/tools\", type: DirectoryOrCreate}"
# Restores need more of the host, and take it only where they are asked for.
render lifeboat lifeboat --set agent.restore.enabled=true,agent.stateDir=/srv/state,agent.hostTools.directory=/srv/tools \
  --set 'agent.directories[0].name=a,agent.directories[0].hostPath=/mnt/a' > "$work/restoring"
has "$work/restoring" "hostPID: true" "privileged: true" "value: /srv/state" "mountPath: /srv/state" "value: /srv/tools/bin/lifeboat" \
  "value: /srv/tools/tools" "mountPath: /srv/tools" "value: a=/mnt/a" "mountPath: /mnt/a" "readOnly: false"
[ "$(grep -c 'readOnly: false' "$work/restoring")" = 1 ] || die "more of the host can be written than etcd's data"

has "$work/lifeboat.everything" \
  "name: etcd-lifeboat-operator" "replicas: 3" 'value: "[::]:9080"' 'value: "127.0.0.1:9081"' 'host: "127.0.0.1"' \
  "image: registry.internal:5000/mirror/lifeboat/operator@sha256:$(printf '0%.0s' {1..64})" \
  "image: registry.internal:5000/mirror/lifeboat/agent:0.1.1-rc.1" \
  "mountPath: /host/etc/kublr" "mountPath: /host/mnt/master-pd/etcd" "mountPath: /directories/archives" "mountPath: /directories/local" \
  "value: archives=/directories/archives,local=/directories/local" 'value: "/srv/kubernetes/pki/client.key"' \
  "request.userInfo.username == 'system:serviceaccount:lifeboat:etcd-lifeboat-agent'" \
  "kind: PodMonitor" "kind: PrometheusRule" "dnsPolicy: Default"
lacks "$work/lifeboat.everything" "initContainers" "host-tools" "kubelet-config" "priorityClassName" "aggregate-to-view" "name: lifeboat-(agent|operator)$"
lacks "$work/lifeboat.without-roles" "restore-approver"

# Two releases of one name share nothing but what they must.
render other lifeboat > "$work/other"
[ -z "$(cat <(names "$work/lifeboat.default") <(names "$work/other") | sort | uniq -d)" ] || die "releases in two namespaces clash"

has "$work/lifeboat-backups.s3" "kind: EtcdBackupLocation" 'name: "on-premises"' "kind: EtcdBackupSchedule" 'name: "every-six-hours"' "environment: production"
render any lifeboat-backups --values charts/lifeboat-backups/ci/s3.yaml --set schedules.nightly=null > "$work/removed"
lacks "$work/removed" nightly

# A typo is refused, and so is what could not work.
refuses lifeboat "additional properties 'replica' not allowed" --set operator.replica=3
refuses lifeboat "additional properties 'kublet' not allowed" --set agent.host.kublet=/x
refuses lifeboat "additional properties 'agents' not allowed" --set agents.x=1
refuses lifeboat "missing property 'hostPath'" --set 'agent.directories[0].name=a'
refuses lifeboat "does not match pattern" --set agent.host.etcdData=mnt/etcd
refuses lifeboat "does not match pattern" --set agent.hostTools.directory=opt
refuses lifeboat "needs agent.hostTools.install" --set agent.restore.enabled=true,agent.hostTools.install=false
refuses lifeboat "needs agent.host.etcdData" --set agent.restore.enabled=true,agent.host.etcdData=
refuses lifeboat "must be one of" --set 'agent.capabilities[0]=SYS_ADMIN'
refuses lifeboat "is in none of the directories that the agent sees" --set agent.discovery.etcdCert=/opt/etcd/client.crt
refuses lifeboat "incompatible with Kubernetes v1.31.9" --kube-version 1.31.9
refuses lifeboat-backups "additional properties 'keepLats' not allowed" --values charts/lifeboat-backups/ci/s3.yaml --set schedules.nightly.retention.keepLats=1
refuses lifeboat-backups "additional properties 'buckets' not allowed" --set locations.l.s3.buckets=x
refuses lifeboat-backups "missing property 'schedule'" --set schedules.s.template.spec.locationRef.name=l
refuses lifeboat-backups "invalid propertyName" --set schedules.Nightly.schedule=@daily
refuses lifeboat-backups "must be one of" --values charts/lifeboat-backups/ci/s3.yaml --set schedules.nightly.concurrencyPolicy=Allow

# The words after an installation; `helm template` leaves them out.
"$helm" install lifeboat charts/lifeboat --namespace lifeboat --dry-run=client > "$work/notes"
grep -q "image.registry is still the example" "$work/notes" || die "lifeboat: no notes"
"$helm" install backups charts/lifeboat-backups --namespace lifeboat --dry-run=client --values charts/lifeboat-backups/ci/s3.yaml > "$work/notes"
grep -q "run-now" "$work/notes" || die "lifeboat-backups: no notes"


# Alerts: promtool reads them and plays a day's trouble against them; each has its section in the runbook, and each metric
# stands in the reference.
render lifeboat lifeboat --set monitoring.prometheusRule.enabled=true |
  awk '/^---/ {rule = 0; spec = 0} /^kind: PrometheusRule$/ {rule = 1} rule && spec {print substr($0, 3)} rule && /^spec:$/ {spec = 1}' > "$work/rules.yaml"
cp charts/lifeboat/ci/alerts/test.yaml "$work/"
promtool=$(hack/promtool.sh)
for check in "check rules rules.yaml" "test rules test.yaml"; do
  # shellcheck disable=SC2086 # words
  said=$(cd "$work" && "$promtool" $check 2>&1) || die "promtool $check: $said"
done
for alert in $(sed -n 's/^ *- alert: //p' "$work/rules.yaml"); do
  grep -qx "## $alert" docs/runbook.md || die "alert $alert has no section in docs/runbook.md"
done
for section in $(sed -n 's/^## //p' docs/runbook.md); do
  grep -qx " *- alert: $section" "$work/rules.yaml" || die "docs/runbook.md speaks of $section, which is no alert"
done
for metric in $(grep -ohE 'lifeboat_[a-z_]+' "$work/rules.yaml" | sort -u); do
  grep -q "^| \`$metric\` |" docs/reference/metrics.md || die "$metric is not in docs/reference/metrics.md"
done
echo "charts: linted, rendered, and as they should be"
