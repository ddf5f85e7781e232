//! Puts the supervisor into a static pod's manifest, or takes it out: by whole lines with a mark at their end, so that
//! taking them out leaves every other byte as it is, also what was edited meanwhile; the one line that is changed keeps what
//! stood there behind its mark. Pure.

use std::path::Path;

use crate::host::static_pod::{StaticPod, parse_static_pod};

/// End of every line that is ours.
const MARK: &str = " # lifeboat etcd-pod";
/// Behind it stands what a line that was changed said.
const INSTEAD_OF: &str = " # lifeboat etcd-pod instead of:";
/// The setting of a probe that is changed.
const THRESHOLD: &str = "failureThreshold:";
/// How long the kubelet is to wait for etcd's first answer, in seconds. kubeadm gives it four minutes and a half; a database of
/// etcd's largest size is unpacked and proven within this on a disk of 10 MB/s, and a container that is killed before begins anew.
const STARTS_WITHIN: u64 = 3_600;
/// The kubelet's own default.
const PERIOD: u64 = 10;
/// Name of the volume.
const VOLUME: &str = "lifeboat";

/// What goes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insertion {
    /// Directory of program and tools, on the host and in the container.
    pub directory: String,
    /// Flags of the supervisor.
    pub flags: Vec<String>,
}

/// The manifest with the supervisor in front of etcd.
///
/// # Errors
/// It is there already, or the manifest is not written in the way that is understood: words.
pub fn insert(text: &str, insertion: &Insertion) -> Result<String, String> {
    let Insertion { directory, flags } = insertion;
    if text.contains(MARK) {
        return Err("the supervisor is in the manifest already".to_owned());
    }
    let before = parse_static_pod(text).map_err(|error| format!("the manifest is not readable: {error}"))?;
    let container = before.container_running("etcd").ok_or("the manifest runs no etcd")?;
    if container.program() != Some("etcd") {
        return Err("the manifest starts etcd through something else: put the supervisor in by hand, as `lifeboat etcd-pod -- etcd \
                    …`"
            .to_owned());
    }
    let first = container.words().next().map(String::as_str).unwrap_or_default().to_owned();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let at = position(&lines, |line| item(line) == Some(first.as_str()))
        .ok_or("etcd's command is not written as one item a line; put the supervisor in by hand")?;
    let indent = indent_of(&lines[at]);
    let program = format!("{directory}/bin/lifeboat");
    let mut words = vec![program, "etcd-pod".to_owned()];
    words.extend(flags.iter().cloned());
    words.push("--".to_owned());
    let ours = words.iter().map(|word| format!("{indent}- \"{word}\"{MARK}\n"));
    if container.command.is_empty() {
        // Arguments alone go to the image's entry point, and Kublr's looks for restore.db itself.
        let args = at.checked_sub(1).filter(|&above| lines[above].trim() == "args:").ok_or(
            "etcd's arguments are not the first of a list of their own; put the supervisor in by hand, as the container's command",
        )?;
        let key = format!("{}command:{MARK}\n", indent_of(&lines[args]));
        let ours: Vec<String> = std::iter::once(key).chain(ours).collect();
        lines.splice(args..args, ours);
    } else {
        let ours: Vec<String> = ours.collect();
        lines.splice(at..at, ours);
    }
    for (key, entry) in [
        (
            "volumeMounts:",
            vec![format!("name: {VOLUME}"), format!("mountPath: {directory}"), "readOnly: true".to_owned()],
        ),
        ("volumes:", vec![format!("name: {VOLUME}"), format!("hostPath: {{path: {directory}, type: Directory}}")]),
    ] {
        let found: Vec<usize> = (0..lines.len()).filter(|&at| lines[at].trim_end().trim_start() == key).collect();
        let [at] = found[..] else {
            return Err(format!(
                "the manifest has not exactly one {key} in block style; put the supervisor in by hand"
            ));
        };
        let next = lines.get(at + 1).filter(|line| line.trim_start().starts_with("- "));
        let indent = next.map(|line| indent_of(line)).ok_or_else(|| format!("{key} is not in block style"))?;
        let ours = entry.iter().enumerate().map(|(number, field)| {
            let lead = if number == 0 { "- " } else { "  " };
            format!("{indent}{lead}{field}{MARK}\n")
        });
        lines.splice(at + 1..at + 1, ours.collect::<Vec<_>>());
    }
    widen_startup_probe(&mut lines);
    let after = lines.concat();
    check(&before, &after, directory)?;
    Ok(after)
}

