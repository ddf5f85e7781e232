#!/bin/sh
# Makes the manifests beside it with kubeadm itself, so that discovery is tested on what kubeadm writes.
# Usage: generate.sh KUBEADM (root: kubeadm changes its root directory)
set -eu
kubeadm=$1
here=$(cd "$(dirname "$0")" && pwd)

generate() { # name of the case; its configuration on standard input
    root=$(mktemp -d)
    cat >"$root/config.yaml"
    "$kubeadm" init phase etcd local --config /config.yaml --rootfs "$root" >/dev/null
    "$kubeadm" init phase control-plane apiserver --config /config.yaml --rootfs "$root" >/dev/null
    mkdir -p "$here/$1"
    cp "$root"/etc/kubernetes/manifests/*.yaml "$here/$1/"
    rm -r "$root"
}

generate v1.35 <<'EOF'
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.0.0.11}
nodeRegistration: {name: master-1}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.35.0
EOF

generate v1.35-tuned <<'EOF'
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: "fd00::11"}
nodeRegistration: {name: master-2}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.35.0
certificatesDir: /srv/pki
networking: {serviceSubnet: "fd00:1::/112", podSubnet: "fd00:2::/64"}
apiServer:
  extraArgs:
  - {name: encryption-provider-config, value: /etc/kubernetes/enc/config.yaml}
  extraVolumes:
  - {name: enc, hostPath: /srv/kubernetes/enc, mountPath: /etc/kubernetes/enc, readOnly: true, pathType: Directory}
etcd:
  local:
    dataDir: /mnt/fast/etcd
    extraArgs:
    - {name: quota-backend-bytes, value: "8589934592"}
    - {name: wal-dir, value: /mnt/fast/etcd/wal}
    - {name: experimental-initial-corrupt-check, value: "true"}
    extraEnvs:
    - {name: ETCD_AUTO_COMPACTION_RETENTION, value: "1"}
EOF

generate v1.34 <<'EOF'
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 192.168.7.3}
nodeRegistration: {name: cp-a}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.34.2
EOF
