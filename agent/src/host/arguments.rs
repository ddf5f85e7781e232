//! Arguments of a server in a static pod: command line and environment, read as Go's `flag` and etcd read them.
//!
//! Pure. Never interprets a value; a value that cannot be known from the manifest is absent, and the reason is kept.

use std::collections::BTreeMap;

use serde_norway::Value;

use super::static_pod::{Container, EnvValue};

/// Flags that take no separate value: `--flag` alone means true, and the next word is not theirs.
///
/// Only those matter that people write without `=`; Go's `flag` wants `--flag=false` for the other way round.
const BOOLEAN_FLAGS: [&str; 11] = [
    "allow-privileged",
    "auto-tls",
    "client-cert-auth",
    "enable-grpc-gateway",
    "enable-pprof",
    "force-new-cluster",
    "initial-election-tick-advance",
    "peer-auto-tls",
    "peer-client-cert-auth",
    "pre-vote",
    "strict-reconfig-check",
];

/// What a server was told, by flag name without dashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments {
    values: BTreeMap<String, Vec<String>>,
    /// Values that the manifest does not hold, in words.
    pub unknown: Vec<String>,
}

impl Arguments {
    /// The value of a flag; the last one where it is repeated, as the servers do.
    pub fn get(&self, flag: &str) -> Option<&str> {
        self.values.get(flag).and_then(|values| values.last()).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Every value of a flag that may be repeated.
    pub fn all(&self, flag: &str) -> &[String] {
        self.values.get(flag).map_or(&[], Vec::as_slice)
    }

    /// A list separated by commas.
    pub fn list(&self, flag: &str) -> Vec<String> {
        let text = self.get(flag).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }
}

/// Reads the arguments of a container: flags from `command` and `args`, and where a flag is absent the environment
/// variable `<prefix><FLAG>` (etcd: the flag wins).
pub fn parse_arguments(container: &Container, env_prefix: Option<&str>) -> Arguments {
    let mut arguments = Arguments::default();
    let words: Vec<String> =
        container.words().skip(1).map(|word| expand(word, &container.env, &mut arguments.unknown)).collect();
    let mut words = words.into_iter().peekable();
    while let Some(word) = words.next() {
        let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None if BOOLEAN_FLAGS.contains(&flag) => (flag.to_owned(), "true".to_owned()),
            None => match words.next_if(|next| !next.starts_with('-')) {
                Some(value) => (flag.to_owned(), value),
                None => (flag.to_owned(), "true".to_owned()),
            },
        };
        arguments.values.entry(name).or_default().push(value);
    }
    if let Some(prefix) = env_prefix {
        read_environment(container, prefix, &mut arguments);
    }
    arguments
}

