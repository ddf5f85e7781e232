#!/usr/bin/env bash
# Fails where a generated file that is committed is not what the sources generate.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cargo run -q --locked -p lifeboat-crds --bin crdgen "$tmp"
if ! diff -r "$tmp" charts/lifeboat/templates/crds; then
  echo "the CRDs of the chart are out of date: run 'make gen' and commit" >&2
  exit 1
fi
