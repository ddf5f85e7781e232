#!/usr/bin/env bash
# Everything that is tested, in the order that fails fastest, with totals at the end. Called by `make test`.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed_stages=()
start=$SECONDS

# stage NAME COMMAND…: runs a command, keeps its output for the totals, remembers whether it failed.
stage() {
  local name=$1 began=$SECONDS
  shift
  echo "== $name"
  if "$@" 2>&1 | tee -a "$log"; then
    echo "== $name: ok, $((SECONDS - began)) s"
  else
    echo "== $name: FAILED, $((SECONDS - began)) s"
    failed_stages+=("$name")
  fi
}

# must NAME COMMAND…: as stage; without it nothing after it makes sense.
must() {
  stage "$@"
  if [ ${#failed_stages[@]} -gt 0 ]; then
    echo "stopped: $1 failed" >&2
    exit 1
  fi
}

must "system packages" hack/install-deps.sh
must "real components" hack/build-tools.sh
stage "formatting" cargo fmt --all -- --check
stage "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
stage "generated files are current" hack/generated.sh
stage "charts" hack/charts.sh
# Not among the packages of the toolchain, and minutes to build: where somebody has it, it is asked.
if command -v cargo-deny > /dev/null; then
  stage "licences and sources of dependencies" make -s deny
else
  echo "== licences and sources of dependencies: left out, cargo-deny is not installed (cargo install cargo-deny --locked)"
fi
must "static binaries" make -s dist
stage "image archives are reproducible" hack/images.sh --check
# Everything but the process tier, the S3 conformance suite against a real server included.
stage "unit and component tests" cargo test --workspace --exclude lifeboat-e2e --exclude lifeboat-testbed --locked --no-fail-fast
stage "process tier" hack/process-tier.sh

# cargo test prints one line a test program: "test result: ok. 12 passed; 0 failed; 1 ignored; …"
totals=$(awk '/^test result:/ {for (i = 1; i <= NF; i++) {if ($(i+1) ~ /^passed/) p += $i; if ($(i+1) ~ /^failed/) f += $i; if ($(i+1) ~ /^ignored/) s += $i}} END {printf "%d passed, %d failed, %d skipped", p, f, s}' "$log")
echo
echo "took $((SECONDS - start)) s"
[ ${#failed_stages[@]} -eq 0 ] || printf 'failed stage: %s\n' "${failed_stages[@]}"
echo "$totals"
[ ${#failed_stages[@]} -eq 0 ]
