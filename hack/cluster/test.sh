#!/usr/bin/env bash
# test.sh test [JOURNEY…]      a new cluster with Lifeboat on it, then the journeys; ends the cluster where all went well
# test.sh journey [JOURNEY…]   the journeys on the cluster that is there
#
# A journey is a file of journeys/: it finds Lifeboat installed with a good backup, leaves it so, prints what it measured, and fails
# with words. They run one after the other in the order of their names; those after one that failed run all the same.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"
what=$1
shift
[ $# -gt 0 ] || for file in "$here"/journeys/*.sh; do set -- "$@" "$(basename "$file" .sh)"; done
for name in "$@"; do [ -f "$here/journeys/$name.sh" ] || die "no journey $name (have: $(cd "$here/journeys" && echo *.sh))"; done
began=$SECONDS

if [ "$what" = test ]; then
  "$here/../cluster.sh" down
  "$here/../cluster.sh" up
  "$here/install.sh"
fi

failed=()
for name in "$@"; do
  echo "== $name"
  at=$SECONDS
  if "$here/journeys/$name.sh"; then echo "== $name: ok, $((SECONDS - at)) s"; else
    echo "== $name: FAILED, $((SECONDS - at)) s"
    failed+=("$name")
  fi
done
echo "$(($# - ${#failed[@]})) journeys went well, ${#failed[@]} failed; took $((SECONDS - began)) s"
if [ ${#failed[@]} -gt 0 ]; then
  [ "$what" = journey ] || echo "the cluster is still there: KUBECONFIG=$kubeconfig; end it with make cluster-down" >&2
  exit 1
fi
[ "$what" = journey ] || "$here/../cluster.sh" down
