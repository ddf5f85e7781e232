//! One made-up object, half words that repeat and half noise, in the wire form that the API server stores. Pure.

use rand::Rng;
use rand::rngs::SmallRng;

/// What events say.
pub const EVENT: [&str; 5] = [
    "Successfully assigned the pod to a node",
    "Container image already present on machine and can be accessed by the pod",
    "Created container: app",
    "Started container app",
    "Readiness probe failed: HTTP probe failed with statuscode: 503",
];

/// As server-side apply writes them: the largest part of many objects, and the same in most.
const MANAGED_FIELDS: &str = concat!(
    r#"{"f:metadata":{"f:generateName":{},"f:labels":{".":{},"f:app":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},"#,
    r#""k:{\"uid\":\"UID\"}":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:env":{".":{},"#,
    r#""k:{\"name\":\"LOG_LEVEL\"}":{".":{},"f:name":{},"f:value":{}}},"f:image":{},"f:imagePullPolicy":{},"f:name":{},"#,
    r#""f:ports":{".":{},"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:name":{},"f:protocol":{}}},"#,
    r#""f:readinessProbe":{".":{},"f:failureThreshold":{},"f:httpGet":{".":{},"f:path":{},"f:port":{},"f:scheme":{}},"#,
    r#""f:periodSeconds":{},"f:successThreshold":{},"f:timeoutSeconds":{}},"f:resources":{".":{},"f:limits":{".":{},"f:memory":{}},"#,
    r#""f:requests":{".":{},"f:cpu":{},"f:memory":{}}},"f:terminationMessagePath":{},"f:terminationMessagePolicy":{}}},"#,
    r#""f:dnsPolicy":{},"f:enableServiceLinks":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},"#,
    r#""f:terminationGracePeriodSeconds":{}}}"#
);

const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Bytes of an object, field after field.
#[derive(Debug)]
pub struct Object {
    bytes: Vec<u8>,
}

impl Object {
    /// The envelope of the API server, the type, and metadata.
    pub fn new(version: &str, kind: &str, random: &mut SmallRng) -> Self {
        let mut object = Self { bytes: b"k8s\0".to_vec() };
        object.field(1, version.as_bytes());
        object.field(2, kind.as_bytes());
        object.text(&format!("app-{}", labels(random, 8)));
        object.text(&uid(random));
        object.timestamp(random);
        for (name, value) in [("app.kubernetes.io/name", "app"), ("app.kubernetes.io/managed-by", "Helm")] {
            object.field(1, name.as_bytes());
            object.field(2, value.as_bytes());
        }
        object.text(&labels(random, 10));
        object
    }

