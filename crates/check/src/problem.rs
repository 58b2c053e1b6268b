//! One thing that is wrong, as it is reported.

use serde::Serialize;

use berth_core::advice::Advice;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The API server would refuse the class.
    InvalidClass,
    /// A class of a version that only this server still takes.
    OldVersion,
    /// A file that is no YAML or JSON, or can't be read.
    Unreadable,
    /// A node's configuration has something without effect, or no start goes on with it.
    Configuration,
    /// A handler is configured and cannot run.
    HandlerBroken,
    /// Admission would refuse the pod.
    PodRejected,
    /// The pod with its overhead, or the overhead of a class alone, is more than the quota of a namespace.
    Quota,
    /// A rule of [`Advice`].
    #[serde(untagged)]
    Advised(&'static str),
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where: a file, `cluster`, or a node.
    pub place: String,
    /// Of what: `RuntimeClass gvisor`, `Pod default/a`.
    pub object: String,
    /// What kind of problem.
    pub kind: Kind,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub suggestion: String,
    /// Whether it works nevertheless, and not as somebody may think.
    pub warning: bool,
}

impl Problem {
    /// One that keeps something from working.
    #[must_use]
    pub fn new(
        place: &str,
        object: &str,
        kind: Kind,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) -> Self {
        Self {
            place: place.to_owned(),
            object: object.to_owned(),
            kind,
            message: message.into(),
            suggestion: suggestion.into(),
            warning: false,
        }
    }

    pub(super) fn advised(place: &str, object: &str, advice: Vec<Advice>) -> Vec<Self> {
        let problem = |advice: Advice| Self {
            warning: !advice.is_error(),
            ..Self::new(
                place,
                object,
                Kind::Advised(advice.rule()),
                advice.to_string(),
                advice.hint(),
            )
        };
        advice.into_iter().map(problem).collect()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let warning = if self.warning { "warning: " } else { "" };
        write!(
            f,
            "{}: {}: {warning}{}",
            self.place, self.object, self.message
        )?;
        if !self.suggestion.is_empty() {
            write!(f, "\n    {}", self.suggestion)?;
        }
        Ok(())
    }
}
