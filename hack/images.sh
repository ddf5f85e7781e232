#!/usr/bin/env bash
# Builds the two images as docker archives, with tar and sha256sum only.
#
#   hack/images.sh            target/images/lifeboat-{operator,agent}-<version>.tar; prints digest, path and name of each
#   hack/images.sh --check    builds everything twice, compares the bytes, and looks into what was built; keeps nothing
#
# The same binaries and the same CA certificates give the same bytes. Load an archive with one of
#   docker load -i FILE · ctr -n k8s.io images import FILE · skopeo copy docker-archive:FILE docker://NAME
#
# LIFEBOAT_TESTBED    where hack/build-tools.sh put etcd and etcdutl; default: target/testbed
# LIFEBOAT_BIN_DIR    static binaries; default: what `make dist` builds
# LIFEBOAT_REGISTRY   what images are named after, as the chart's image.registry
# SOURCE_DATE_EPOCH   time of all files and of the image, seconds since 1970; default 0
set -euo pipefail
cd "$(dirname "$0")/.."
bin_dir=${LIFEBOAT_BIN_DIR:-target/x86_64-unknown-linux-gnu/release}
registry=${LIFEBOAT_REGISTRY:-registry.example.org/lifeboat}
epoch=${SOURCE_DATE_EPOCH:-0}
testbed=${LIFEBOAT_TESTBED:-target/testbed}
# As EtcdRestore and `lifeboat etcd restore` know them.
lines=(3.5 3.6 3.7)
certificates=/etc/ssl/certs/ca-certificates.crt
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

die() { echo "images: $*" >&2; exit 1; }

# pack DIR FILE ENTRY…: a tar that depends on names, modes and contents and on nothing else.
pack() {
  local dir=$1 file=$2
  shift 2
  # Names sort the same in every locale; ustar has no room for access times and process ids.
  LC_ALL=C tar --create --file "$file" --directory "$dir" --format=ustar --sort=name --mtime="@$epoch" \
    --owner=0 --group=0 --numeric-owner "$@"
}

# What TLS and logs need, the same in both images: a registry keeps it once.
make_base() {
  local dir=$1
  install -d -m 0755 "$dir" "$dir/etc" "$dir/etc/ssl" "$dir/etc/ssl/certs"
  install -m 0644 "$certificates" "$dir/etc/ssl/certs/ca-certificates.crt"
  printf 'root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n' > "$dir/etc/passwd"
  printf 'root:x:0:\nnonroot:x:65532:\n' > "$dir/etc/group"
  chmod 0644 "$dir/etc/passwd" "$dir/etc/group"
}

# make_tools DIR: etcd and etcdutl of every minor version that is supported, for the chart to put them on masters.
make_tools() {
  local dir=$1/usr/local/lib/lifeboat/tools line tool
  for line in "${lines[@]}"; do
    install -d -m 0755 "$dir/$line"
    for tool in etcd etcdutl; do
      [ -x "$testbed/bin/$line/$tool" ] || die "$testbed/bin/$line/$tool does not exist: run hack/build-tools.sh etcd-$line"
      install -m 0755 "$testbed/bin/$line/$tool" "$dir/$line/$tool"
    done
  done
  find "$1" -type d -exec chmod 0755 {} +
}

# quoted WORD…: as the inside of a list in JSON.
quoted() { printf '"%s",' "$@" | sed 's/,$//'; }

