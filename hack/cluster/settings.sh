# shellcheck shell=bash disable=SC2034 # read by the others
# Names, addresses and places of the cluster tier, and how its machines and its API are spoken to. Does nothing by itself.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
testbed=${LIFEBOAT_TESTBED:-$root/target/testbed}
images=${LIFEBOAT_IMAGES:-$root/target/images}
# parts/ is kept from one cluster to the next; all else goes with `down`.
cluster=$testbed/cluster
parts=$cluster/parts
disks=$cluster/machines
store=$cluster/store
kubeconfig=$cluster/kubeconfig

machines=(master-0 master-1 master-2)
bridge=lifeboat-br0
# 10.123.0 to .9 are what the process tier leaves free.
network=10.123.0
host=$network.1
service_address=10.96.0.1
namespace=lifeboat

say() { printf '%s %s\n' "$(date +%T)" "$*"; }
die() { echo "cluster: $*" >&2; exit 1; }

address_of() { echo "$network.1${1##*-}"; }
pods_of() { echo "10.244.${1##*-}.0/24"; }
# On the host: its network namespace, its cgroups, its name for systemd-nspawn. An interface has room for 15 characters.
outer_name() { echo "lifeboat-$1"; }
wire_of() { echo "lifeboat-m${1##*-}"; }

# The built programs, where they really are: links would lead nowhere in a machine.
programs_of() { dirname "$(readlink -f "$testbed/bin/$1")"; }
kubernetes_version() { "$testbed/bin/kubeadm" version -o short; }
etcd_version() { "$testbed/bin/3.6/etcd" --version | sed -n 's/^etcd Version: //p'; }

# leader_of MACHINE: the host's process id of its PID 1; nothing where it does not run.
leader_of() {
  local pid
  pid=$(cat "$disks/$1/leader" 2>/dev/null) || return 0
  if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = systemd ]; then echo "$pid"; fi
}

# within MACHINE COMMAND…: runs it there.
within() {
  local leader
  leader=$(leader_of "$1")
  [ -n "$leader" ] || die "$1 is not running"
  nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup -- "${@:2}"
}

kubectl() { KUBECONFIG=$kubeconfig "$testbed/bin/kubectl" "$@"; }
helm() { KUBECONFIG=$kubeconfig "$testbed/bin/helm" "$@"; }
