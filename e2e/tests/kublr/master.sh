# Makes a kubeadm master of the testbed, stopped, one as Kublr's manual describes it: master.sh ORDINAL ADDRESS... (all, in order).
# Data of /root/seed.db as member etcdN in /mnt/master-pd/etcd, which etcd's container sees as /var/lib/etcd.
set -euo pipefail
ordinal=$1
shift
name=etcd$ordinal pki=/srv/kubernetes/etcd own=/etc/kublr/manifests
url() { echo "https://etcd$1.kublr.local:$2"; }

cluster=
cp /etc/hosts /etc/kublr/hosts
number=0
for address in "$@"; do
  echo "$address etcd$number.kublr.local" >> /etc/kublr/hosts
  cluster+=${cluster:+,}etcd$number=$(url $number 2380)
  number=$((number + 1))
done
mount --bind /etc/kublr/hosts /etc/hosts
shift "$ordinal"

mkdir -p $pki $own
cp /etc/kubernetes/pki/etcd/{ca.crt,healthcheck-client.crt,healthcheck-client.key} $pki
cat > $pki/extensions <<END
subjectAltName=DNS:$name.kublr.local,DNS:localhost,IP:127.0.0.1,IP:$1
extendedKeyUsage=serverAuth,clientAuth
END
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$name" \
  -keyout $pki/server.key -out $pki/server.csr
openssl x509 -req -in $pki/server.csr -days 365 -extfile $pki/extensions -set_serial $((ordinal + 100)) \
  -CA $pki/ca.crt -CAkey /etc/kubernetes/pki/etcd/ca.key -out $pki/server.crt

etcdutl snapshot restore /root/seed.db --data-dir /mnt/master-pd/etcd --name $name \
  --initial-cluster "$cluster" --initial-advertise-peer-urls "$(url "$ordinal" 2380)"
mount --bind /mnt/master-pd/etcd /var/lib/etcd

# Who says where the data volume is: daemon.yaml, on the last master `kublr validate`.
if [ "$ordinal" = 2 ]; then
  echo 'kublr_agent: {}' > /etc/kublr/daemon.yaml
  printf '#!/bin/sh\nprintf "INFO reading: configuration\\n---\\netcd_storage: {type: persistent, path: /mnt/master-pd/etcd}\\n"\n' > /opt/kublr/bin/kublr
  chmod +x /opt/kublr/bin/kublr
else
  printf 'kublr_agent: {}\netcd_storage:\n  path: /mnt/master-pd/etcd\n' > /etc/kublr/daemon.yaml
fi
printf 'apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: %s\n' $own > /var/lib/kubelet/config.yaml

version=$(etcd --version | sed -n 's/^etcd Version: //p')
cat > $own/etcd.manifest <<END
apiVersion: v1
kind: Pod
metadata:
  name: k8s-etcd
  namespace: kube-system
  labels: {component: etcd, tier: control-plane}
spec:
  hostNetwork: true
  containers:
  - name: k8s-etcd
    image: cr.kublr.com/kublr/etcd:$version-2
    args:
    - etcd
    - --name=\$(ETCD_MEMBER)
    - --data-dir=/var/lib/etcd
    - --listen-client-urls
    - https://0.0.0.0:2379
    - --listen-peer-urls
    - https://0.0.0.0:2380
    - --trusted-ca-file=$pki/ca.crt
    - --cert-file=$pki/server.crt
    - --key-file=$pki/server.key
    - --client-cert-auth
    - --peer-trusted-ca-file=$pki/ca.crt
    - --peer-cert-file=$pki/server.crt
    - --peer-key-file=$pki/server.key
    - --peer-client-cert-auth
    - --unsafe-no-fsync
    env:
    - {name: ETCD_MEMBER, value: $name}
    - {name: ETCD_INITIAL_ADVERTISE_PEER_URLS, value: "$(url "$ordinal" 2380)"}
    - {name: ETCD_ADVERTISE_CLIENT_URLS, value: "$(url "$ordinal" 2379)"}
    - name: ETCD_INITIAL_CLUSTER
      value: "$cluster"
    volumeMounts:
    - {name: data, mountPath: /var/lib/etcd}
    - {name: pki, mountPath: $pki, readOnly: true}
  volumes:
  - {name: data, hostPath: {path: /mnt/master-pd/etcd}}
  - {name: pki, hostPath: {path: $pki}}
END
# Kubernetes' own, as kubeadm wrote them; only the first master has them.
if [ "$ordinal" = 0 ]; then
  for pod in kube-apiserver kube-controller-manager; do
    mv /etc/kubernetes/manifests-off/$pod.yaml $own/$pod.manifest
  done
fi