# build NAME BINARY USER OUT LAYER…: one archive of these layers.
build() {
  local name=$1 binary=$2 user=$3 out=$4 layers=("${@:5}") dir said revision id ids=() config layer history
  [ -x "$bin_dir/$binary" ] || die "$bin_dir/$binary does not exist: run \`make dist\`, or set LIFEBOAT_BIN_DIR"
  # The binary knows what it is, `lifeboat 0.1.0 (0123456789ab)`; labels that say something else would be lies.
  said=$("$bin_dir/$binary" --version)
  [[ $said =~ ^$binary\ ([^ ]+)\ \((.+)\)$ ]] || die "$binary --version says: $said"
  [ "${BASH_REMATCH[1]}" = "$version" ] || die "$binary is version ${BASH_REMATCH[1]}, the workspace $version: run \`make dist\`"
  revision=${BASH_REMATCH[2]}

  dir=$(mktemp -d "$work/$name.XXXXXX")
  make_base "$dir/base"
  [[ " ${layers[*]} " != *" tools "* ]] || make_tools "$dir/tools"
  install -d -m 0755 "$dir/program" "$dir/program/usr" "$dir/program/usr/local" "$dir/program/usr/local/bin"
  install -m 0755 "$bin_dir/$binary" "$dir/program/usr/local/bin/$binary"
  mkdir "$dir/archive"
  for layer in "${layers[@]}"; do
    pack "$dir/$layer" "$dir/layer.tar" .
    id=$(sha256sum < "$dir/layer.tar" | cut -d' ' -f1)
    ids+=("$id")
    mv "$dir/layer.tar" "$dir/archive/$id.tar"
  done

  local created
  history=
  created=$(date --utc --date="@$epoch" +%Y-%m-%dT%H:%M:%SZ)
  for layer in "${layers[@]}"; do
    history+="{\"created\":\"$created\",\"created_by\":\"hack/images.sh: $layer\"},"
  done
  printf '%s' "{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":\"$created\",\"config\":{\
\"User\":\"$user\",\
\"Env\":[\"PATH=/usr/local/bin\",\"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\"],\
\"Entrypoint\":[\"/usr/local/bin/$binary\"],\
\"WorkingDir\":\"/\",\
\"Labels\":{\"org.opencontainers.image.title\":\"$name\",\"org.opencontainers.image.version\":\"$version\",\
\"org.opencontainers.image.revision\":\"$revision\",\"org.opencontainers.image.licenses\":\"Apache-2.0\"}},\
\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$(quoted "${ids[@]/#/sha256:}")]},\
\"history\":[${history%,}]}" > "$dir/config"
  config=$(sha256sum < "$dir/config" | cut -d' ' -f1)
  mv "$dir/config" "$dir/archive/$config.json"
  printf '%s' "[{\"Config\":\"$config.json\",\"RepoTags\":[\"$registry/$name:$version\"],\
\"Layers\":[$(quoted "${ids[@]/%/.tar}")]}]" > "$dir/archive/manifest.json"
  chmod 0644 "$dir/archive"/*
  # manifest.json first: readers of streams want it before the layers.
  pack "$dir/archive" "$out" manifest.json "$config.json" "${ids[@]/%/.tar}"
  rm -rf "$dir"
}

build_all() {
  local out=$1
  mkdir -p "$out"
  build lifeboat-operator lifeboat-operator 65532:65532 "$out/lifeboat-operator-$version.tar" base program
  # Root: the chart's agent reads etcd's client key. Nothing else of root's powers is left to it there.
  build lifeboat-agent lifeboat 0:0 "$out/lifeboat-agent-$version.tar" base tools program
}

# json_strings FILE KEY: the strings of the one array, or the one string, of that key in JSON without blanks.
json_strings() { grep -oE "\"$2\":(\[[^]]*\]|\"[^\"]*\")" "$1" | sed 's/^"[^"]*"://' | grep -oE '"[^"]*"' | tr -d '"'; }

# look_into ARCHIVE BINARY [FILE…]: what every runtime relies on, read from the archive as it is.
look_into() {
  local archive=$1 binary=$2 dir config layer expected
  dir=$(mktemp -d "$work/look.XXXXXX")
  tar --extract --file "$archive" --directory "$dir"
  config=$dir/$(json_strings "$dir/manifest.json" Config)
  [ "$(sha256sum < "$config" | cut -d' ' -f1)" = "$(basename "$config" .json)" ] || die "$archive: the config is not what its name says"
  mkdir "$dir/root"
  : > "$dir/ids"
  for layer in $(json_strings "$dir/manifest.json" Layers); do
    [ -f "$dir/$layer" ] || die "$archive: manifest.json names $layer, which is not there"
    echo "sha256:$(sha256sum < "$dir/$layer" | cut -d' ' -f1)" >> "$dir/ids"
    [ -z "$(tar --list --verbose --numeric-owner --file "$dir/$layer" | awk '$2 != "0/0"')" ] || die "$archive: $layer holds files of others than root"
    tar --extract --file "$dir/$layer" --directory "$dir/root"
  done
  diff "$dir/ids" <(json_strings "$config" diff_ids) || die "$archive: layers are not those of the config"
  expected=$(printf '%s\n' etc/group etc/passwd etc/ssl/certs/ca-certificates.crt "usr/local/bin/$binary" "${@:3}" | LC_ALL=C sort)
  diff <(cd "$dir/root" && find . ! -type d -printf '%P\n' | LC_ALL=C sort) <(echo "$expected") || die "$archive: not the files that belong there"
  [ "$(find "$dir/root" -perm /0022 | wc -l)" = 0 ] || die "$archive: something is writable by others than root"
  local entrypoint
  entrypoint=$(json_strings "$config" Entrypoint)
  [ -x "$dir/root$entrypoint" ] || die "$archive: $entrypoint cannot be run"
  # With nothing but the image around it: a binary that needs a loader or a library does not get this far.
  local enter=(chroot)
  [ "$(id -u)" = 0 ] || enter=(unshare --map-root-user chroot)
  "${enter[@]}" "$dir/root" "$entrypoint" --version > /dev/null || die "$archive: $entrypoint does not run with what is in the image"
  local tool
  for tool in "${@:3}"; do
    case $tool in
      */etcdutl) "${enter[@]}" "$dir/root" "/$tool" version > "$dir/said" ;;
      *) "${enter[@]}" "$dir/root" "/$tool" --version > "$dir/said" ;;
    esac || die "$archive: $tool does not run with what is in the image"
    grep -qi "version: $(basename "$(dirname "$tool")")\." "$dir/said" || die "$archive: $tool says: $(head -1 "$dir/said")"
  done
  [ $# = 2 ] || install_from "$archive" "$dir/root"
}