/// The manifest without the supervisor.
///
/// # Errors
/// It is not there, or what is left is no manifest: words.
pub fn remove(text: &str) -> Result<String, String> {
    if !text.contains(MARK) {
        return Err("the supervisor is not in the manifest".to_owned());
    }
    let kept = text.split_inclusive('\n').filter(|line| !line.trim_end().ends_with(MARK.trim_start()));
    let rest: String = kept.map(as_before).collect();
    let pod = parse_static_pod(&rest).map_err(|error| format!("what is left is no manifest: {error}"))?;
    match pod.container_running("etcd") {
        Some(container) if !container.is_supervised() => Ok(rest),
        Some(_) => Err("the supervisor was also put in by hand; take it out by hand".to_owned()),
        None => Err("what is left runs no etcd".to_owned()),
    }
}

/// Has the kubelet wait for a restore. Where the one startup probe is not written as kubeadm writes it, it stays as it is.
fn widen_startup_probe(lines: &mut [String]) {
    let is_probe = |line: &String| line.trim() == "startupProbe:";
    let Some(probe) =
        lines.iter().position(is_probe).filter(|_| lines.iter().filter(|line| is_probe(line)).count() == 1)
    else {
        return;
    };
    let depth = indent_of(&lines[probe]).len();
    let below = lines[probe + 1..].iter().take_while(|line| indent_of(line).len() > depth).count();
    let body = probe + 1..probe + 1 + below;
    let number = |line: &String, key: &str| line.trim().strip_prefix(key)?.trim().parse::<u64>().ok();
    let period = lines[body.clone()].iter().find_map(|line| number(line, "periodSeconds:")).unwrap_or(PERIOD).max(1);
    let wanted = STARTS_WITHIN / period;
    for line in &mut lines[body] {
        if number(line, THRESHOLD).is_some_and(|found| found < wanted)
            && let Some((indent, rest)) = line.split_once(THRESHOLD)
        {
            *line = format!("{indent}{THRESHOLD} {wanted}{INSTEAD_OF}{rest}");
        }
    }
}

/// A line as it was before it was changed.
fn as_before(line: &str) -> String {
    match (line.split_once(THRESHOLD), line.split_once(INSTEAD_OF)) {
        (Some((indent, _)), Some((_, rest))) => format!("{indent}{THRESHOLD}{rest}"),
        (_, None) | (None, _) => line.to_owned(),
    }
}

/// Whether the changed manifest means the old one with the supervisor, and nothing else.
fn check(before: &StaticPod, after: &str, directory: &str) -> Result<(), String> {
    let strange = || "the changed manifest would not mean what it should; put the supervisor in by hand".to_owned();
    let changed = parse_static_pod(after).map_err(|_| strange())?;
    let (Some(old), Some(new)) = (before.container_running("etcd"), changed.container_running("etcd")) else {
        return Err(strange());
    };
    let is_same_command = new.is_supervised() && old.words().eq(new.words()) && old.env == new.env;
    let mounted = changed.host_path(new, Path::new(directory));
    let is_mounted = mounted.is_ok_and(|path| path == Path::new(directory));
    let volumes = changed.volumes.len() == before.volumes.len() + 1;
    let others = changed.containers.len() == before.containers.len() && new.mounts.len() == old.mounts.len() + 1;
    if is_same_command && is_mounted && volumes && others { Ok(()) } else { Err(strange()) }
}

fn position(lines: &[String], wanted: impl Fn(&str) -> bool) -> Option<usize> {
    lines.iter().position(|line| wanted(line))
}

/// The text of a line that is one plain item of a list.
fn item(line: &str) -> Option<&str> {
    let text = line.trim().strip_prefix("- ")?.trim();
    Some(text.trim_matches(['"', '\'']))
}

