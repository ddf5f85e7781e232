#!/usr/bin/env bash
# The demo: `hack/demo.sh up` builds what is missing, brings up a real control plane with Lifeboat and leaves it
# running; `hack/demo.sh down` ends it. Called by `make demo` and `make demo-down`.
set -euo pipefail
cd "$(dirname "$0")/.."
demo=$PWD/target/demo
pidfile=$demo/pid

# The recorded process, if it is still the demo (a pid alone may belong to somebody else by now).
running() { [ -f "$pidfile" ] && grep -qs lifeboat-demo "/proc/$(cat "$pidfile")/cmdline"; }

down() {
  if running; then
    local pid
    pid=$(cat "$pidfile")
    kill -TERM "$pid"
    for _ in $(seq 300); do [ -e "/proc/$pid" ] || break; sleep 0.1; done
    if [ -e "/proc/$pid" ]; then kill -KILL "$pid"; fi
    echo "the demo has ended"
  else
    echo "no demo is running"
  fi
  rm -rf "$demo"
}

up() {
  [ "$(id -u)" = 0 ] || { echo "the demo makes network namespaces: run it as root" >&2; exit 1; }
  if running; then echo "a demo is running already; end it with: make demo-down" >&2; exit 1; fi
  rm -rf "$demo"
  hack/install-deps.sh
  hack/build-tools.sh versitygw etcd-3.6 kubernetes helm
  make -s dist
  cargo build -q --locked -p lifeboat-e2e --bin lifeboat-demo
  mkdir -p "$demo"
  setsid nohup target/debug/lifeboat-demo --dir "$demo" --manifests "$demo/manifests" > "$demo/log" 2>&1 < /dev/null &
  echo $! > "$pidfile"
  local shown=0 lines
  for _ in $(seq 1200); do
    lines=$(wc -l < "$demo/log")
    if [ "$lines" -gt "$shown" ]; then tail -n +$((shown + 1)) "$demo/log" | grep -E '^[a-z]' || true; shown=$lines; fi
    [ -e "$demo/ready" ] && break
    if ! running; then
      echo "the demo ended early; the end of $demo/log:" >&2
      tail -40 "$demo/log" >&2
      exit 1
    fi
    sleep 0.1
  done
  [ -e "$demo/ready" ] || { echo "the demo is not up after two minutes; see $demo/log" >&2; exit 1; }
  cat <<TEXT

A control plane with three etcd members and an S3 server is running, and Lifeboat backs it up every minute.

  export KUBECONFIG=$demo/kubeconfig PATH=$PWD/target/testbed/bin:\$PATH

  kubectl get etcdbs,etcdb,etcdbl,etcdm          # schedules, backups, locations, members
  kubectl get etcdb --watch                      # a verified backup every minute
  kubectl annotate etcdbs every-minute etcd.lifeboat.dev/run-now=\$(date +%s) --overwrite
  kubectl describe etcdb                         # what happened, with events
  cat $demo/manifests/schedule.yaml              # what was applied

End it with: make demo-down
TEXT
}

case ${1:-} in
  up | down) "$1" ;;
  *) echo "usage: hack/demo.sh up|down" >&2; exit 2 ;;
esac
