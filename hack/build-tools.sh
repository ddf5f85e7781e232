#!/usr/bin/env bash
# Builds the real components that tests run against, from the Go modules pinned in e2e/testbed/tools.
#
#   hack/build-tools.sh [MODULE…]     default: all of them
#
# Each module's binaries go to target/testbed/store/<module>-<hash of go.mod and go.sum>/ and are built once;
# links in target/testbed/bin point at the current ones. The binaries of an etcd line are also found as
# target/testbed/bin/<line>/etcd, so that several lines stand side by side. Runs may overlap: a lock per module.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tools=$root/e2e/testbed/tools
out=${LIFEBOAT_TESTBED:-$root/target/testbed}
mkdir -p "$out/store" "$out/bin"

kube_stamp() {
  local v=v1.35.4 p
  for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf -- '-X %s.gitVersion=%s -X %s.gitMajor=1 -X %s.gitMinor=35 -X %s.gitTreeState=clean ' "$p" "$v" "$p" "$p" "$p"
  done
}

# build_one MODULE: compiles every tool of the module's go.mod into the store, unless it is there already.
build_one() {
  local module=$1 dir=$tools/$1 key dest tmp ldflags="-s -w" name pkg
  key=$(cat "$dir/go.mod" "$dir/go.sum" "$0" | sha256sum | cut -c1-16)
  dest=$out/store/$module-$key
  exec 9>"$out/store/.$module.lock"
  flock 9
  if [ ! -e "$dest/.complete" ]; then
    echo "building $module (once; kept in ${out#"$root"/})" >&2
    tmp=$(mktemp -d "$out/store/.$module.XXXXXX")
    [ "$module" = kubernetes ] && ldflags="$ldflags $(kube_stamp)"
    for pkg in $(cd "$dir" && go list -mod=readonly -f '{{.ImportPath}}' tool); do
      name=$(basename "$pkg")
      # server/v3, etcdctl/v3, etcdutl/v3: the program is named by the element before the version.
      case $pkg in */server/v3) name=etcd ;; */v[0-9]) name=$(basename "$(dirname "$pkg")") ;; esac
      (cd "$dir" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false -ldflags "$ldflags" -o "$tmp/$name" "$pkg")
    done
    touch "$tmp/.complete"
    rm -rf "$dest"
    mv "$tmp" "$dest"
  fi
  exec 9>&-
  local f target
  case $module in etcd-*) mkdir -p "$out/bin/${module#etcd-}"; target=$out/bin/${module#etcd-} ;; *) target=$out/bin ;; esac
  for f in "$dest"/*; do ln -sfn "$f" "$target/$(basename "$f")"; done
  # The line that kubeadm 1.35 ships is the default for people who look into bin/.
  if [ "$module" = etcd-3.6 ]; then for f in "$dest"/*; do ln -sfn "$f" "$out/bin/$(basename "$f")"; done; fi
}

[ $# -gt 0 ] || set -- versitygw etcd-3.6 kubernetes helm etcd-3.5 etcd-3.7
for m in "$@"; do
  [ -f "$tools/$m/go.mod" ] || { echo "no such module: $m (have: $(ls "$tools" | tr '\n' ' '))" >&2; exit 2; }
  build_one "$m"
done
