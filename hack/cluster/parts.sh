#!/usr/bin/env bash
# What every cluster is made from, made once: the machines' root file system, and archives of the images that kubeadm asks for.
set -euo pipefail
. "$(dirname "$0")/settings.sh"
mkdir -p "$parts"
exec 9> "$parts/.lock"
flock 9

# --- Packages of the host; not among those of hack/install-deps.sh, because nothing else needs them.
missing=()
for package in debootstrap systemd-container; do
  [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

# --- Root file system
packages=(
  systemd systemd-sysv dbus kmod procps                    # a machine
  containerd runc containernetworking-plugins              # its containers
  iproute2 iptables conntrack ethtool socat                # what kubeadm's preflight checks look for
  ca-certificates curl openssl busybox-static              # what journeys look with
)
included=$(IFS=,; echo "${packages[*]}")
if [ "$(cat "$parts/rootfs.packages" 2>/dev/null)" != "$included" ]; then
  say "root file system (once)"
  rm -rf "$parts/rootfs" "$parts/rootfs.packages"
  debootstrap --variant=minbase --include="$included" bookworm "$parts/rootfs" http://deb.debian.org/debian > "$parts/debootstrap.log" 2>&1 ||
    die "debootstrap failed: $(tail -3 "$parts/debootstrap.log")"
  # Packages as they were fetched, and what only people read.
  rm -rf "$parts/rootfs/var/cache/apt/archives"/*.deb "$parts/rootfs/var/lib/apt/lists"/* "$parts/rootfs/usr/share"/{doc,man,locale}
  echo "$included" > "$parts/rootfs.packages"
fi

# --- Images
kubernetes=$(programs_of kubeadm)
etcd=$(readlink -f "$testbed/bin/3.6/etcd")
key=$(cat "$0" <(echo "$kubernetes $etcd") | sha256sum | cut -c1-16)
[ "$(cat "$parts/images.key" 2>/dev/null)" = "$key" ] && exit 0
say "images of Kubernetes and etcd (once)"
rm -rf "$parts/images" "$parts/images.key"
mkdir -p "$parts/images"
work=$(mktemp -d "$parts/.image.XXXXXX")
trap 'rm -rf "$work"' EXIT

# image NAME [ENTRYPOINT]: $work/root as the one layer of an archive that `ctr images import` reads.
image() {
  local name=$1 entrypoint=${2:-} layer config
  tar --create --file "$work/layer.tar" --directory "$work/root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner .
  layer=$(sha256sum < "$work/layer.tar" | cut -d' ' -f1)
  printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/local/bin:/bin"]%s},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
    "${entrypoint:+,\"Entrypoint\":[\"$entrypoint\"]}" "$layer" > "$work/config.json"
  config=$(sha256sum < "$work/config.json" | cut -d' ' -f1)
  mv "$work/config.json" "$work/$config.json"
  printf '[{"Config":"%s.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$config" "$name" > "$work/manifest.json"
  tar --create --file "$parts/images/$(basename "${name%:*}").tar" --directory "$work" manifest.json "$config.json" layer.tar
  rm -rf "${work:?}"/*
}

version=$(kubernetes_version)
for program in kube-apiserver kube-controller-manager kube-scheduler; do
  install -D "$kubernetes/$program" "$work/root/usr/local/bin/$program"
  image "registry.k8s.io/$program:$version"
done
install -D -t "$work/root/usr/local/bin" "$(dirname "$etcd")"/{etcd,etcdctl,etcdutl}
image "registry.k8s.io/etcd:$(etcd_version)-0"

# Holds the namespaces of a pod, and buries what dies in them.
mkdir -p "$work/root"
gcc -O2 -static -s -o "$work/root/pause" -x c - <<'C'
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
static void leave(int s) { (void)s; _exit(0); }
static void bury(int s) { (void)s; while (waitpid(-1, 0, WNOHANG) > 0); }
int main(void) { signal(SIGINT, leave); signal(SIGTERM, leave); signal(SIGCHLD, bury); for (;;) pause(); }
C
pause=$("$testbed/bin/kubeadm" config images list --kubernetes-version "$version" 2>/dev/null | grep /pause:)
echo "$pause" > "$parts/pause.name"
image "$pause" /pause

# What journeys let run as workloads.
install -D "$parts/rootfs/bin/busybox" "$work/root/bin/busybox"
for applet in sh sleep cat ls date; do ln -s busybox "$work/root/bin/$applet"; done
image registry.example.org/lifeboat/workload:1
echo "$key" > "$parts/images.key"
