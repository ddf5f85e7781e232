#!/usr/bin/env bash
# Makes the snapshots of this directory with real etcd, and what etcdutl says of them. Usage: make.sh BIN-DIR [NAME …]
# (BIN-DIR with <line>/etcd …, as target/testbed/bin; NAME of README.md, all by default). Run by hand; the results are
# committed, so that unit tests need no etcd.
set -euo pipefail
bin=$(realpath "$1")
shift
cd "$(dirname "$0")"
wanted=${*:-fresh used small large deep fragmented interrupted}
url=http://127.0.0.1:32379

errors=$(mktemp)

wants() { [[ " $wanted " == *" $1 "* ]]; }
ctl() { "$bin/$line/etcdctl" --endpoints $url "$@" > /dev/null 2> "$errors" || { cat "$errors" >&2; return 1; }; }

start() { # further flags of etcd
  work=$(mktemp -d)
  "$bin/$line/etcd" --data-dir "$work/data" --listen-client-urls $url --advertise-client-urls $url \
    --listen-peer-urls http://127.0.0.1:32380 --initial-advertise-peer-urls http://127.0.0.1:32380 \
    --initial-cluster default=http://127.0.0.1:32380 --log-level error "$@" &
  pid=$!
  trap 'kill $pid' EXIT
  for _ in $(seq 100); do ctl endpoint health && break; sleep 0.1; done
}

stop() {
  kill $pid; wait $pid || true
  trap - EXIT
  rm -rf "$work"
}

keep() { # name
  zstd -19 -q -f "$work/$1.db" -o "etcd-$line-$1.db.zst"
  chmod 644 "etcd-$line-$1.db.zst"
  # The etcdutl of 3.5 counts entries of every bucket as TOTAL KEYS; from 3.6 on it counts user keys that are alive.
  "$bin/3.5/etcdutl" snapshot status "$work/$1.db" -w json > "etcd-$line-$1.json"
}

# Compaction runs in the background and is over within moments; its end is a revision in bucket meta.
save_compacted() { # name
  for _ in $(seq 50); do
    ctl snapshot save "$work/$1.db"
    grep -aq finishedCompactRev "$work/$1.db" && return
    rm "$work/$1.db"; sleep 0.1
  done
  return 1
}

# Operations from stdin, a hundred a transaction: one main revision, many subs.
in_transactions() { split -l 100 --filter="(echo; cat; echo; echo) | '$bin/$line/etcdctl' --endpoints $url txn > /dev/null"; }

make_fresh_and_used() {
  start
  ctl snapshot save "$work/fresh.db"
  for round in 1 2 3; do for key in $(seq 60); do ctl put "/registry/pods/p$key" "round $round of key $key"; done; done
  head -c 40000 /dev/zero | tr '\0' x | ctl put /registry/large
  ctl lease grant 3600
  for key in $(seq 10); do ctl del "/registry/pods/p$key"; done
  ctl compact 100
  for key in $(seq 20 30); do ctl put "/registry/pods/p$key" after; done
  save_compacted used
  keep fresh
  keep used
  stop
}

# Values of megabytes beside small ones, rewritten, so that new nodes begin within the span of stale headers; leases with
# and without keys; users, one with a name that looks like a revision; an alarm.
make_large() {
  start --quota-backend-bytes 8000000
  for round in 1 2; do
    for size in 1400000 700000 9000; do
      head -c $size /dev/zero | tr '\0' "$round" | ctl put "/large/$size"
      ctl put "/small/$round-$size" "beside $size"
    done
  done
  lease=$("$bin/$line/etcdctl" --endpoints $url lease grant 3600 | cut -d' ' -f2)
  ctl lease grant 7200
  ctl put --lease "$lease" /leased value
  ctl del /large/700000
  ctl compact 8
  for user in username_12345678 root other; do ctl user add "$user" --no-password; done
  ctl role add root
  ctl role grant-permission root readwrite /large/ --prefix
  ctl user grant-role root root
  # Until the quota is met: an alarm.
  for round in 3 4 5 6 7; do head -c 1200000 /dev/zero | tr '\0' "$round" | ctl put /large/again || break; done
  save_compacted large
  keep large
  stop
}

# Trees of three levels, then nearly all of it deleted and compacted, never defragmented.
make_deep_and_fragmented() {
  start
  value=$(head -c 700 /dev/zero | tr '\0' v)
  for key in $(seq 6000); do echo "put /registry/events/e$key \"$value $key\""; done | in_transactions
  head -c 300000 /dev/zero | tr '\0' y | ctl put /registry/overflow
  ctl snapshot save "$work/deep.db"
  for key in $(seq 6000); do [ $((key % 97)) = 0 ] || echo "del /registry/events/e$key"; done | in_transactions
  ctl del /registry/overflow
  ctl compact 122
  for key in $(seq 40); do ctl put "/registry/leases/l$key" "after $key"; done
  save_compacted fragmented
  keep deep
  keep fragmented
  stop
}

# As few bytes as a tree with a branch, tombstones, a compaction, leases and users can have: every bit is flipped.
make_small() {
  start
  for key in $(seq 9); do ctl put "/registry/pods/p$key" "$(head -c 500 /dev/zero | tr '\0' "$key")"; done
  lease=$("$bin/$line/etcdctl" --endpoints $url lease grant 3600 | cut -d' ' -f2)
  for key in 1 2 3; do ctl del "/registry/pods/p$key"; done
  ctl compact 12
  ctl put --lease "$lease" /leased value
  ctl user add username_12345678 --no-password
  for key in 4 5; do ctl del "/registry/pods/p$key"; done
  save_compacted small
  keep small
  stop
}

# A compaction that was begun and takes its time: batches of 20 with half a minute between.
make_interrupted() {
  if [ "$line" = 3.5 ]; then experimental=experimental-; else experimental=; fi
  start "--${experimental}compaction-batch-limit" 20 "--${experimental}compaction-sleep-interval" 30s
  for round in 1 2 3; do for key in $(seq 40); do echo "put /registry/pods/p$key \"round $round of key $key\""; done; done |
    split -l 5 --filter="(echo; cat; echo; echo) | '$bin/$line/etcdctl' --endpoints $url txn > /dev/null"
  for key in $(seq 5); do ctl del "/registry/pods/p$key"; done
  ctl compact 28
  ctl put /registry/pods/p7 after
  sleep 1
  ctl snapshot save "$work/interrupted.db"
  grep -aq scheduledCompactRev "$work/interrupted.db"
  keep interrupted
  stop
}

for line in 3.5 3.6 3.7; do
  if wants fresh || wants used; then make_fresh_and_used; fi
  if wants large; then make_large; fi
  if wants small; then make_small; fi
  if wants deep || wants fragmented; then make_deep_and_fragmented; fi
  if wants interrupted; then make_interrupted; fi
done
