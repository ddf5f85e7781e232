#!/usr/bin/env bash
# A backup that is ordered is complete soon, and etcd's own tool reads in it what its status says.
. "$(dirname "$0")/../journey.sh"
name=$(unique by-hand)
began=$SECONDS
backup "$name"
complete "$name" 60
measured "a backup by hand" "$((SECONDS - began)) s"

archive=$(status "etcdb/$name" .archive)
directory=$store/data/${archive#s3://}
directory=${directory%/*}
snapshot=$(mktemp)
trap 'rm -f "$snapshot"' EXIT
zstd --decompress --quiet --force "$directory"/snapshot-* -o "$snapshot" || fail "no snapshot in $directory"
revision=$("$testbed/bin/etcdutl" snapshot status "$snapshot" --write-out json | grep -o '"revision":[0-9]*')
[ "$revision" = "\"revision\":$(status "etcdb/$name" .revision)" ] || fail "etcdutl says $revision, the status $(status "etcdb/$name" .revision)"
