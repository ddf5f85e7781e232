#!/usr/bin/env bash
# Agents are rolled in the middle of a backup, which comes to a good end all the same, and so does the next one.
. "$(dirname "$0")/../journey.sh"
trap '"$here/store.sh" thaw' EXIT
name=$(unique rolled)
"$here/store.sh" freeze
backup "$name"
eventually 30 "backup $name to run" is "etcdb/$name" .phase Running
node=$(status "etcdb/$name" .execution.nodeName)
agent=$(k get pods --selector app.kubernetes.io/component=agent --field-selector "spec.nodeName=$node" --output name)
began=$SECONDS
k rollout restart daemonset/lifeboat-agent > /dev/null
# This agent's turn comes when the others are new.
is_ending() { [ -n "$(k get "$agent" --output 'jsonpath={.metadata.deletionTimestamp}')" ]; }
ended() { is_ending || ! k get "$agent"; }
eventually 180 "the agent on $node to be ended" ended
[ "$(status "etcdb/$name" .phase)" = Running ] || fail "the backup was $(status "etcdb/$name" .phase) before its agent was ended"
"$here/store.sh" thaw
k rollout status daemonset/lifeboat-agent --timeout=180s > /dev/null || fail "agents were not rolled"
measured "all agents rolled" "$((SECONDS - began)) s"
complete "$name" 180
measured "the backup that lost its agent" "complete $((SECONDS - began)) s later, attempt $(status "etcdb/$name" .execution.attempt), on $(status "etcdb/$name" .execution.nodeName) after $node"
next=$(unique after-roll)
backup "$next"
complete "$next" 60
