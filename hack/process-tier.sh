#!/usr/bin/env bash
# The tests against the real components, two programs beside each other: a bed waits most of the time. Prints each program's
# output whole when it ends, so that nothing is mixed; `hack/test.sh` adds the totals up.
#
#   hack/process-tier.sh [PROGRAM…]     all of e2e/tests and of the testbed, or some of e2e/tests
set -uo pipefail
cd "$(dirname "$0")/.."
export LIFEBOAT_BIN_DIR=${LIFEBOAT_BIN_DIR:-$PWD/target/x86_64-unknown-linux-gnu/release}
lanes=${LIFEBOAT_LANES:-2}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# Built once, before anything runs beside it.
cargo test -p lifeboat-testbed -p lifeboat-e2e --locked --no-run || exit 1
# masters_killed, masters_apart and restore_matrix run a build that can be told to kill itself; what ships cannot.
cargo build -p lifeboat-agent --locked || exit 1

programs=("$@")
if [ ${#programs[@]} -eq 0 ]; then
  # The longest first, so that the lanes end together.
  programs=(restore_by_object faults situations retention slow_store ownership restore_matrix masters_coordinated masters_killed masters_by_hand masters_kublr masters_apart masters_reinitialize sick_etcd masters_restore scheduled_backup)
  for file in e2e/tests/*.rs; do
    name=$(basename "$file" .rs)
    [[ " ${programs[*]} " == *" $name "* ]] || programs+=("$name")
  done
  # The testbed's own tests look at what beds leave behind, and so run alone.
  cargo test -p lifeboat-testbed --locked --no-fail-fast -- --test-threads=1 || touch "$logs/failed"
  cargo test -p lifeboat-e2e --locked --lib --bins || touch "$logs/failed"
fi

run() {
  local name=$1 began=$SECONDS
  cargo test -p lifeboat-e2e --locked --test "$name" -- --test-threads=1 > "$logs/$name" 2>&1 || touch "$logs/failed"
  flock "$logs" cat "$logs/$name"
  echo "== $name: $((SECONDS - began)) s"
}
export -f run
export logs
printf '%s\n' "${programs[@]}" | xargs -P "$lanes" -I{} bash -c 'run {}'
[ ! -e "$logs/failed" ]
