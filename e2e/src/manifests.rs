//! Objects that the tests apply, as a user would write them.

use serde_json::{Value, json};

/// A location in the testbed's S3 server with its Secret and CA, all named `name`.
pub struct S3Objects<'a> {
    pub name: &'a str,
    pub endpoint: &'a str,
    pub bucket: &'a str,
    pub prefix: &'a str,
    pub ca_pem: &'a str,
    pub access_key: &'a str,
    pub secret_key: &'a str,
}

impl S3Objects<'_> {
    pub fn secret(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.name},
            "stringData": {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}})
    }

    pub fn ca(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": self.name}, "data": {"ca.crt": self.ca_pem}})
    }

    pub fn location(&self) -> Value {
        json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation", "metadata": {"name": self.name},
            "spec": {"s3": {"bucket": self.bucket, "prefix": self.prefix, "region": "us-east-1", "endpoint": self.endpoint,
                "forcePathStyle": true, "caBundleRef": {"name": self.name, "key": "ca.crt"},
                "credentialsSecretRef": {"name": self.name}}}})
    }

    pub fn all(&self) -> Value {
        json!({"apiVersion": "v1", "kind": "List", "items": [self.secret(), self.ca(), self.location()]})
    }
}

/// A schedule on a location.
pub fn schedule(name: &str, cron: &str, location: &str) -> Value {
    json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupSchedule", "metadata": {"name": name},
        "spec": {"schedule": cron, "template": {"spec": {"locationRef": {"name": location}}}}})
}

/// A backup made by hand.
pub fn backup(name: &str, location: &str) -> Value {
    json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackup", "metadata": {"name": name},
        "spec": {"locationRef": {"name": location}}})
}

/// A location in a directory that the agents mount.
pub fn directory(name: &str, mount: &str) -> Value {
    json!({"apiVersion": "etcd.lifeboat.dev/v1alpha1", "kind": "EtcdBackupLocation", "metadata": {"name": name},
        "spec": {"directory": {"mount": mount, "subPath": "etcd"}}})
}
