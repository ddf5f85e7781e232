#!/usr/bin/env bash
# The object store: versitygw over a directory, with TLS of a CA of its own, on the host's end of the bridge.
#
#   store.sh start | stop        stop keeps what is stored
#   store.sh freeze | thaw       connections stay, nothing is answered
set -euo pipefail
. "$(dirname "$0")/settings.sh"
pid=$store/pid

is_running() { [ -f "$pid" ] && grep -qs versitygw "/proc/$(cat "$pid")/cmdline"; }

start() {
  ! is_running || return 0
  mkdir -p "$store/data/backups"
  if [ ! -e "$store/tls.crt" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=cluster-tier \
      -keyout "$store/ca.key" -out "$store/ca.crt" 2> /dev/null
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=store -keyout "$store/tls.key" -out "$store/tls.csr" 2> /dev/null
    openssl x509 -req -in "$store/tls.csr" -CA "$store/ca.crt" -CAkey "$store/ca.key" -days 3650 -out "$store/tls.crt" \
      -extfile <(echo "subjectAltName=IP:$host") 2> /dev/null
  fi
  ROOT_ACCESS_KEY=cluster ROOT_SECRET_KEY=cluster-tier setsid "$testbed/bin/versitygw" --port "$host:7070" \
    --cert "$store/tls.crt" --key "$store/tls.key" posix "$store/data" > "$store/log" 2>&1 < /dev/null 9>&- &
  echo $! > "$pid"
  for _ in $(seq 100); do
    if curl --silent --output /dev/null --cacert "$store/ca.crt" "https://$host:7070/"; then return 0; fi
    sleep 0.1
  done
  die "the store does not answer: $(tail -3 "$store/log")"
}

stop() {
  # A frozen one would not notice anything less.
  if is_running; then kill -KILL "$(cat "$pid")"; fi
  rm -f "$pid"
}

freeze() { kill -STOP "$(cat "$pid")"; }
thaw() { kill -CONT "$(cat "$pid")"; }

case ${1:-} in
  start | stop | freeze | thaw) "$1" ;;
  *) die "usage: store.sh start|stop|freeze|thaw" ;;
esac
