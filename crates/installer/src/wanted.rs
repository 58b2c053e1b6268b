//! The list of handlers that an administrator wants: `handlers.yaml` of the ConfigMap.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::{Deserialize, Serialize};

/// The key of the ConfigMap.
pub const KEY: &str = "handlers.yaml";
/// So many handlers at most: each is a pod now and then, a label and a class.
const HANDLERS_MAX: usize = 32;

/// What a handler is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A runtime with runc's command line.
    Oci,
    /// gVisor's `runsc`.
    Gvisor,
    /// A shim of containerd's version 2 (Kata, wasm); for CRI-O a VM shim.
    Shim,
}

/// Who drives a runtime's command line under containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Driver {
    /// containerd's own shim for runc.
    Containerd,
    /// berth's shim, which the installer puts on the node.
    Berth,
    /// Another shim, by its absolute path on the node: gVisor's own.
    Path(String),
}

/// A handler that nodes should have.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Handler {
    /// Its name: what a RuntimeClass's `handler` says.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The program on the node: runtime or shim. An absolute path.
    pub binary: String,
    /// Who drives the runtime under containerd: `containerd`, `berth`, or the absolute path of a shim. By default containerd's own
    /// shim drives runtimes of kind `oci`, and berth's those of kind `gvisor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shim: Option<String>,
    /// The configuration file of the runtime or shim on the node (Kata, gVisor's own shim). An absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Whether the runtime asks systemd for cgroups; by default as the node's default handler does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systemd_cgroup: Option<bool>,
    /// Annotations of pods that the runtime gets to see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pod_annotations: Vec<String>,
    /// Whether privileged containers are not given the node's devices.
    #[serde(default)]
    pub privileged_without_host_devices: bool,
    /// Whether pods must not see the node's kernel; by default for kind `gvisor`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_kernel: Option<bool>,
    /// The RuntimeClass; by default one with the handler's name. Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What a pod costs beyond its containers; by default what is published for a handler of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overhead: Option<BTreeMap<String, Quantity>>,
}

impl Handler {
    /// Who drives it under containerd; nobody but itself where it is a shim.
    #[must_use]
    pub fn driver(&self) -> Option<Driver> {
        match (self.kind, self.shim.as_deref()) {
            (Kind::Shim, _) => None,
            (_, Some("containerd")) | (Kind::Oci, None) => Some(Driver::Containerd),
            (_, Some("berth")) | (Kind::Gvisor, None) => Some(Driver::Berth),
            (_, Some(path)) => Some(Driver::Path(path.to_owned())),
        }
    }

    /// Whether pods must not see the node's kernel.
    #[must_use]
    pub fn has_own_kernel(&self) -> bool {
        self.own_kernel.unwrap_or(self.kind == Kind::Gvisor)
    }

    /// The name of its class, if it has one.
    #[must_use]
    pub fn class_name(&self) -> Option<&str> {
        Some(self.class.as_deref().unwrap_or(&self.name)).filter(|name| !name.is_empty())
    }

    /// The files on the node that have to be there, and in root's hands: programs, then the configuration.
    #[must_use]
    pub fn files(&self) -> Vec<&str> {
        let shim = self.shim.as_deref().filter(|shim| shim.starts_with('/'));
        let mut files = vec![self.binary.as_str()];
        files.extend(shim);
        files.extend(self.config.as_deref());
        files
    }

    /// The files that are programs.
    #[must_use]
    pub fn programs(&self) -> Vec<&str> {
        let mut files = self.files();
        files.truncate(files.len() - usize::from(self.config.is_some()));
        files
    }

    /// Why CRI-O can't have the handler, if it can't: settings that it has no place for, and gVisor. By its command line alone the
    /// start of a pod's second container does not return, for the sandbox holds its pipes, and CRI-O waits with locks that the
    /// statistics and updates of all pods need: to try it would cost the node's other pods something (seen with CRI-O 1.36.3).
    #[must_use]
    pub fn without_crio(&self) -> Option<String> {
        if self.kind == Kind::Gvisor {
            return Some(
                "kind gvisor is not installed under CRI-O, which such a pod can block; give nodes with CRI-O a handler of kind oci for a \
                 runsc that is known to work there"
                    .to_owned(),
            );
        }
        let settings = [
            ("shim", self.shim.is_some()),
            ("config", self.config.is_some() && self.kind != Kind::Shim),
            ("systemdCgroup", self.systemd_cgroup.is_some()),
        ];
        let (setting, _) = settings.into_iter().find(|(_, is_set)| *is_set)?;
        Some(format!(
            "{setting}: has no effect under CRI-O; give nodes with CRI-O a handler without it"
        ))
    }

