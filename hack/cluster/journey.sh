# shellcheck shell=bash
# What journeys share; each reads this first.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/settings.sh"
schedule=every-two-minutes

k() { kubectl --namespace $namespace "$@"; }
measured() { printf '   %s: %s\n' "$1" "$2"; }
fail() {
  echo "   $*" >&2
  k get pods,etcdbs,etcdb,etcdr,etcdbl,etcdm --output wide >&2 || true
  exit 1
}

# eventually SECONDS WHAT COMMAND…: until the command succeeds.
eventually() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" > /dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "in vain waited for: $what"
    sleep 0.2
  done
}

# refused WORDS COMMAND…: fails, in these words among others.
refused() {
  local words=$1 said
  shift
  if said=$("$@" 2>&1); then fail "not refused: $*: $said"; fi
  grep -qF -- "$words" <<< "$said" || fail "refused in other words than \"$words\": $said"
}

# backup NAME: orders one by hand.
backup() {
  k create --filename - > /dev/null <<YAML
{"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup", "metadata": {"name": "$1"}, "spec": {"locationRef": {"name": "store"}}}
YAML
}
status() { k get "$1" --output "jsonpath={.status$2}"; }
is() { [ "$(status "$1" "$2")" = "$3" ]; }
unique() { echo "$1-$(date +%s)"; }

# complete NAME SECONDS: waits for a backup.
complete() { eventually "$2" "backup $1 to be complete" is "etcdb/$1" .phase Complete; }

leading() { k get lease lifeboat-operator --output 'jsonpath={.spec.holderIdentity}' | sed 's/_.*//'; }
workload() { # workload NAME SECONDS: a pod on every master that sleeps so long
  kubectl --namespace default apply --filename - > /dev/null <<YAML
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: $1}
spec:
  selector: {matchLabels: {app: $1}}
  template:
    metadata: {labels: {app: $1}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]
      containers: [{name: sleep, image: "registry.example.org/lifeboat/workload:1", imagePullPolicy: Never, command: [sleep, "$2"]}]
YAML
}

# watch_api: asks each API server every 100 ms whether it is ready, until the journey's shell ends.
watch_api() {
  local machine watchers=()
  answers=$(mktemp)
  for machine in "${machines[@]}"; do
    (
      while :; do
        sleep 0.1 &
        if [ "$(curl --silent --insecure --max-time 1 "https://$(address_of "$machine"):6443/readyz")" = ok ]; then
          echo "$(date +%s.%3N) $machine"
        fi
        wait
      done >> "$answers"
    ) &
    watchers+=($!)
  done
  # shellcheck disable=SC2064 # as they are now
  trap "kill ${watchers[*]} 2> /dev/null || true; rm -f '$answers'" EXIT
}

# outages: the longest silence of each API server, and of all of them at once, in seconds.
outages() {
  sort -n "$answers" | awk '
    function silence(who, at) { if (who in last && at - last[who] > longest[who]) longest[who] = at - last[who]; last[who] = at }
    {silence($2, $1); silence("all at once", $1)}
    END {for (who in longest) printf "%s %.1f s\n", who, longest[who]}' | sort -r | paste -sd, | sed 's/,/, /g'
}
