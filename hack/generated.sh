#!/usr/bin/env bash
# Fails where a generated file that is committed is not what the sources generate.
set -euo pipefail
cd "$(dirname "$0")/.."
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
mkdir "$tmp/crds" "$tmp/reference"
cargo run -q --locked -p lifeboat-crds --bin crdgen "$tmp/crds" "$tmp/reference"
# Pages written by hand stand beside the generated ones in docs/reference.
current=yes
diff -r "$tmp/crds" charts/lifeboat/templates/crds || current=no
for page in "$tmp"/reference/*; do
  diff "$page" "docs/reference/$(basename "$page")" || current=no
done
if [ "$current" = no ]; then
  echo "generated files are out of date: run 'make gen' and commit" >&2
  exit 1
fi
echo "generated files: current"
