#!/usr/bin/env bash
# Makes the snapshots of this directory with real etcd, and what etcdutl says of them. Usage: make.sh BIN-DIR (with
# <line>/etcd …, as target/testbed/bin). Run by hand; the results are committed, so that unit tests need no etcd.
set -euo pipefail
bin=$(realpath "$1")
cd "$(dirname "$0")"
for line in 3.5 3.6 3.7; do
  work=$(mktemp -d)
  url=http://127.0.0.1:32379
  "$bin/$line/etcd" --data-dir "$work/data" --listen-client-urls $url --advertise-client-urls $url \
    --listen-peer-urls http://127.0.0.1:32380 --initial-advertise-peer-urls http://127.0.0.1:32380 \
    --initial-cluster default=http://127.0.0.1:32380 --log-level error &
  pid=$!
  trap 'kill $pid' EXIT
  ctl() { "$bin/$line/etcdctl" --endpoints $url "$@" > /dev/null; }
  for _ in $(seq 100); do ctl endpoint health 2> /dev/null && break; sleep 0.1; done
  ctl snapshot save "$work/fresh.db"
  for round in 1 2 3; do for key in $(seq 60); do ctl put "/registry/pods/p$key" "round $round of key $key"; done; done
  head -c 40000 /dev/zero | tr '\0' x | ctl put /registry/large
  ctl lease grant 3600
  for key in $(seq 10); do ctl del "/registry/pods/p$key"; done
  ctl compact 100
  for key in $(seq 20 30); do ctl put "/registry/pods/p$key" after; done
  # Compaction runs in the background and is over within moments; its end is a revision in bucket meta.
  for _ in $(seq 50); do
    ctl snapshot save "$work/used.db"
    strings "$work/used.db" | grep -q finishedCompactRev && break
    rm "$work/used.db"; sleep 0.1
  done
  for name in fresh used; do
    zstd -19 -q -f "$work/$name.db" -o "etcd-$line-$name.db.zst"
    # The etcdutl of 3.5 counts entries of every bucket as TOTAL KEYS; from 3.6 on it counts user keys that are alive.
    "$bin/3.5/etcdutl" snapshot status "$work/$name.db" -w json > "etcd-$line-$name.json"
  done
  kill $pid; wait $pid || true
  trap - EXIT
  rm -rf "$work"
done
