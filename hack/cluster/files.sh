#!/usr/bin/env bash
# files.sh MACHINE: writes what one machine has before its first boot, over the root file system that all share.
#
# Half of it is there because the machine is no real one; each such part says what happens without it.
set -euo pipefail
. "$(dirname "$0")/settings.sh"
machine=$1
address=$(address_of "$machine")
etc=$disks/$machine/upper/etc
units=$etc/systemd/system
mkdir -p "$etc"/{containerd,cni/net.d,kubernetes/manifests,kubeadm} "$etc/systemd"/{system.conf.d,journald.conf.d} \
  "$units"/{kubelet.service.d,containerd.service.d,multi-user.target.wants}

{
  echo "127.0.0.1 localhost"
  for other in "${machines[@]}"; do echo "$(address_of "$other") $other"; done
  # The control plane's endpoint. No load balancer: the first master while the others join, then each its own.
  echo "$(address_of "${machines[0]}") control-plane"
} > "$etc/hosts"
: > "$etc/resolv.conf"

# --- Containers. restrict_oom_score_adj: this host lacks CAP_SYS_RESOURCE, and runc ends with "can't get final child's PID from pipe".
cat > "$etc/containerd/config.toml" <<TOML
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "$(cat "$parts/pause.name")"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
TOML
cat > "$etc/cni/net.d/10-pods.conflist" <<JSON
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "$(pods_of "$machine")"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON

# --- Units
cat > "$etc/as-a-host" <<SH
set -e
# The controllers of cgroup v1 are mounted read-only in a machine that has a cgroup namespace: no kubelet starts.
for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do mount -o remount,bind,rw /sys/fs/cgroup/\$controller; done
# kubelet writes three settings of the kernel, which is the host's: it leaves alone what already reads as it wants.
mkdir -p /run/settings
pretend() { echo "\$2" > "/run/settings/\${1##*/}"; mount --bind "/run/settings/\${1##*/}" "/proc/sys/\$1"; }
pretend vm/overcommit_memory 1
pretend kernel/panic 10
pretend kernel/panic_on_oops 1
# kubelet does not start without it; it would read there who ran out of memory.
ln -sf null /dev/kmsg
# In place of kube-proxy: the API's Service leads to the machine's own API server.
for chain in OUTPUT PREROUTING; do
  iptables -t nat -A \$chain -d $service_address/32 -p tcp --dport 443 -j DNAT --to-destination $address:6443
done
SH
cat > "$units/as-a-host.service" <<'UNIT'
[Unit]
Description=What a machine has that is no container
DefaultDependencies=no
Before=sysinit.target containerd.service kubelet.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh /etc/as-a-host
UNIT
# As the Debian package of Kubernetes has it.
cat > "$units/kubelet.service" <<'UNIT'
[Unit]
Description=kubelet: The Kubernetes Node Agent
Wants=network-online.target containerd.service
After=network-online.target containerd.service as-a-host.service
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
RestartSec=2
[Install]
WantedBy=multi-user.target
UNIT
cat > "$units/kubelet.service.d/10-kubeadm.conf" <<'UNIT'
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
UNIT
# Its module of the kernel is the host's affair.
printf '[Unit]\nAfter=as-a-host.service\n[Service]\nExecStartPre=\n' > "$units/containerd.service.d/10-as-a-host.conf"
# systemd is to leave the controllers to the kubelet.
printf '[Manager]\nDefault%sAccounting=no\nDefault%sAccounting=no\nDefault%sAccounting=no\nDefault%sAccounting=no\n' CPU Memory Tasks IO \
  > "$etc/systemd/system.conf.d/10-as-a-host.conf"
printf '[Journal]\nStorage=persistent\nSystemMaxUse=64M\nReadKMsg=no\n' > "$etc/systemd/journald.conf.d/10-as-a-host.conf"
for unit in as-a-host kubelet; do ln -s "/etc/systemd/system/$unit.service" "$units/multi-user.target.wants/$unit.service"; done
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
  console-getty.service getty.target systemd-networkd.service systemd-logind.service; do ln -s /dev/null "$units/$unit"; done

# --- kubeadm. Token and key are known beforehand, so that a join needs nothing that an init printed; the network is this host's.
# SystemVerification refuses cgroup v1 (as kubelet does, without failCgroupV1: false). Eviction looks at the host's one disk.
registration="nodeRegistration:
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: Never
  ignorePreflightErrors: [SystemVerification]
  kubeletExtraArgs: [{name: node-ip, value: $address}]"
certificate_key=$(printf '0123456789abcdef%.0s' {1..4})
token=abcdef.0123456789abcdef
if [ "$machine" = "${machines[0]}" ]; then
  cat > "$etc/kubeadm/config.yaml" <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{token: $token, ttl: 24h0m0s}]
certificateKey: $certificate_key
localAPIEndpoint: {advertiseAddress: $address}
$registration
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: $(kubernetes_version)
controlPlaneEndpoint: control-plane:6443
networking: {serviceSubnet: 10.96.0.0/16}
etcd: {local: {imageTag: "$(etcd_version)-0"}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
evictionHard: {memory.available: "0%", nodefs.available: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
YAML
else
  cat > "$etc/kubeadm/config.yaml" <<YAML
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery: {bootstrapToken: {token: $token, apiServerEndpoint: "control-plane:6443", unsafeSkipCAVerification: true}}
controlPlane: {localAPIEndpoint: {advertiseAddress: $address}, certificateKey: $certificate_key}
$registration
YAML
fi
# Last: says that all of this is there.
echo "$machine" > "$etc/hostname"
