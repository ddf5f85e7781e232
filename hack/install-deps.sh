#!/usr/bin/env bash
# Installs the Debian packages that building and testing need. Says nothing, and needs no network, when all are there.
set -euo pipefail
packages=(
  ca-certificates gcc libc6-dev make git pkg-config   # building
  protobuf-compiler libprotobuf-dev                   # etcd-client's build; the second holds the well-known types
  iproute2 util-linux openssl iptables curl           # testbed: namespaces, wires, the store's certificates, faults
  zstd age s3cmd                                      # what a human fetches, decompresses and decrypts backups with
)
missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
