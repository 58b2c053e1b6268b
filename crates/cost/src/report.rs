//! What is reported of the costs: the form of `/stats/overhead`.

use serde::{Deserialize, Serialize};

use crate::parts::{Parts, State};

/// How a number is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Half of all are not above it.
    pub p50: u64,
    /// 99 of a hundred are not above it.
    pub p99: u64,
    /// None is above it.
    pub max: u64,
}

/// What sandboxes of a class cost, idle or under load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    /// How often a sandbox was measured.
    pub samples: u64,
    /// Memory, in bytes.
    pub memory_bytes: Quantiles,
    /// Processor, in millionths of a core.
    pub cpu_micro_cores: Quantiles,
    /// The mean of memory by parts, in bytes.
    pub memory_parts: Parts,
    /// The mean of the processor by parts, in millionths of a core.
    pub cpu_parts: Parts,
}

/// What a class' sandboxes cost on one node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassReport {
    /// The RuntimeClass; empty for pods without one.
    #[serde(default)]
    pub runtime_class: String,
    /// The handler that ran them; empty for the runtime's default.
    #[serde(default)]
    pub handler: String,
    /// How many sandboxes were measured.
    pub sandboxes: u64,
    /// The first measurement, in seconds since 1970.
    pub since_seconds: i64,
    /// The last one.
    pub until_seconds: i64,
    /// While their containers did nothing.
    pub idle: StateReport,
    /// While they worked.
    pub load: StateReport,
}

impl ClassReport {
    /// The part for a state.
    #[must_use]
    pub fn state(&self, state: State) -> &StateReport {
        match state {
            State::Idle => &self.idle,
            State::Load => &self.load,
        }
    }
}

/// The last measurement of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxReport {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The RuntimeClass; empty for none.
    #[serde(default)]
    pub runtime_class: String,
    /// The handler.
    #[serde(default)]
    pub handler: String,
    /// Idle or under load.
    pub state: State,
    /// Memory by parts, in bytes.
    pub memory_bytes: Parts,
    /// Processor by parts, in millionths of a core.
    pub cpu_micro_cores: Parts,
}

/// What a node says of all classes. Its word counts for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// The node's name, by its own word.
    pub node: String,
    /// How often it measures, in seconds.
    pub period_seconds: u64,
    /// By class and handler.
    pub classes: Vec<ClassReport>,
    /// Its sandboxes, as they were measured last.
    #[serde(default)]
    pub sandboxes: Vec<SandboxReport>,
}
