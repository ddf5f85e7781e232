#!/usr/bin/env bash
# The operator that leads goes away: another one leads, and schedules go on.
. "$(dirname "$0")/../journey.sh"
old=$(leading)
[ -n "$old" ] || fail "no operator leads"
began=$SECONDS
k delete pod "$old" --wait=false > /dev/null
has_moved() { local now; now=$(leading) && [ -n "$now" ] && [ "$now" != "$old" ]; }
eventually 60 "another operator to lead" has_moved
measured "another operator leads" "after $((SECONDS - began)) s"
runs() { k get etcdb --selector "etcd.lifeboat.dev/schedule=$schedule" --field-selector status.phase=Complete --output name | sort; }
before=$(runs)
k annotate etcdbs $schedule "etcd.lifeboat.dev/run-now=$(date +%s)" --overwrite > /dev/null
has_run() { [ -n "$(comm -13 <(echo "$before") <(runs))" ]; }
eventually 60 "a run of the schedule under the new operator" has_run
measured "a run of the schedule" "complete $((SECONDS - began)) s after the deletion"
k rollout status deployment/lifeboat-operator --timeout=60s > /dev/null || fail "the operator that was deleted has no successor"