fn indent_of(line: &str) -> String {
    line[..line.len() - line.trim_start().len()].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insertion() -> Insertion {
        Insertion { directory: "/opt/lifeboat".into(), flags: vec!["--volume=/var/lib/etcd".into()] }
    }

    fn corpus(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn what_goes_in_comes_out_byte_for_byte() {
        for name in ["v1.24", "v1.28-joined", "v1.31", "v1.34", "v1.35", "v1.35-joined", "v1.35-tuned", "v1.37"] {
            let text = corpus(&format!("kubeadm/{name}/etcd.yaml"));
            let inside = insert(&text, &insertion()).unwrap();
            let pod = parse_static_pod(&inside).unwrap();
            let container = pod.container_running("etcd").unwrap();
            assert!(container.is_supervised(), "{name}");
            assert_eq!(container.command[..2], ["/opt/lifeboat/bin/lifeboat", "etcd-pod"]);
            assert_eq!(remove(&inside).unwrap(), text, "{name}");
            let after = |text: &str| text.split_once("startupProbe:").unwrap().1.to_owned();
            assert!(after(&text).starts_with("\n      failureThreshold: 24\n"), "{name}");
            let widened = "\n      failureThreshold: 360 # lifeboat etcd-pod instead of: 24\n";
            assert!(after(&inside).starts_with(widened), "{name}: {inside}");
            assert_eq!(inside.matches("failureThreshold: 8\n").count(), text.matches("failureThreshold: 8\n").count());
            assert!(insert(&inside, &insertion()).is_err() && remove(&text).is_err());
        }
    }

    #[test]
    fn what_was_edited_meanwhile_stays() {
        let text = corpus("kubeadm/v1.35/etcd.yaml");
        let edited = |text: &str| text.replace("--snapshot-count=10000", "--snapshot-count=5000");
        let inside = edited(&insert(&text, &insertion()).unwrap());
        assert_eq!(remove(&inside).unwrap(), edited(&text));
    }

    #[test]
    fn a_startup_probe_that_waits_long_enough_stays() {
        let patient = corpus("kubeadm/v1.35/etcd.yaml").replace("failureThreshold: 24", "failureThreshold: 999");
        let inside = insert(&patient, &insertion()).unwrap();
        assert!(inside.contains("      failureThreshold: 999\n") && !inside.contains(INSTEAD_OF));
        let slow = corpus("kubeadm/v1.35/etcd.yaml")
            .replace("failureThreshold: 24\n", "failureThreshold:   24\n      periodSeconds: 60\n");
        let inside = insert(&slow, &insertion()).unwrap();
        assert!(inside.contains("      failureThreshold: 60 # lifeboat etcd-pod instead of:   24\n"), "{inside}");
        assert_eq!(remove(&inside).unwrap(), slow);
    }

    #[test]
    fn a_manifest_in_another_style_is_left_to_its_owner() {
        for text in [
            "spec: {containers: [{name: etcd, command: [etcd]}], volumes: []}",
            "spec:\n  containers:\n  - name: etcd\n    command: [etcd, --name=a]\n    volumeMounts:\n    - {name: d, mountPath: /d}\n  volumes:\n  - {name: d, hostPath: {path: /d}}\n",
            "spec:\n  containers:\n  - name: etcd\n    command:\n    - sh\n    - -c\n    - exec etcd\n",
            &corpus("kublr/etcd.manifest").replace("    args:\n", "    args:\n    # as ever\n"),
        ] {
            assert!(insert(text, &insertion()).is_err_and(|words| words.contains("by hand")), "{text}");
        }
    }

    #[test]
    fn where_the_image_has_an_entry_point_the_supervisor_takes_its_place() {
        let text = corpus("kublr/etcd.manifest");
        let inside = insert(&text, &insertion()).unwrap();
        let pod = parse_static_pod(&inside).unwrap();
        let container = pod.container_running("etcd").unwrap();
        assert_eq!(container.command, ["/opt/lifeboat/bin/lifeboat", "etcd-pod", "--volume=/var/lib/etcd", "--"]);
        assert_eq!(container.args, parse_static_pod(&text).unwrap().container_running("etcd").unwrap().args);
        assert_eq!(remove(&inside).unwrap(), text);
    }
}
