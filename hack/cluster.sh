#!/usr/bin/env bash
# The cluster tier: three masters that kubeadm set up, with systemd, kubelet, containerd and etcd as a static pod, as machines of
# systemd-nspawn on this host (docs/testing.md). Called by `make cluster-up`, `cluster-down` and `cluster-test`; needs root.
#
#   hack/cluster.sh up                  what is missing is built; leaves three Ready masters and prints how to reach them
#   hack/cluster.sh install             Lifeboat and a schedule, by Helm
#   hack/cluster.sh test [JOURNEY…]     a new cluster, Lifeboat, and the journeys of hack/cluster/journeys, all of them or these
#   hack/cluster.sh journey [JOURNEY…]  the same on the cluster that is there
#   hack/cluster.sh load                Lifeboat's images as they are by now, into the cluster that is there
#   hack/cluster.sh in MACHINE COMMAND… runs a command in a machine
#   hack/cluster.sh down                ends it and removes all but what the next one is made from
#
# LIFEBOAT_TESTBED    where hack/build-tools.sh puts its programs; the cluster lives beside them. Default: target/testbed
# LIFEBOAT_IMAGES     where hack/images.sh put Lifeboat's images. Default: target/images
set -euo pipefail
here=$(cd "$(dirname "$0")/cluster" && pwd)
. "$here/settings.sh"

is_up() { [ -e "$kubeconfig" ] && for machine in "${machines[@]}"; do [ -n "$(leader_of "$machine")" ] || return 1; done; }

# everywhere COMMAND…: on all machines at once.
everywhere() {
  local machine pids=() pid
  for machine in "${machines[@]}"; do "$@" "$machine" & pids+=($!); done
  for pid in "${pids[@]}"; do wait "$pid"; done
}

# import WHOSE MACHINE: lifeboat or kubernetes, as the machine sees their archives.
import() {
  within "$2" sh -c 'for archive in /run/images/'"$1"'/*.tar; do ctr --namespace k8s.io images import "$archive" > /dev/null || exit 1; done'
}

# load: images of Lifeboat that were built anew, into machines that run.
load() {
  everywhere import lifeboat
  kubectl --namespace $namespace rollout restart daemonset/lifeboat-agent deployment/lifeboat-operator
  kubectl --namespace $namespace rollout status daemonset/lifeboat-agent --timeout=180s
  kubectl --namespace $namespace rollout status deployment/lifeboat-operator --timeout=180s
}

# kubeadm_on MACHINE ARGS…: its words are kept, and shown where it fails.
kubeadm_on() {
  local log=$disks/$1/kubeadm.log
  within "$1" kubeadm "${@:2}" --config /etc/kubeadm/config.yaml > "$log" 2>&1 || { tail -40 "$log" >&2; die "kubeadm ${*:2} failed on $1"; }
}

up() {
  local began=$SECONDS machine
  [ "$(id -u)" = 0 ] || die "machines need root"
  if is_up; then say "the cluster is up already"; reach; return; fi
  # One controller stands for all.
  [ -d /sys/fs/cgroup/memory ] || die "this host has no controllers of cgroup v1; the tier was never made to work without"
  ls "$images"/lifeboat-{operator,agent}-*.tar > /dev/null || die "no images of Lifeboat in $images: run \`make images\`"
  "$here/parts.sh"
  down
  began=$SECONDS
  ip link add "$bridge" type bridge
  ip address add "$host/24" dev "$bridge"
  ip link set "$bridge" up
  "$here/store.sh" start
  everywhere "$here/machine.sh" start
  say "machines run, $((SECONDS - began)) s"
  everywhere import kubernetes
  everywhere import lifeboat
  say "images are there, $((SECONDS - began)) s"
  kubeadm_on "${machines[0]}" init --upload-certs --skip-phases=addon
  say "${machines[0]} is a control plane, $((SECONDS - began)) s"
  for machine in "${machines[@]:1}"; do
    kubeadm_on "$machine" join
    say "$machine joined, $((SECONDS - began)) s"
  done
  for machine in "${machines[@]}"; do within "$machine" sed -i "s/^.* control-plane\$/$(address_of "$machine") control-plane/" /etc/hosts; done
  sed "s#https://control-plane:6443#https://$(address_of "${machines[0]}"):6443#" "$disks/${machines[0]}/upper/etc/kubernetes/admin.conf" > "$kubeconfig.new"
  mv "$kubeconfig.new" "$kubeconfig"
  chmod 600 "$kubeconfig"
  kubectl wait --for=condition=Ready node --all --timeout=120s > /dev/null
  say "three masters are Ready, $((SECONDS - began)) s"
  reach
}

reach() {
  cat <<TEXT

  export KUBECONFIG=$kubeconfig PATH=$testbed/bin:\$PATH
  hack/cluster.sh install                          # Lifeboat, by Helm
  hack/cluster.sh in ${machines[0]} journalctl -u kubelet   # look into a machine

End it with: make cluster-down
TEXT
}

down() {
  local machine
  for machine in "${machines[@]}"; do "$here/machine.sh" stop "$machine"; done
  "$here/store.sh" stop
  ip link delete "$bridge" 2> /dev/null || true
  rm -rf "$disks" "$store" "$kubeconfig" "$kubeconfig.new"
}

case ${1:-} in
  up | down | load) "$1" ;;
  install) "$here/install.sh" ;;
  in) within "${@:2}" ;;
  test | journey) "$here/test.sh" "$@" ;;
  *) sed -n '/^#   hack/s/^# //p' "$0" >&2; exit 2 ;;
esac
