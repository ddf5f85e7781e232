#!/usr/bin/env bash
# Prints the path of promtool, which checks the chart's alerts. Taken out of Debian's package without installing that:
# an installed one would start a Prometheus.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$PWD/target/testbed/promtool
if [ ! -x "$dir/usr/bin/promtool" ]; then
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  # The sandbox user of apt cannot write into a directory of ours.
  (cd "$work" && apt-get -o APT::Sandbox::User=root download -qq prometheus >&2) ||
    { apt-get update -qq >&2 && (cd "$work" && apt-get -o APT::Sandbox::User=root download -qq prometheus >&2); }
  mkdir -p "$dir"
  dpkg -x "$work"/prometheus_*.deb "$dir"
  find "$dir" -mindepth 1 -not -path "$dir/usr*" -delete
  find "$dir/usr/bin" -type f -not -name promtool -delete
fi
echo "$dir/usr/bin/promtool"
