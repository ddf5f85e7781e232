#!/usr/bin/env bash
# Lints and renders both charts with the helm of the testbed.
set -euo pipefail
cd "$(dirname "$0")/.."
helm=target/testbed/bin/helm
for values in charts/lifeboat-backups/ci/*.yaml; do
  "$helm" lint --quiet --strict charts/lifeboat-backups -f "$values"
  "$helm" template backups charts/lifeboat-backups -n lifeboat -f "$values" > /dev/null
done
"$helm" lint --quiet --strict charts/lifeboat
"$helm" template lifeboat charts/lifeboat -n lifeboat > /dev/null
"$helm" template other charts/lifeboat -n other > /dev/null
echo "charts: linted and rendered"
