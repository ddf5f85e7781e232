#!/usr/bin/env bash
# The master of the leading operator is drained while a backup runs: the operator moves, its agent stays, the backup is completed.
. "$(dirname "$0")/../journey.sh"
node=$(k get pod "$(leading)" --output 'jsonpath={.spec.nodeName}')
trap '"$here/store.sh" thaw; kubectl uncordon "$node" > /dev/null' EXIT
name=$(unique drained)
"$here/store.sh" freeze
backup "$name"
eventually 30 "backup $name to run" is "etcdb/$name" .phase Running
began=$SECONDS
kubectl drain "$node" --ignore-daemonsets --timeout=120s > /dev/null 2>&1 || fail "$node cannot be drained"
"$here/store.sh" thaw
measured "drained" "$((SECONDS - began)) s"
complete "$name" 120
measured "the backup" "complete $((SECONDS - began)) s after the drain began"
kubectl uncordon "$node" > /dev/null
k rollout status deployment/lifeboat-operator --timeout=60s > /dev/null || fail "no two operators after the drain"