# install_from ARCHIVE ROOT: what the chart's first container does, with nothing but the image around it.
install_from() {
  local archive=$1 root=$2 tools=usr/local/lib/lifeboat/tools
  local user=()
  [ "$(id -u)" = 0 ] || user=(--map-root-user)
  mkdir -p "$root/host/opt/lifeboat" "$root/proc" "$root/dev"
  # Every container has /proc, by which the program finds itself, and /dev; these go with the mount namespace.
  # shellcheck disable=SC2016
  unshare "${user[@]}" --mount sh -c 'mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"' "$root" \
    /usr/local/bin/lifeboat install --directory /host/opt/lifeboat > /dev/null || die "$archive: nothing is installed"
  diff -r "$root/$tools" "$root/host/opt/lifeboat/tools" && cmp "$root/usr/local/bin/lifeboat" "$root/host/opt/lifeboat/bin/lifeboat" ||
    die "$archive: other things are installed than are in the image"
}

case ${1:-} in
  "")
    build_all target/images
    for file in "target/images/lifeboat-operator-$version.tar" "target/images/lifeboat-agent-$version.tar"; do
      name=$(tar --extract --to-stdout --file "$file" manifest.json | grep -oE '"RepoTags":\["[^"]*' | cut -d'"' -f4)
      echo "$(sha256sum "$file")  $name"
    done
    ;;
  --check)
    (umask 022 && TZ=UTC build_all "$work/first")
    # Another umask, zone, language and time of the files: none may be seen in the result.
    mkdir "$work/bin"
    cp "$bin_dir/lifeboat" "$bin_dir/lifeboat-operator" "$work/bin"
    touch --date=2001-01-01 "$work/bin"/*
    (umask 077 && bin_dir=$work/bin TZ=Asia/Tokyo LC_ALL=C.UTF-8 build_all "$work/second")
    for name in lifeboat-operator lifeboat-agent; do
      cmp "$work/first/$name-$version.tar" "$work/second/$name-$version.tar" || die "$name: two builds differ"
    done
    look_into "$work/first/lifeboat-operator-$version.tar" lifeboat-operator
    tools=()
    for line in "${lines[@]}"; do tools+=("usr/local/lib/lifeboat/tools/$line/etcd" "usr/local/lib/lifeboat/tools/$line/etcdutl"); done
    look_into "$work/first/lifeboat-agent-$version.tar" lifeboat "${tools[@]}"
    # What the chart would pull is what is built here.
    if [ -x target/testbed/bin/helm ]; then
      rendered=$(target/testbed/bin/helm template lifeboat charts/lifeboat)
      for name in lifeboat-operator lifeboat-agent; do
        grep -qxE " *image: registry.example.org/lifeboat/$name:$version" <<< "$rendered" || die "the chart does not use $name:$version"
      done
    fi
    echo "images: two builds are the same, and what is in them runs"
    ;;
  *)
    echo "usage: hack/images.sh [--check]" >&2
    exit 2
    ;;
esac
