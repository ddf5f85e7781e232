#!/usr/bin/env bash
# All three masters are put back by an EtcdRestore while workloads run: objects are those of the backup, everything that watches them
# goes on by itself, containers of pods that are no more are ended. Measures how long the API is away.
. "$(dirname "$0")/../journey.sh"
name=$(unique back)

helm upgrade lifeboat "$root/charts/lifeboat" --namespace $namespace --reuse-values --set agent.restore.enabled=true --wait --timeout 240s > /dev/null ||
  fail "no upgrade"
are_able() { [ -z "$(k get etcdm --output 'jsonpath={.items[*].status.restoreObstacle}')" ]; }
eventually 60 "masters that may restore: $(k get etcdm --output 'jsonpath={.items[*].status.restoreObstacle}')" are_able

# What the backup holds, and what comes after it. The workloads are told apart by how long they sleep.
d() { kubectl --namespace default "$@"; }
kept=$((1000000 + RANDOM)) gone=$((2000000 + RANDOM))
workload "kept-$kept" $kept
d create configmap "before-$name" --from-literal=a=b > /dev/null
d rollout status "daemonset/kept-$kept" --timeout=60s > /dev/null || fail "the first workload does not run"
backup "$name"
complete "$name" 60
workload "gone-$gone" $gone
d create configmap "after-$name" --from-literal=a=b > /dev/null
d delete configmap "before-$name" > /dev/null
d rollout status "daemonset/gone-$gone" --timeout=60s > /dev/null || fail "the second workload does not run"
running() { # running SECONDS: processes on all masters that sleep that long
  local machine
  for machine in "${machines[@]}"; do within "$machine" pgrep --full --exact "sleep $1" || true; done | wc -l
}
[ "$(running $kept)" = 3 ] && [ "$(running $gone)" = 3 ] || fail "the workloads have $(running $kept) and $(running $gone) processes"

k create --filename - > /dev/null <<YAML
{"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdRestore", "metadata": {"name": "$name"},
 "spec": {"cluster": {"from": {"backupRef": {"name": "$name"}}}}}
YAML
condition() { k get etcdr "$name" --output "jsonpath={.status.conditions[?(@.type=='$1')].status}"; }
is_true() { [ "$(condition "$1")" = True ]; }
began=$SECONDS
eventually 120 "a plan" is_true PlanReady
measured "a plan" "after $((SECONDS - began)) s"
watch_api
code=$(status "etcdr/$name" .plan.approvalCode)
began=$SECONDS
k patch etcdr "$name" --type merge --patch "{\"spec\": {\"approval\": \"$code\"}}" > /dev/null
has_ended() { is_true Complete || is_true Failed; }
eventually 240 "the restore to end" has_ended
measured "the restore" "over $((SECONDS - began)) s after the approval"
is_true Complete || fail "the restore failed: $(k get etcdr "$name" --output yaml)"

# As of the backup.
[ -z "$(d get configmap "after-$name" --ignore-not-found --output name)" ] || fail "an object made after the backup is still there"
d get configmap "before-$name" > /dev/null || fail "an object that the backup holds is not there"
revision=$(d create configmap "next-$name" --output 'jsonpath={.metadata.resourceVersion}')
((revision > 1000000000)) || fail "revisions did not go beyond what was seen: $revision"

# Those who watch go on.
renewed() { kubectl --namespace kube-node-lease get lease "$1" --output 'jsonpath={.spec.renewTime}'; }
for machine in "${machines[@]}"; do
  at=$(renewed "$machine")
  is_renewed() { [ "$(renewed "$machine")" != "$at" ]; }
  eventually 60 "the kubelet of $machine to renew its lease" is_renewed
done
are_gone() { [ "$(running $gone)" = 0 ]; }
eventually 120 "containers of pods that are no more to be ended: $(running $gone) are left" are_gone
measured "containers of pods that are no more" "ended $((SECONDS - began)) s after the approval"
[ "$(running $kept)" = 3 ] || fail "the workload of the backup has $(running $kept) processes"
workload "new-$kept" $((3000000 + kept))
d rollout status "daemonset/new-$kept" --timeout=120s > /dev/null || fail "nothing new is started"
measured "a new workload runs" "$((SECONDS - began)) s after the approval"
all_ready() { kubectl wait --for=condition=Ready node --all --timeout=1s && k rollout status daemonset/lifeboat-agent --timeout=1s; }
eventually 120 "all nodes and agents to be ready" all_ready
eventually 120 "a word from all masters" is "etcdr/$name" .nodesReady 3/3
measured "longest silence of the API" "$(outages)"
measured "the object says" "$(status "etcdr/$name" .phase), outage $(status "etcdr/$name" .outageSeconds) s"

# And so does Lifeboat.
next=$(unique restored)
backup "$next"
complete "$next" 120
for machine in "${machines[@]}"; do
  [ -z "$(within "$machine" ls /etc/systemd/system | grep lifeboat)" ] || fail "$machine still has the unit of the restore"
done
d delete daemonset "kept-$kept" "new-$kept" > /dev/null
