#!/usr/bin/env bash
# No restore: the control plane's pods are stopped on all masters at once and started again, as fast as by hand. How long the API is
# away then is what a restore on this host, under this load, cannot undercut.
. "$(dirname "$0")/../journey.sh"
watch_api
sleep 1
for machine in "${machines[@]}"; do
  # An API server drains for half a minute, and etcd is told so late by the kubelet: both are told here.
  within "$machine" sh -c '
    mkdir -p /root/held && mv /etc/kubernetes/manifests/*.yaml /root/held/
    pkill -KILL -x kube-apiserver; pkill -x etcd
    while pgrep -x etcd > /dev/null || pgrep -x kube-apiserver > /dev/null; do sleep 0.1; done
    mv /root/held/*.yaml /etc/kubernetes/manifests/
    systemctl restart kubelet' &
  stopped+=($!)
done
wait "${stopped[@]}"
eventually 120 "the API to answer" kubectl get --raw /readyz
all_ready() { kubectl wait --for=condition=Ready node --all --timeout=1s && k rollout status daemonset/lifeboat-agent --timeout=1s; }
eventually 120 "all nodes and agents to be ready" all_ready
sleep 2
measured "longest silence of the API" "$(outages)"
next=$(unique stopped)
backup "$next"
complete "$next" 120
