#!/usr/bin/env bash
# An upgrade rolls all; an uninstall leaves the CRDs, the records and the archives, and the next installation finds them.
. "$(dirname "$0")/../journey.sh"
began=$SECONDS
helm upgrade lifeboat "$root/charts/lifeboat" --namespace $namespace --reuse-values --set log.level=debug --wait --timeout 240s > /dev/null ||
  fail "no upgrade"
measured "upgraded" "$((SECONDS - began)) s"
for pods in daemonset/lifeboat-agent deployment/lifeboat-operator; do
  k get $pods --output yaml | grep -A1 LIFEBOAT_LOG_LEVEL | grep -q debug || fail "$pods has the old value"
done
name=$(unique upgraded)
backup "$name"
complete "$name" 60

# The schedule first, so that nothing is made or deleted between the counts and the end.
helm uninstall backups --namespace $namespace --wait > /dev/null || fail "the schedule cannot be uninstalled"
is_quiet() { ! k get etcdb --output 'jsonpath={.items[*].status.phase}' | grep -qwE 'Pending|Running|Deleting'; }
eventually 60 "no backup to be under way" is_quiet
records() { k get etcdb --output 'jsonpath={range .items[*]}{.metadata.name} {.metadata.uid}{"\n"}{end}' | sort; }
archives() { find "$store/data/backups" -name manifest.json | sort; }
records_before=$(records)
archives_before=$(archives)
helm uninstall lifeboat --namespace $namespace --wait > /dev/null || fail "Lifeboat cannot be uninstalled"
gone() { [ -z "$(k get pods --output name)" ]; }
eventually 90 "all pods to be gone" gone
[ "$(kubectl get crd --output name | grep -c etcd.lifeboat.dev)" = 5 ] || fail "CRDs are gone"
[ "$(records)" = "$records_before" ] || fail "records are gone: $(diff <(echo "$records_before") <(records))"
[ "$(archives)" = "$archives_before" ] || fail "archives are gone: $(diff <(echo "$archives_before") <(archives))"
left=$(kubectl get validatingadmissionpolicy,clusterrole --output name | grep lifeboat || true)
[ -z "$left" ] || fail "left behind: $left"
measured "kept" "$(wc -l <<< "$records_before") records, $(wc -l <<< "$archives_before") archives"

"$here/install.sh"
[ -z "$(comm -23 <(echo "$records_before") <(records))" ] || fail "records did not survive the installation: $(comm -23 <(echo "$records_before") <(records))"
name=$(unique again)
backup "$name"
complete "$name" 60