    /// As stored.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// A field of protobuf with a length.
    fn field(&mut self, tag: u8, value: &[u8]) {
        self.bytes.push(tag << 3 | 2);
        let mut length = value.len();
        while length >= 0x80 {
            self.bytes.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        self.bytes.push(length as u8);
        self.bytes.extend_from_slice(value);
    }

    /// Words.
    pub fn text(&mut self, text: &str) {
        self.field(3, text.as_bytes());
    }

    /// Some second of a year.
    pub fn timestamp(&mut self, random: &mut SmallRng) {
        let seconds = 1_764_000_000_u32 + random.random_range(0..31_536_000);
        self.bytes.extend_from_slice(&[0x08, 0x10]);
        self.bytes.extend_from_slice(&seconds.to_le_bytes());
    }

    /// Who wrote which field.
    pub fn managed_fields(&mut self, random: &mut SmallRng) {
        self.text("kube-controller-manager");
        self.timestamp(random);
        self.text(&MANAGED_FIELDS.replace("UID", &uid(random)));
    }

    /// An image with its digest.
    pub fn image(&mut self, random: &mut SmallRng) {
        let digest = hex(random, 32);
        self.text(&format!("registry.example.org/platform/app-{}@sha256:{digest}", random.random_range(0..500)));
    }

    /// Conditions of a status.
    pub fn conditions(&mut self, random: &mut SmallRng, count: u32) {
        for _ in 0..count {
            self.text("KubeletHasSufficientMemory");
            self.text("kubelet has sufficient memory available");
            self.timestamp(random);
            self.timestamp(random);
        }
    }

    /// Lines of a configuration file.
    pub fn settings(&mut self, random: &mut SmallRng, lines: u32) {
        let line = |random: &mut SmallRng| {
            let (section, value) = (random.random_range(0..40), random.random_range(0..100_000));
            format!("server.section-{section}.timeout-{} = {value}ms # {}\n", section % 7, labels(random, 6))
        };
        let text: String = (0..lines).map(|_| line(random)).collect();
        self.text(&text);
    }

    /// Bytes that do not compress.
    pub fn noise(&mut self, random: &mut SmallRng, count: usize) {
        let mut bytes = vec![0; count];
        random.fill(&mut bytes[..]);
        self.field(4, &bytes);
    }

    /// Addresses behind a service.
    pub fn endpoints(&mut self, random: &mut SmallRng, count: u32) {
        for _ in 0..count {
            self.text(&format!("10.244.{}.{}", random.random_range(0..150), random.random_range(2..250)));
            self.text(&format!("ip-10-0-0-{}.eu-central-1.compute.internal", random.random_range(0..150)));
            self.text(&uid(random));
        }
    }
}

/// What a pod is to be.
pub fn spec_of_pod(object: &mut Object, random: &mut SmallRng, containers: u32) {
    for volume in 0..3 {
        object.text(&format!("kube-api-access-{}", labels(random, 5)));
        object.text(&format!("/var/run/secrets/kubernetes.io/serviceaccount-{volume}"));
    }
    for _ in 0..containers {
        object.image(random);
        for variable in
            ["LOG_LEVEL", "POD_NAMESPACE", "OTEL_EXPORTER_OTLP_ENDPOINT", "DATABASE_URL", "CACHE_TTL_SECONDS"]
        {
            object.text(variable);
            object.text(&format!("postgres://app-{}.database.svc:5432", labels(random, 3)));
        }
        object.text("250m");
        object.text("512Mi");
        object.text("/dev/termination-log");
        object.text("node.kubernetes.io/not-ready:NoExecute op=Exists for 300s");
    }
}

/// What a pod is.
pub fn status_of_pod(object: &mut Object, random: &mut SmallRng, containers: u32) {
    object.conditions(random, 5);
    for _ in 0..containers {
        object.text(&format!("containerd://{}", hex(random, 32)));
        object.image(random);
        object.timestamp(random);
    }
    object.text(&format!("10.244.{}.{}", random.random_range(0..150), random.random_range(2..250)));
}

/// A release as Helm stores it: compressed already, tens of KiB.
pub fn helm_release(random: &mut SmallRng) -> Object {
    let mut object = Object::new("v1", "Secret", random);
    let count = random.random_range(10_000..60_000);
    object.text(&base64(random, count));
    object
}

/// A custom resource: JSON, with managed fields.
pub fn custom_resource(random: &mut SmallRng) -> Object {
    let mut text = format!(
        r#"{{"apiVersion":"monitoring.example.org/v1","kind":"Rule","metadata":{{"uid":"{}","managedFields":["#,
        uid(random)
    );
    text.push_str(MANAGED_FIELDS);
    text.push_str("]},\"spec\":{\"groups\":[");
    for _ in 0..random.random_range(4..40) {
        let (name, threshold) = (labels(random, 6), random.random_range(0..100));
        text.push_str(&format!(
            r#"{{"alert":"App{name}TooSlow","expr":"histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{{app=\"{name}\"}}[5m]))) > {threshold}","for":"10m","labels":{{"severity":"warning"}}}},"#
        ));
    }
    text.push_str("]}}");
    Object { bytes: text.into_bytes() }
}

/// Letters as the API server appends to names.
pub fn labels(random: &mut SmallRng, count: usize) -> String {
    (0..count).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

fn hex(random: &mut SmallRng, bytes: usize) -> String {
    (0..bytes).map(|_| format!("{:02x}", random.random::<u8>())).collect()
}

fn base64(random: &mut SmallRng, count: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..count).map(|_| char::from(ALPHABET[random.random_range(0..64)])).collect()
}

fn uid(random: &mut SmallRng) -> String {
    let id = hex(random, 16);
    format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..])
}
