#!/usr/bin/env bash
# Fails where a generated file that is committed is not what the sources generate.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/crds" "$tmp/reference"
cargo run -q --locked -p lifeboat-crds --bin crdgen "$tmp/crds" "$tmp/reference"
if ! diff -r "$tmp/crds" charts/lifeboat/templates/crds || ! diff -r "$tmp/reference" docs/reference; then
  echo "generated files are out of date: run 'make gen' and commit" >&2
  exit 1
fi
echo "generated files: current"