/// Reads etcd's configuration file, whose keys are its flags; those of TLS are in two groups of their own.
///
/// # Errors
/// It is no mapping in YAML.
pub fn parse_config_file(text: &str) -> Result<Arguments, serde_norway::Error> {
    let whole: BTreeMap<String, Value> = serde_norway::from_str(text)?;
    let mut arguments = Arguments::default();
    for (key, value) in whole {
        let prefix = match key.as_str() {
            "client-transport-security" => Some(""),
            "peer-transport-security" => Some("peer-"),
            _ => None,
        };
        match (prefix, &value) {
            (Some(prefix), Value::Mapping(group)) => {
                for (name, value) in group {
                    if let (Some(name), Some(text)) = (name.as_str(), scalar(value)) {
                        arguments.values.insert(format!("{prefix}{name}"), vec![text]);
                    }
                }
            }
            (Some(_) | None, _) => {
                if let Some(text) = scalar(&value) {
                    arguments.values.insert(key, vec![text]);
                }
            }
        }
    }
    Ok(arguments)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

fn read_environment(container: &Container, prefix: &str, arguments: &mut Arguments) {
    for (name, value) in &container.env {
        let Some(flag) = name.strip_prefix(prefix) else { continue };
        let flag = flag.to_ascii_lowercase().replace('_', "-");
        if arguments.values.contains_key(&flag) {
            continue;
        }
        match value {
            EnvValue::Literal(text) => {
                let text = expand(text, &container.env, &mut arguments.unknown);
                arguments.values.insert(flag, vec![text]);
            }
            EnvValue::Elsewhere => {
                arguments
                    .unknown
                    .push(format!("{name} gets its value from elsewhere (valueFrom), not from the manifest"));
            }
        }
    }
}

/// `$(NAME)` as the kubelet expands it; `$$` is a dollar; a name that is not known stays as it is written.
fn expand(text: &str, env: &BTreeMap<String, EnvValue>, unknown: &mut Vec<String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(escaped) = after.strip_prefix('$') {
            expanded.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|open| open.split_once(')')) {
            match env.get(name) {
                Some(EnvValue::Literal(value)) => expanded.push_str(value),
                Some(EnvValue::Elsewhere) => {
                    unknown.push(format!(
                        "$({name}) in {text:?} gets its value from elsewhere (valueFrom), not from the manifest"
                    ));
                    expanded.push_str(&format!("$({name})"));
                }
                None => expanded.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(command: &[&str], args: &[&str], env: &[(&str, EnvValue)]) -> Container {
        Container {
            name: "etcd".into(),
            image: None,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            args: args.iter().map(|&word| word.to_owned()).collect(),
            env: env.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            mounts: Vec::new(),
        }
    }

    fn literal(text: &str) -> EnvValue {
        EnvValue::Literal(text.into())
    }

    #[test]
    fn every_way_to_write_a_flag_is_read() {
        for args in [
            &["--data-dir=/data"][..],
            &["--data-dir", "/data"],
            &["-data-dir=/data"],
            &["-data-dir", "/data"],
            &["--client-cert-auth", "--data-dir", "/data"],
            &["--data-dir=/old", "--data-dir=/data"],
        ] {
            let read = parse_arguments(&container(&["etcd"], args, &[]), Some("ETCD_"));
            assert_eq!(read.get("data-dir"), Some("/data"), "{args:?}");
        }
    }

    #[test]
    fn a_boolean_flag_does_not_swallow_the_next_word() {
        let read = parse_arguments(&container(&["etcd", "--client-cert-auth", "stray"], &["--name", "a"], &[]), None);
        assert_eq!(read.get("client-cert-auth"), Some("true"));
        assert_eq!(read.get("name"), Some("a"));
    }

    #[test]
    fn the_flag_wins_over_the_environment() {
        let env = [("ETCD_NAME", literal("from-env")), ("ETCD_DATA_DIR", literal("/env")), ("NAME", literal("x"))];
        let read = parse_arguments(&container(&["etcd"], &["--name=from-flag"], &env), Some("ETCD_"));
        assert_eq!((read.get("name"), read.get("data-dir")), (Some("from-flag"), Some("/env")));
    }

    #[test]
    fn variables_are_expanded_as_the_kubelet_does() {
        let env = [("HOST", literal("m1")), ("IP", EnvValue::Elsewhere)];
        let args = ["--name=$(HOST)-$$(HOST)-$(NONE)$", "--listen-client-urls=https://$(IP):2379"];
        let read = parse_arguments(&container(&["etcd"], &args, &env), None);
        assert_eq!(read.get("name"), Some("m1-$(HOST)-$(NONE)$"));
        assert_eq!(read.get("listen-client-urls"), Some("https://$(IP):2379"));
        assert_eq!(read.unknown.len(), 1);
        assert!(read.unknown[0].contains("$(IP)"), "{:?}", read.unknown);
    }

    #[test]
    fn a_value_from_elsewhere_is_named_and_absent() {
        let read = parse_arguments(&container(&["etcd"], &[], &[("ETCD_NAME", EnvValue::Elsewhere)]), Some("ETCD_"));
        assert_eq!(read.get("name"), None);
        assert!(read.unknown[0].starts_with("ETCD_NAME"), "{:?}", read.unknown);
    }
}