    fn check(&self) -> Result<(), WantedError> {
        let wrong = |what: String| WantedError::Handler {
            name: self.name.clone(),
            what,
        };
        if let Some(problem) = berth_api::names::dns1123_label(&self.name).first() {
            return Err(wrong(format!("name: {problem}")));
        }
        // The label's name may be so long; the verifying class's is longer.
        if self.name.len() > 40 {
            return Err(wrong("name: must be no more than 40 characters".to_owned()));
        }
        if self.name == "runc" {
            return Err(wrong(
                "name: runc is what the runtime has by itself; give the handler another name"
                    .to_owned(),
            ));
        }
        for path in self.files() {
            check_path(path).map_err(|problem| wrong(format!("{path:?} {problem}")))?;
        }
        match (self.kind, self.shim.as_deref()) {
            (Kind::Shim, Some(_)) => {
                return Err(wrong(
                    "shim: a handler of kind shim is one itself; leave it out".to_owned(),
                ));
            }
            (_, None | Some("berth" | "containerd")) => {}
            (_, Some(path)) if path.starts_with('/') => {}
            (_, Some(other)) => {
                return Err(wrong(format!(
                    "shim: {other:?} is none of containerd, berth and an absolute path"
                )));
            }
        }
        if self.kind == Kind::Gvisor && self.shim.as_deref() == Some("containerd") {
            return Err(wrong(
                "shim: containerd's own shim cannot drive gVisor (a pod's second container hangs); leave it out for berth's, or name gVisor's".to_owned(),
            ));
        }
        let is_plain = matches!(self.driver(), Some(Driver::Containerd | Driver::Berth));
        if is_plain && self.config.is_some() {
            return Err(wrong(
                "config: has no effect on a handler of this kind with this shim; leave it out"
                    .to_owned(),
            ));
        }
        if self.systemd_cgroup.is_some() && !(is_plain && self.kind == Kind::Oci) {
            return Err(wrong(
                "systemdCgroup: has an effect on handlers of kind oci under containerd's or berth's shim alone; leave it out".to_owned(),
            ));
        }
        if let Some(class) = self.class_name()
            && let Some(problem) = berth_api::names::dns1123_subdomain(class).first()
        {
            return Err(wrong(format!("class: {problem}")));
        }
        for (resource, amount) in self.overhead.iter().flatten() {
            let is_known = matches!(resource.as_str(), "cpu" | "memory");
            let amount = amount.0.parse::<berth_api::quantity::Quantity>();
            if !is_known || amount.is_err() {
                return Err(wrong(format!(
                    "overhead: {resource}: must be an amount of cpu or memory"
                )));
            }
        }
        let is_odd = |text: &String| {
            text.is_empty() || text.len() > 253 || text.chars().any(char::is_control)
        };
        if self.pod_annotations.len() > 64 || self.pod_annotations.iter().any(is_odd) {
            return Err(wrong(
                "podAnnotations: must be up to 64 names of annotations".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Why a path can't be one of the node's.
fn check_path(path: &str) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("must be an absolute path on the node");
    }
    if path.len() > 1024 || path.chars().any(char::is_control) {
        return Err("is no path that a configuration can name");
    }
    if path.split('/').any(|part| part == ".." || part == ".") {
        return Err("must not contain . or ..");
    }
    Ok(())
}

/// Why a list is refused.
#[derive(Debug, thiserror::Error)]
pub enum WantedError {
    /// It can't be read.
    #[error("{KEY}: {0}")]
    Syntax(String),
    /// A handler makes no sense.
    #[error("{KEY}: handler {name:?}: {what}")]
    Handler {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The list as a whole makes none.
    #[error("{KEY}: {0}")]
    List(String),
}

/// Reads the list. One handler that makes no sense refuses all: half of a list is nobody's wish.
///
/// # Errors
/// When it is no list of handlers, or one of them makes no sense.
pub fn parse(text: &str) -> Result<Vec<Handler>, WantedError> {
    let handlers: Option<Vec<Handler>> =
        serde_saphyr::from_str(text).map_err(|error| WantedError::Syntax(error.to_string()))?;
    let handlers = handlers.unwrap_or_default();
    if handlers.len() > HANDLERS_MAX {
        return Err(WantedError::List(format!(
            "more than {HANDLERS_MAX} handlers"
        )));
    }
    let (mut names, mut classes) = (BTreeSet::new(), BTreeSet::new());
    for handler in &handlers {
        handler.check()?;
        if !names.insert(&handler.name) {
            return Err(WantedError::List(format!(
                "handler {:?} is there twice",
                handler.name
            )));
        }
        if let Some(class) = handler.class_name()
            && !classes.insert(class)
        {
            return Err(WantedError::List(format!("class {class:?} is there twice")));
        }
    }
    Ok(handlers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GVISOR: &str = "- {name: gvisor, kind: gvisor, binary: /usr/bin/runsc}";

    #[test]
    fn a_list() {
        let text = "- name: gvisor\n  kind: gvisor\n  binary: /usr/bin/runsc\n- name: kata\n  kind: shim\n  binary: /opt/kata/bin/containerd-shim-kata-v2\n  config: /opt/kata/c.toml\n  class: vm\n  ownKernel: true\n  overhead: {cpu: 250m, memory: 160Mi}\n";
        let handlers = parse(text).unwrap();
        assert_eq!(handlers[0].driver(), Some(Driver::Berth));
        assert!(handlers[0].has_own_kernel());
        assert_eq!(handlers[0].class_name(), Some("gvisor"));
        assert_eq!(
            (handlers[1].driver(), handlers[1].class_name()),
            (None, Some("vm"))
        );
        assert_eq!(
            handlers[1].programs(),
            ["/opt/kata/bin/containerd-shim-kata-v2"]
        );
        assert_eq!(handlers[1].files().len(), 2);
        assert_eq!(handlers[1].without_crio(), None);
        let own = parse("- {name: a, kind: oci, binary: /b, systemdCgroup: true}").unwrap();
        assert!(
            own[0]
                .without_crio()
                .unwrap()
                .starts_with("systemdCgroup: ")
        );
        let gvisor = parse("- {name: a, kind: gvisor, binary: /b}").unwrap();
        assert!(gvisor[0].without_crio().unwrap().contains("kind oci"));
        for empty in ["", "[]", "# nothing\n"] {
            assert_eq!(parse(empty).unwrap(), [], "{empty:?}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_whole() {
        for (text, words) in [
            ("{}", "handlers.yaml: "),
            ("- {name: a, kind: oci}", "binary"),
            ("- {name: a, kind: oci, binary: /b, bnary: /c}", "bnary"),
            ("- {name: a, kind: vm, binary: /b}", "kind"),
            (
                "- {name: A, kind: oci, binary: /b}",
                "handler \"A\": name: ",
            ),
            (
                "- {name: runc, kind: oci, binary: /b}",
                "runc is what the runtime has by itself",
            ),
            (
                "- {name: a, kind: oci, binary: b}",
                "\"b\" must be an absolute path on the node",
            ),
            (
                "- {name: a, kind: oci, binary: /x/../b}",
                "must not contain",
            ),
            ("- {name: a, kind: oci, binary: \"/x\\nb\"}", "no path that"),
            (
                "- {name: a, kind: oci, binary: /b, shim: crun}",
                "none of containerd, berth",
            ),
            (
                "- {name: a, kind: gvisor, binary: /b, shim: containerd}",
                "cannot drive gVisor",
            ),
            (
                "- {name: a, kind: shim, binary: /b, shim: berth}",
                "is one itself",
            ),
            (
                "- {name: a, kind: oci, binary: /b, config: /c}",
                "config: has no effect",
            ),
            (
                "- {name: a, kind: gvisor, binary: /b, config: /c}",
                "config: has no effect",
            ),
            (
                "- {name: a, kind: gvisor, binary: /b, systemdCgroup: true}",
                "systemdCgroup: has an effect",
            ),
            (
                "- {name: a, kind: shim, binary: /b, systemdCgroup: true}",
                "systemdCgroup: has an effect",
            ),
            ("- {name: a, kind: oci, binary: /b, class: UP}", "class: "),
            (
                "- {name: a, kind: oci, binary: /b, overhead: {disk: 1}}",
                "overhead: disk",
            ),
            (
                "- {name: a, kind: oci, binary: /b, overhead: {cpu: lots}}",
                "overhead: cpu",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let twice = format!("{GVISOR}\n{GVISOR}\n");
        assert!(
            parse(&twice)
                .unwrap_err()
                .to_string()
                .contains("is there twice")
        );
        let same_class = "- {name: a, kind: oci, binary: /b, class: c}\n- {name: b, kind: oci, binary: /b, class: c}\n";
        assert!(
            parse(same_class)
                .unwrap_err()
                .to_string()
                .contains("class \"c\" is there twice")
        );
        let many: String = (0..33)
            .map(|i| format!("- {{name: a{i}, kind: oci, binary: /b}}\n"))
            .collect();
        assert!(
            parse(&many)
                .unwrap_err()
                .to_string()
                .contains("more than 32")
        );
    }
}
