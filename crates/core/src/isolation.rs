//! How strongly a runtime handler keeps a pod apart from its node, and how strongly a namespace demands it.
//!
//! Three levels, weakest first: [`Isolation::Process`] shares the node's kernel (runc, crun, youki), [`Isolation::Sandbox`]
//! has a kernel in user space between (gVisor), [`Isolation::Vm`] a virtual machine (Kata). Nodes say of their handlers what
//! they are ([`HANDLERS`]), administrators may say it of a class ([`DECLARED`]), and a few names say it by themselves. What a
//! node says counts for that node only, and before everything else: [`NodeHandlers::isolation`].

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Of a namespace: its pods are kept apart at least so. The API server gives it to each pod as well, for scheduler and node.
pub const MINIMUM: &str = "node.berth.dev/minimum-isolation";
/// Of a RuntimeClass: what its administrator says that its handler is.
pub const DECLARED: &str = "node.berth.dev/isolation";
/// Of a Node: what its handlers are, a JSON object of levels by handler; the empty name is the default handler.
pub const HANDLERS: &str = "berth.dev/handler-isolation";
/// Of a Pod: what the handler that runs it is, as its node found.
pub const ATTESTED: &str = "berth.dev/isolation";
/// A longer report of a node about its handlers is not read, in bytes.
pub(crate) const MAX_REPORT_BYTES: usize = 64 << 10;

/// How strongly a pod is kept apart from its node; the order is that of strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Isolation {
    /// Namespaces, cgroups and seccomp of the node's own kernel.
    Process,
    /// A kernel in user space takes the pod's system calls.
    Sandbox,
    /// A kernel of its own behind virtualization.
    Vm,
}

impl Isolation {
    /// All levels, weakest first.
    pub const ALL: [Self; 3] = [Self::Process, Self::Sandbox, Self::Vm];

    /// As annotations have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Sandbox => "sandbox",
            Self::Vm => "vm",
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be one of process, sandbox, vm")]
pub struct NoLevel;

impl FromStr for Isolation {
    type Err = NoLevel;

    fn from_str(text: &str) -> Result<Self, NoLevel> {
        let mut all = Self::ALL.into_iter();
        all.find(|level| level.as_str() == text).ok_or(NoLevel)
    }
}

/// Why nobody knows what a namespace, class or pod demands or declares.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unclear {
    /// The annotation's value is no level.
    #[error("annotation {key} is {value:?}, which is none of process, sandbox, vm")]
    Value {
        /// The annotation.
        key: &'static str,
        /// Its value, shortened.
        value: String,
    },
    /// It is a label, where nothing looks for it.
    #[error("label {0} has no effect: it is an annotation")]
    Label(&'static str),
}

/// The level in an annotation; none where it is not there.
///
/// # Errors
/// [`Unclear`]: what cannot be read demands more than anything can give.
pub fn level(meta: &ObjectMeta, key: &'static str) -> Result<Option<Isolation>, Unclear> {
    if meta.labels.as_ref().is_some_and(|l| l.contains_key(key)) {
        return Err(Unclear::Label(key));
    }
    let Some(value) = meta.annotations.as_ref().and_then(|a| a.get(key)) else {
        return Ok(None);
    };
    value.parse().map(Some).map_err(|NoLevel| Unclear::Value {
        key,
        value: value.chars().take(64).collect(),
    })
}

/// What a class declares; the weakest level where that can't be read.
#[must_use]
pub fn declared_level(class: &ObjectMeta) -> Option<Isolation> {
    level(class, DECLARED).unwrap_or(Some(Isolation::Process))
}

/// What a handler of this name is, by the name alone; none of a name that says nothing. For nodes that don't tell.
///
/// The shims of runwasi run a container without a WebAssembly module as runc does, so they keep nobody apart any better.
#[must_use]
pub fn by_name(handler: &str) -> Option<Isolation> {
    match handler {
        "runc" | "crun" | "youki" | "berth" | "nvidia" | "nvidia-cdi" | "nvidia-legacy" => {
            Some(Isolation::Process)
        }
        "spin" | "wasmtime" | "wasmedge" | "wasmer" | "slight" | "wws" | "lunatic" => {
            Some(Isolation::Process)
        }
        "runsc" | "gvisor" => Some(Isolation::Sandbox),
        name if name == "kata" || name.starts_with("kata-") => Some(Isolation::Vm),
        _ => None,
    }
}

/// What a node says of its handlers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NodeHandlers {
    /// The node's name.
    pub name: String,
    /// Those that can run pods; empty where the node reports none (an old kubelet), which is taken to have every handler.
    pub usable: Vec<String>,
    /// What they are, where it tells.
    pub levels: BTreeMap<String, Isolation>,
    /// Its report cannot be read, so that none of its handlers is better than the weakest.
    pub is_unreadable: bool,
}

