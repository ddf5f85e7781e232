#!/usr/bin/env bash
# Both admission policies are in force, for tokens as pods have them; and pods ask for no more than they must.
. "$(dirname "$0")/../journey.sh"
leave() {
  k delete --ignore-not-found etcdr/not-meant role/writer rolebinding/writer rolebinding/editor
  kubectl delete namespace strict --ignore-not-found
} > /dev/null
trap leave EXIT
leave
agent=$(k get pods --selector app.kubernetes.io/component=agent --field-selector spec.nodeName=master-0 --output 'jsonpath={.items[0].metadata.name}')
token=$(k create token lifeboat-agent --bound-object-kind Pod --bound-object-name "$agent")
as_agent() { "$testbed/bin/kubectl" --kubeconfig /dev/null --server "https://$(address_of master-0):6443" \
  --certificate-authority "$disks/master-0/upper/etc/kubernetes/pki/ca.crt" --token "$token" --namespace $namespace "$@"; }
as_agent patch etcdm master-0 --subresource status --type merge --patch '{"status": {"version": "0.0.0"}}' > /dev/null || fail "an agent may not write of its own member"
refused "an agent may write only the EtcdMember of its own node" \
  as_agent patch etcdm master-1 --subresource status --type merge --patch '{"status": {"version": "0.0.0"}}'
refused "conditions and observedGeneration of an EtcdMember are the operator's" \
  as_agent patch etcdm master-0 --subresource status --type merge --patch '{"status": {"conditions": []}}'
refused "an agent creates an EtcdBackup only as the record of an archive in the bucket" \
  as_agent create --filename - <<< '{"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup", "metadata": {"name": "no"}, "spec": {"locationRef": {"name": "store"}}}'
# Whoever may edit, may not approve; whoever may only write restores, may name nothing in them.
k create rolebinding editor --clusterrole lifeboat-edit --user editor > /dev/null
k create role writer --verb create,get,patch --resource etcdrestores.etcd.lifeboat.dev > /dev/null
k create rolebinding writer --role writer --user writer > /dev/null
restore() {
  k "$@" create --filename - <<YAML
{"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdRestore", "metadata": {"name": "not-meant"},
 "spec": {"cluster": {"from": {"latest": {"scheduleRef": {"name": "$schedule"}}}}}}
YAML
}
refused 'needs verb "use"' restore --as writer
restore --as editor > /dev/null || fail "an editor may not prepare a restore"
refused 'needs verb "approve"' k --as editor patch etcdr not-meant --type merge --patch '{"spec": {"approval": "x"}}'

# What pod security says of the pods: the operator's are restricted, the agents' ask for the host's paths, port and network alone.
kubectl create namespace strict > /dev/null
kubectl label namespace strict pod-security.kubernetes.io/warn=restricted > /dev/null
warnings() { # warnings KIND/NAME: of the same object in a namespace that warns of all that is not restricted
  k get "$1" --output yaml | sed '/^  namespace:/d; /^  uid:/d; /^  resourceVersion:/d' |
    kubectl --namespace strict create --dry-run=server --filename - 2>&1 > /dev/null | sed -n 's/^Warning: would violate PodSecurity "restricted:latest": //p'
}
said=$(warnings deployment/lifeboat-operator)
[ -z "$said" ] || fail "operator: $said"
said=$(warnings daemonset/lifeboat-agent)
measured "pod security of the agents" "$said"
[ -n "$said" ] || fail "pod security has nothing to say of the agents: it was not asked"
for word in privileged "host namespaces (hostPID" "allowPrivilegeEscalation" "unrestricted capabilities" seccompProfile; do
  if grep -qF "$word" <<< "$said"; then fail "agents: $said"; fi
done
