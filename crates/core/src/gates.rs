//! Feature gates: parsed once from `--feature-gates`, asked everywhere.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A gate that berth knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// The class of a pod is honoured; off: the field is dropped on create and the default handler runs.
    RuntimeClass,
    /// A class's node selector and tolerations reach its pods.
    RuntimeClassScheduling,
    /// A class's overhead is set on its pods and counted.
    PodOverhead,
}

impl Gate {
    /// Every gate, by name.
    pub const ALL: [Self; 3] = [
        Self::PodOverhead,
        Self::RuntimeClass,
        Self::RuntimeClassScheduling,
    ];

    /// The name users write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RuntimeClass => "RuntimeClass",
            Self::RuntimeClassScheduling => "RuntimeClassScheduling",
            Self::PodOverhead => "PodOverhead",
        }
    }
}

/// The settings of all gates; every gate is on by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureGates {
    /// See [`Gate::RuntimeClass`].
    pub runtime_class: bool,
    /// See [`Gate::RuntimeClassScheduling`].
    pub runtime_class_scheduling: bool,
    /// See [`Gate::PodOverhead`].
    pub pod_overhead: bool,
}

impl Default for FeatureGates {
    fn default() -> Self {
        Self {
            runtime_class: true,
            runtime_class_scheduling: true,
            pod_overhead: true,
        }
    }
}

/// A `--feature-gates` value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GateError {
    /// No such gate.
    #[error("unknown feature gate {0:?}: the known ones are {known}", known = known())]
    Unknown(String),
    /// Not `Name=true` or `Name=false`.
    #[error("feature gate {0:?}: write it as Name=true or Name=false; the known ones are {known}", known = known())]
    Malformed(String),
}

fn known() -> String {
    Gate::ALL
        .map(|g| format!("{}=true|false (default=true)", g.name()))
        .join(", ")
}

impl FeatureGates {
    /// Whether a gate is on. `RuntimeClassScheduling` and `PodOverhead` are parts of `RuntimeClass`
    /// and off with it.
    #[must_use]
    pub const fn enabled(&self, gate: Gate) -> bool {
        match gate {
            Gate::RuntimeClass => self.runtime_class,
            Gate::RuntimeClassScheduling => self.runtime_class && self.runtime_class_scheduling,
            Gate::PodOverhead => self.runtime_class && self.pod_overhead,
        }
    }

    fn set(&mut self, gate: Gate, on: bool) {
        match gate {
            Gate::RuntimeClass => self.runtime_class = on,
            Gate::RuntimeClassScheduling => self.runtime_class_scheduling = on,
            Gate::PodOverhead => self.pod_overhead = on,
        }
    }
}

/// `A=true,B=false`; empty text and empty items leave the defaults; the last setting of a gate wins.
impl FromStr for FeatureGates {
    type Err = GateError;

    fn from_str(text: &str) -> Result<Self, GateError> {
        let mut gates = Self::default();
        for item in text.split(',').map(str::trim).filter(|i| !i.is_empty()) {
            let (name, value) = item
                .split_once('=')
                .ok_or_else(|| GateError::Malformed(item.to_owned()))?;
            let gate = Gate::ALL
                .into_iter()
                .find(|g| g.name() == name.trim())
                .ok_or_else(|| GateError::Unknown(name.trim().to_owned()))?;
            let on = match value.trim() {
                "true" | "True" | "TRUE" | "t" | "T" | "1" => true,
                "false" | "False" | "FALSE" | "f" | "F" | "0" => false,
                _ => return Err(GateError::Malformed(item.to_owned())),
            };
            gates.set(gate, on);
        }
        Ok(gates)
    }
}

impl fmt::Display for FeatureGates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PodOverhead={},RuntimeClass={},RuntimeClassScheduling={}",
            self.pod_overhead, self.runtime_class, self.runtime_class_scheduling
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        let all = FeatureGates::default();
        for (text, want) in [
            ("", all),
            ("RuntimeClass=true", all),
            (
                "RuntimeClass=false",
                FeatureGates {
                    runtime_class: false,
                    ..all
                },
            ),
            (
                " PodOverhead=false , RuntimeClassScheduling=0,",
                FeatureGates {
                    runtime_class_scheduling: false,
                    pod_overhead: false,
                    ..all
                },
            ),
            ("PodOverhead=false,PodOverhead=true", all),
        ] {
            assert_eq!(text.parse::<FeatureGates>(), Ok(want), "{text:?}");
        }
        assert_eq!(all.to_string().parse(), Ok(all));
    }

    #[test]
    fn parts_are_off_with_the_whole() {
        let off: FeatureGates = "RuntimeClass=false".parse().unwrap();
        assert!(Gate::ALL.into_iter().all(|g| !off.enabled(g)));
    }

    #[test]
    fn unknown_and_malformed_gates_list_the_known_ones() {
        for text in [
            "Frob=true",
            "RuntimeClass",
            "RuntimeClass=maybe",
            "runtimeclass=true",
        ] {
            let message = text.parse::<FeatureGates>().unwrap_err().to_string();
            assert!(
                Gate::ALL.into_iter().all(|g| message.contains(g.name())),
                "{message}"
            );
        }
    }
}