impl NodeHandlers {
    /// Of a node.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let usable = node
            .status
            .iter()
            .flat_map(|status| status.runtime_handlers.iter().flatten())
            .map(|handler| handler.name.clone().unwrap_or_default())
            .collect();
        let annotations = node.metadata.annotations.as_ref();
        let (levels, is_unreadable) = match annotations.and_then(|all| all.get(HANDLERS)) {
            None => (BTreeMap::new(), false),
            Some(text) => match read_levels(text) {
                Some(levels) => (levels, false),
                None => (BTreeMap::new(), true),
            },
        };
        Self {
            name: node.metadata.name.clone().unwrap_or_default(),
            usable,
            levels,
            is_unreadable,
        }
    }

    /// Whether the node can run pods by this handler. The empty name is the default handler, which every node has.
    #[must_use]
    pub fn has(&self, handler: &str) -> bool {
        handler.is_empty()
            || self.usable.is_empty()
            || self.usable.iter().any(|name| name == handler)
    }

    /// What a handler is on this node: by the node's word, else by the class's, else by its name. `None`: nobody knows.
    #[must_use]
    pub fn isolation(&self, handler: &str, declared: Option<Isolation>) -> Option<Isolation> {
        if self.is_unreadable {
            return Some(Isolation::Process);
        }
        let told = self.levels.get(handler).copied();
        told.or(declared).or_else(|| by_name(handler))
    }
}

/// The levels in a node's report by handler; none where it is too long or no such report.
pub(crate) fn read_levels(text: &str) -> Option<BTreeMap<String, Isolation>> {
    if text.len() > MAX_REPORT_BYTES {
        return None;
    }
    let levels: BTreeMap<String, String> = serde_json::from_str(text).ok()?;
    let parsed = levels.into_iter().map(|(handler, level)| {
        // A level that a newer node knows is no better than the weakest.
        (handler, level.parse().unwrap_or(Isolation::Process))
    });
    Some(parsed.collect())
}

/// What a pod runs by: its class's handler and what the class declares, or the nodes' default handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RunsBy<'a> {
    /// The class; empty for none.
    pub class: &'a str,
    /// Its handler; empty for the default one.
    pub handler: &'a str,
    /// What it declares.
    pub declared: Option<Isolation>,
}

impl fmt::Display for RunsBy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.class {
            "" => f.write_str("a pod without RuntimeClass"),
            class => write!(f, "RuntimeClass {class:?}"),
        }
    }
}

/// Why pods are not kept apart as much as is demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shortfall {
    /// This is all that is to be had.
    Weaker(Isolation),
    /// Nobody knows what the handler is.
    Unknown,
}

