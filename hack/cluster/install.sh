#!/usr/bin/env bash
# Installs Lifeboat by Helm as an administrator would, with the images that the machines hold, then a location in the object store and
# a schedule whose first backup is due at once. Ends when a backup is complete.
set -euo pipefail
. "$(dirname "$0")/settings.sh"
began=$SECONDS

helm install lifeboat "$root/charts/lifeboat" --namespace $namespace --create-namespace --set image.pullPolicy=Never \
  --wait --timeout 180s > /dev/null
say "Lifeboat runs, $((SECONDS - began)) s"

kubectl --namespace $namespace apply --filename - > /dev/null <<YAML
apiVersion: v1
kind: Secret
metadata: {name: store}
stringData: {AWS_ACCESS_KEY_ID: cluster, AWS_SECRET_ACCESS_KEY: cluster-tier}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: store}
data:
  ca.crt: |
$(sed 's/^/    /' "$store/ca.crt")
YAML
helm install backups "$root/charts/lifeboat-backups" --namespace $namespace --values - > /dev/null <<YAML
locations:
  store:
    s3:
      bucket: backups
      region: us-east-1
      endpoint: https://$host:7070
      forcePathStyle: true
      caBundleRef: {name: store, key: ca.crt}
      credentialsSecretRef: {name: store}
schedules:
  every-two-minutes:
    schedule: "*/2 * * * *"
    runOnCreate: true
    template: {spec: {locationRef: {name: store}}}
YAML
while ((SECONDS - began < 120)); do
  if kubectl --namespace $namespace get etcdb --field-selector status.phase=Complete --output name | grep -q .; then
    say "a backup is complete, $((SECONDS - began)) s after the installation began"
    exit 0
  fi
  sleep 0.5
done
kubectl --namespace $namespace get pods,etcdbs,etcdb,etcdbl,etcdm --output wide >&2
die "no backup within two minutes of the installation"
