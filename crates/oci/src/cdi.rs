//! CDI, the Container Device Interface: what device vendors want changed in a container that uses their device.
//!
//! Vendors drop files into `/etc/cdi` and `/var/run/cdi`; the second wins. A device is named `vendor.com/class=name`.
//! Kubernetes hands names over in `ContainerConfig.CDI_devices`, and plugins in annotations `cdi.k8s.io/*`.

mod edits;
mod file;
mod node;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;

use crate::spec::error::SpecError;
use file::{ContainerEdits, File};

/// Where vendors put their files, in rising priority.
const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];
const ANNOTATIONS: &str = "cdi.k8s.io/";

/// The device names in a container's annotations.
#[must_use]
pub fn devices_of_annotations(annotations: &BTreeMap<String, String>) -> Vec<String> {
    annotations
        .iter()
        .filter(|(key, _)| key.starts_with(ANNOTATIONS))
        .flat_map(|(_, value)| value.split(','))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// Applies the devices named in `devices` (`vendor/class=name`) to `spec`.
///
/// # Errors
/// When a device is not known on this host, or what it wants is not there.
pub(crate) fn apply(spec: &mut Spec, devices: &[String]) -> Result<(), SpecError> {
    if devices.is_empty() {
        return Ok(());
    }
    Registry::load(DIRECTORIES.iter().map(Path::new)).apply(spec, devices)
}

/// All files, and where each device is described.
#[derive(Debug, Default)]
struct Registry {
    files: Vec<(PathBuf, File)>,
    /// Files that could not be read, for the message about a device that is missing.
    broken: Vec<String>,
}

impl Registry {
    fn load<'a>(directories: impl Iterator<Item = &'a Path>) -> Self {
        let mut out = Self::default();
        for directory in directories {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).collect();
            paths.sort();
            for path in paths {
                match file::read(&path) {
                    Some(Ok(file)) => out.files.push((path, file)),
                    Some(Err(e)) => out.broken.push(format!("{}: {e}", path.display())),
                    None => {}
                }
            }
        }
        out
    }

    /// The file with a device: the last one wins. Within one directory two files may not both describe it.
    fn find(&self, device: &str) -> Result<(&Path, &File, &ContainerEdits), SpecError> {
        let unknown = || SpecError::UnknownCdiDevice {
            device: device.to_owned(),
            broken: self.broken.join("; "),
        };
        let (kind, name) = device.split_once('=').ok_or_else(unknown)?;
        let mut found = self.files.iter().rev().filter_map(|(path, file)| {
            let device = file.devices.iter().find(|d| d.name == name)?;
            (file.kind == kind).then_some((path.as_path(), file, &device.container_edits))
        });
        let best = found.next().ok_or_else(unknown)?;
        match found.next() {
            Some(other) if other.0.parent() == best.0.parent() => {
                Err(SpecError::AmbiguousCdiDevice {
                    device: device.to_owned(),
                    first: other.0.to_owned(),
                    second: best.0.to_owned(),
                })
            }
            _ => Ok(best),
        }
    }

    fn apply(&self, spec: &mut Spec, devices: &[String]) -> Result<(), SpecError> {
        let mut general: Vec<&Path> = Vec::new();
        let mut wanted = Vec::new();
        for device in devices {
            let (path, file, edits) = self.find(device)?;
            if !general.contains(&path) {
                general.push(path);
                wanted.push(&file.container_edits);
            }
            wanted.push(edits);
        }
        for edits in wanted {
            edits::apply(spec, edits)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(files: &[(&str, &str)]) -> (tempfile::TempDir, Registry) {
        let dir = tempfile::tempdir().expect("tempdir");
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            std::fs::write(path, text).expect("write");
        }
        let directories = [dir.path().join("etc"), dir.path().join("run")];
        let registry = Registry::load(directories.iter().map(PathBuf::as_path));
        (dir, registry)
    }

    const YAML: &str = "cdiVersion: 0.5.0\nkind: vendor.com/gpu\ndevices:\n- name: '0'\n  containerEdits:\n    \
        deviceNodes:\n    - path: /dev/gpu0\n      hostPath: /dev/null\n      permissions: rw\ncontainerEdits:\n  \
        env: ['GPU=all']\n  additionalGids: [44]\n";

    #[test]
    fn a_device_brings_its_node_rule_and_the_files_common_edits() {
        let (_dir, registry) = registry(&[("etc/vendor.yaml", YAML)]);
        let mut spec = Spec::default();
        registry
            .apply(&mut spec, &["vendor.com/gpu=0".into()])
            .expect("known");
        let value = serde_json::to_value(&spec).expect("json");
        let devices = value["linux"]["devices"].as_array().expect("devices");
        let node = devices
            .iter()
            .find(|d| d["path"] == "/dev/gpu0")
            .expect("node");
        assert_eq!(
            (
                node["type"].as_str(),
                node["major"].as_i64(),
                node["minor"].as_i64()
            ),
            (Some("c"), Some(1), Some(3))
        );
        let rules = value["linux"]["resources"]["devices"]
            .as_array()
            .expect("rules");
        assert!(
            rules
                .iter()
                .any(|r| r["allow"] == true && r["minor"] == 3 && r["access"] == "rw")
        );
        let env = value["process"]["env"].as_array().expect("env");
        assert!(env.iter().any(|e| e == "GPU=all"));
        assert_eq!(
            value["process"]["user"]["additionalGids"],
            serde_json::json!([44])
        );
    }

    #[test]
    fn the_later_directory_wins_and_one_may_not_contradict_itself() {
        let json = r#"{"cdiVersion":"0.5.0","kind":"vendor.com/gpu","devices":[{"name":"0","containerEdits":{"env":["FROM=run"]}}]}"#;
        let (_dir, registry1) = registry(&[("etc/a.yaml", YAML), ("run/a.json", json)]);
        let mut spec = Spec::default();
        registry1
            .apply(&mut spec, &["vendor.com/gpu=0".into()])
            .expect("known");
        let env = spec
            .process()
            .as_ref()
            .and_then(|p| p.env().clone())
            .expect("env");
        assert!(env.contains(&"FROM=run".to_owned()) && !env.contains(&"GPU=all".to_owned()));
        let (_dir, registry2) = registry(&[("etc/a.yaml", YAML), ("etc/b.json", json)]);
        let error = registry2
            .apply(&mut Spec::default(), &["vendor.com/gpu=0".into()])
            .expect_err("ambiguous");
        assert!(error.to_string().contains("b.json"), "{error}");
    }

    #[test]
    fn unknown_devices_are_named_with_the_files_that_could_not_be_read() {
        let (_dir, registry) = registry(&[("etc/bad.json", "{nonsense")]);
        let error = registry
            .apply(&mut Spec::default(), &["vendor.com/gpu=7".into()])
            .expect_err("unknown");
        assert!(
            error.to_string().contains("vendor.com/gpu=7")
                && error.to_string().contains("bad.json"),
            "{error}"
        );
    }

    #[test]
    fn edits_that_are_not_known_are_not_left_out() {
        let edits = [
            r#"{"env":["A=b"],"intelRdt":{"closID":"x"}}"#,
            r#"{"mounts":[{"hostPath":"/a","containerPath":"/b","mapped":true}]}"#,
            r#"{"hooks":[{"hookName":"createRuntime","path":"/h","only":"x"}]}"#,
        ];
        for edit in edits {
            let json = format!(
                r#"{{"cdiVersion":"0.9.0","kind":"vendor.com/gpu","devices":[{{"name":"0","containerEdits":{edit}}}]}}"#
            );
            let (_dir, registry) = registry(&[("etc/new.json", &json)]);
            let error = registry
                .apply(&mut Spec::default(), &["vendor.com/gpu=0".into()])
                .expect_err(edit)
                .to_string();
            assert!(
                error.contains("unknown field") && error.contains("new.json"),
                "{error}"
            );
        }
    }

    fn one_node(node: &str) -> Result<serde_json::Value, SpecError> {
        let json = format!(
            r#"{{"cdiVersion":"0.3.0","kind":"vendor.com/gpu","devices":[{{"name":"0","containerEdits":{{"deviceNodes":[{node}]}}}}]}}"#
        );
        let (_dir, registry) = registry(&[("run/gpu.json", &json)]);
        let mut spec = Spec::default();
        registry.apply(&mut spec, &["vendor.com/gpu=0".into()])?;
        let linux = serde_json::to_value(spec.linux()).expect("json");
        Ok(serde_json::json!({
            "node": linux["devices"].as_array().and_then(|nodes| nodes.last()),
            "rule": linux["resources"]["devices"].as_array().and_then(|rules| rules.last()),
        }))
    }

    #[test]
    fn a_node_with_type_and_number_need_not_be_on_the_host() {
        let made = one_node(r#"{"path":"/tmp/CDI-Dev-1","type":"b","major":1,"minor":1}"#)
            .expect("described in full");
        assert_eq!(
            made,
            serde_json::json!({
                "node": {"path": "/tmp/CDI-Dev-1", "type": "b", "major": 1, "minor": 1},
                "rule": {"allow": true, "type": "b", "major": 1, "minor": 1, "access": "rwm"},
            })
        );
        let made = one_node(
            r#"{"path":"/dev/x","hostPath":"/dev/null","type":"c","major":7,"fileMode":384,"uid":5}"#,
        )
        .expect("described in full");
        assert_eq!(
            made["node"],
            serde_json::json!({"path": "/dev/x", "type": "c", "major": 7, "minor": 0, "fileMode": 384, "uid": 5})
        );
        let made = one_node(r#"{"path":"/run/fifo","type":"p"}"#).expect("a FIFO has no number");
        assert_eq!(
            (&made["node"]["type"], made["rule"]["type"].is_string()),
            (&serde_json::json!("p"), false)
        );
    }

    #[test]
    fn what_a_node_lacks_is_that_of_the_hosts_which_has_to_be_of_its_type() {
        let made = one_node(r#"{"path":"/dev/x","hostPath":"/dev/null","type":"c"}"#)
            .expect("the host's number");
        assert_eq!(
            (&made["node"]["major"], &made["node"]["minor"]),
            (&serde_json::json!(1), &serde_json::json!(3))
        );
        for (node, says) in [
            (r#"{"path":"/dev/null","type":"b"}"#, "/dev/null"),
            (r#"{"path":"/nowhere","type":"b"}"#, "/nowhere"),
            (r#"{"path":"/nowhere","major":1,"minor":3}"#, "/nowhere"),
            (r#"{"path":"/dev/x","type":"q","major":1}"#, "gpu.json"),
            (r#"{"path":"/dev/x","type":"c","major":-1}"#, "gpu.json"),
        ] {
            let error = one_node(node).expect_err(node).to_string();
            assert!(error.contains(says), "{node}: {error}");
        }
    }

    #[test]
    fn annotations_name_devices() {
        let annotations = [
            ("cdi.k8s.io/x".to_owned(), "a.b/c=1, a.b/c=2".to_owned()),
            ("other".into(), "x".into()),
        ];
        assert_eq!(
            devices_of_annotations(&annotations.into()),
            ["a.b/c=1", "a.b/c=2"]
        );
    }
}
