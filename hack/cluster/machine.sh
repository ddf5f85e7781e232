#!/usr/bin/env bash
# One machine: its network, its disks, its processes.
#
#   machine.sh start MACHINE     boots it; a machine that was stopped goes on with its disks
#   machine.sh stop MACHINE      as if its power were cut; the disks stay
set -euo pipefail
. "$(dirname "$0")/settings.sh"
machine=$2
disk=$disks/$machine
name=$(outer_name "$machine")

# The machine's cgroups, wherever an earlier shell had its own.
cgroups() { find /sys/fs/cgroup -type d -name "$name" -prune; }

# enter_cgroups: makes them below this shell's own cgroup in each hierarchy, and moves the shell there. systemd-nspawn then makes them the roots
# of what the machine sees, so that kubelets do not get in each other's way, nor in that of the host.
enter_cgroups() {
  local hierarchy path mount group
  while IFS=: read -r _ hierarchy path; do
    case $hierarchy in '') mount=unified ;; name=*) mount=${hierarchy#name=} ;; *) mount=$hierarchy ;; esac
    [ -d "/sys/fs/cgroup/$mount" ] || continue
    group=/sys/fs/cgroup/$mount${path%/}/$name
    mkdir -p "$group"
    # A new cpuset is empty, and takes no process.
    if [ -e "$group/cpuset.cpus" ]; then
      cat "$group/../cpuset.cpus" > "$group/cpuset.cpus"
      cat "$group/../cpuset.mems" > "$group/cpuset.mems"
    fi
    echo "$BASHPID" > "$group/cgroup.procs"
  done < <(tac "/proc/$BASHPID/cgroup")
}

make_network() {
  local wire other
  wire=$(wire_of "$machine")
  ip netns add "$name"
  ip link add "$wire" type veth peer name eth0 netns "$name"
  ip link set "$wire" master "$bridge" up
  ip -n "$name" link set lo up
  ip -n "$name" address add "$(address_of "$machine")/24" dev eth0
  ip -n "$name" link set eth0 up
  ip -n "$name" route add default via "$host"
  for other in "${machines[@]}"; do
    [ "$other" = "$machine" ] || ip -n "$name" route add "$(pods_of "$other")" via "$(address_of "$other")"
  done
  ip netns exec "$name" sysctl -qw net.ipv4.ip_forward=1
}

start() {
  [ -z "$(leader_of "$machine")" ] || return 0
  mkdir -p "$disk"/{upper,work,root,containerd,kubelet,etcd,lifeboat}
  if [ ! -e "$disk/upper/etc/hostname" ]; then "$(dirname "$0")/files.sh" "$machine"; fi
  mountpoint -q "$disk/root" || mount -t overlay "$name" -o "lowerdir=$parts/rootfs,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
  [ -e "/run/netns/$name" ] || make_network
  (
    exec 9>&-
    enter_cgroups
    # The snapshotter of containerd wants no overlay below it, and etcd's files no copy on write: ext4 for these.
    exec env SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=0 SYSTEMD_NSPAWN_API_VFS_WRITABLE=network \
      setsid systemd-nspawn --quiet --register=no --keep-unit --boot \
      --directory="$disk/root" --machine="$name" --hostname="$machine" --network-namespace-path="/run/netns/$name" \
      --capability=all --system-call-filter='@keyring bpf perf_event_open' --resolv-conf=off --link-journal=no \
      --bind="$disk/containerd:/var/lib/containerd" --bind="$disk/kubelet:/var/lib/kubelet" \
      --bind="$disk/etcd:/var/lib/etcd" --bind="$disk/lifeboat:/var/lib/lifeboat" \
      --bind-ro="$(programs_of kubeadm):/usr/local/bin" --bind-ro="$parts/images:/run/images/kubernetes" \
      --bind-ro="$images:/run/images/lifeboat" < /dev/null > "$disk/console.log" 2>&1
  ) &
  local nspawn=$! child
  for _ in $(seq 300); do
    [ -d "/proc/$nspawn" ] || die "$machine did not start: $(tail -3 "$disk/console.log")"
    child=$(pgrep --parent "$nspawn" --exact systemd || true)
    if [ -n "$child" ]; then
      echo "$child" > "$disk/leader"
      within "$machine" systemctl is-active --quiet containerd 2> /dev/null && return 0
    fi
    sleep 0.1
  done
  die "$machine has no containerd after half a minute: see $disk/console.log"
}

stop() {
  local group left
  # Killed over and over, for a container may be about to be born.
  for _ in $(seq 100); do
    left=$(for group in $(cgroups); do find "$group" -name cgroup.procs -exec cat {} + 2> /dev/null; done | sort -u)
    [ -n "$left" ] || break
    # shellcheck disable=SC2086 # process ids
    kill -KILL $left 2> /dev/null || true
    sleep 0.1
  done
  [ -z "$left" ] || die "$machine: processes that cannot be killed: $left"
  rm -f "$disk/leader"
  for group in $(cgroups); do find "$group" -depth -type d -exec rmdir {} +; done
  if mountpoint -q "$disk/root"; then umount "$disk/root"; fi
  if [ -e "/run/netns/$name" ]; then ip netns delete "$name"; fi
  # Gone with the namespace, but not at once.
  ip link delete "$(wire_of "$machine")" 2> /dev/null || true
}

case $1 in
  start | stop) "$1" ;;
  *) die "usage: machine.sh start|stop MACHINE" ;;
esac