/// Whether some node could keep a pod apart as much as `minimum`. Nodes that could not are kept from it by scheduler and node;
/// what the class itself declares binds everywhere. Without any node that has the handler the class's and the name's word counts.
///
/// # Errors
/// [`Shortfall`]: the most that there is.
pub fn reaches<'n>(
    runs_by: RunsBy<'_>,
    minimum: Isolation,
    nodes: impl IntoIterator<Item = &'n NodeHandlers>,
) -> Result<(), Shortfall> {
    if minimum == Isolation::Process {
        return Ok(());
    }
    if let Some(declared) = runs_by.declared.filter(|declared| *declared < minimum) {
        return Err(Shortfall::Weaker(declared));
    }
    let found: Vec<Option<Isolation>> = nodes
        .into_iter()
        .filter(|node| node.has(runs_by.handler))
        .map(|node| node.isolation(runs_by.handler, runs_by.declared))
        .collect();
    let best = if found.is_empty() {
        runs_by.declared.or_else(|| by_name(runs_by.handler))
    } else {
        found.into_iter().flatten().max()
    };
    match best {
        Some(best) if best >= minimum => Ok(()),
        Some(best) => Err(Shortfall::Weaker(best)),
        None if runs_by.handler.is_empty() => Err(Shortfall::Weaker(Isolation::Process)),
        None => Err(Shortfall::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(handlers: &[&str], levels: serde_json::Value) -> NodeHandlers {
        let usable: Vec<_> = handlers.iter().map(|h| json!({"name": h})).collect();
        let annotations = match levels {
            serde_json::Value::Null => json!({}),
            serde_json::Value::String(text) => json!({HANDLERS: text}),
            levels => json!({HANDLERS: levels.to_string()}),
        };
        let node = json!({"metadata": {"name": "n", "annotations": annotations}, "status": {"runtimeHandlers": usable}});
        NodeHandlers::of(&serde_json::from_value(node).unwrap())
    }

    #[test]
    fn levels_are_ordered_and_read_back() {
        assert!(Isolation::Process < Isolation::Sandbox && Isolation::Sandbox < Isolation::Vm);
        for level in Isolation::ALL {
            assert_eq!(level.to_string().parse(), Ok(level));
        }
        for bad in ["", "VM", " vm", "vm,sandbox", "none"] {
            assert_eq!(bad.parse::<Isolation>(), Err(NoLevel), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_level_and_what_is_a_label_is_unclear() {
        let meta = |body: serde_json::Value| serde_json::from_value::<ObjectMeta>(body).unwrap();
        assert_eq!(level(&meta(json!({})), MINIMUM), Ok(None));
        let good = meta(json!({"annotations": {MINIMUM: "vm"}}));
        assert_eq!(level(&good, MINIMUM), Ok(Some(Isolation::Vm)));
        let bad = meta(json!({"annotations": {MINIMUM: "x".repeat(1000)}}));
        let error = level(&bad, MINIMUM).unwrap_err().to_string();
        assert!(
            error.len() < 200 && error.contains("none of process, sandbox, vm"),
            "{error}"
        );
        let label = meta(json!({"labels": {MINIMUM: "vm"}}));
        assert_eq!(level(&label, MINIMUM), Err(Unclear::Label(MINIMUM)));
    }

    #[test]
    fn the_most_that_a_node_with_the_handler_gives() {
        use Isolation::{Process, Sandbox, Vm};
        let by = |handler, declared| RunsBy {
            class: "c",
            handler,
            declared,
        };
        let stock = || node(&["", "runc", "kata", "odd"], json!(null));
        let kata = || {
            node(
                &["", "runc", "kata"],
                json!({"": "process", "runc": "process", "kata": "vm"}),
            )
        };
        // The same name, and another runtime behind it.
        let fake = || node(&["", "kata"], json!({"": "process", "kata": "process"}));
        let gvisor = || node(&["", "runsc"], json!({"": "sandbox", "runsc": "sandbox"}));
        let weaker = |level| Err(Shortfall::Weaker(level));
        for (runs_by, minimum, nodes, want) in [
            (by("runc", None), Process, vec![kata()], Ok(())),
            (by("runc", None), Sandbox, vec![kata()], weaker(Process)),
            (by("kata", None), Vm, vec![kata()], Ok(())),
            (by("kata", None), Vm, vec![kata(), fake()], Ok(())),
            (by("kata", None), Vm, vec![fake()], weaker(Process)),
            // What is declared is no more than what the nodes say.
            (by("kata", Some(Vm)), Vm, vec![fake()], weaker(Process)),
            (by("kata", Some(Sandbox)), Vm, vec![kata()], weaker(Sandbox)),
            (by("kata", None), Vm, vec![stock()], Ok(())),
            (
                by("odd", None),
                Sandbox,
                vec![stock()],
                Err(Shortfall::Unknown),
            ),
            (by("odd", Some(Vm)), Vm, vec![stock()], Ok(())),
            (by("odd", None), Process, vec![], Ok(())),
            // Nobody has it yet.
            (by("runsc", None), Sandbox, vec![], Ok(())),
            (by("runsc", None), Vm, vec![kata()], weaker(Sandbox)),
            (
                by("odd", None),
                Sandbox,
                vec![kata()],
                Err(Shortfall::Unknown),
            ),
            // No class: the default handler.
            (by("", None), Sandbox, vec![kata()], weaker(Process)),
            (by("", None), Sandbox, vec![gvisor()], Ok(())),
            (by("", None), Sandbox, vec![stock()], weaker(Process)),
            // What a node says and cannot be read.
            (
                by("kata", Some(Vm)),
                Vm,
                vec![node(&["kata"], json!("{"))],
                weaker(Process),
            ),
            (
                by("kata", None),
                Vm,
                vec![node(&["kata"], json!({"kata": "quantum"}))],
                weaker(Process),
            ),
        ] {
            let got = reaches(runs_by, minimum, &nodes);
            assert_eq!(got, want, "{runs_by:?} {minimum} {nodes:?}");
        }
    }

    #[test]
    fn a_report_without_end_is_not_read() {
        let many: BTreeMap<String, &str> =
            (0..5000).map(|i| (format!("kata-{i:012}"), "vm")).collect();
        let node = node(&["kata-000000000001"], json!(many));
        assert!(node.is_unreadable);
    }
}
