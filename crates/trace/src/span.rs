//! A span.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{SpanContext, SpanId, TraceId};

/// Characters of a name or of an attribute, which somebody else may have chosen.
const MAX_TEXT: usize = 256;

/// Which part of berth a span is of: its service's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The API server.
    ApiServer,
    /// The scheduler.
    Scheduler,
    /// The node agent.
    Node,
    /// The container runtime.
    Cri,
    /// A pod's shim.
    Shim,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ApiServer,
        Self::Scheduler,
        Self::Node,
        Self::Cri,
        Self::Shim,
    ];

    /// `service.name`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "apiserver",
            Self::Scheduler => "scheduler",
            Self::Node => "node",
            Self::Cri => "cri",
            Self::Shim => "shim",
        }
    }
}

/// What a span is to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A stage.
    Internal,
    /// A request that was answered.
    Server,
    /// A call to somebody else.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text, of at most 256 characters.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.chars().take(MAX_TEXT).collect())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// Something that took its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Whose it is.
    pub part: Part,
    /// The trace.
    pub trace: TraceId,
    /// Its own id.
    pub id: SpanId,
    /// The span that it is part of.
    pub parent: Option<SpanId>,
    /// What was done.
    pub name: Cow<'static, str>,
    /// What it is.
    pub kind: Kind,
    /// When it began.
    pub begun: SystemTime,
    /// When it ended; not before it began.
    pub ended: SystemTime,
    /// Whether it failed.
    pub failed: bool,
    /// More about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// A span of another trace that has to do with it.
    pub link: Option<SpanContext>,
}

impl Span {
    /// One that begins now, and as things stand ends at once.
    #[must_use]
    pub fn new(
        part: Part,
        trace: TraceId,
        parent: Option<SpanId>,
        name: impl Into<Cow<'static, str>>,
    ) -> Self {
        let now = SystemTime::now();
        Self {
            part,
            trace,
            id: SpanId::random(),
            parent,
            name: shortened(name.into()),
            kind: Kind::Internal,
            begun: now,
            ended: now,
            failed: false,
            attributes: Vec::new(),
            link: None,
        }
    }

    /// With an attribute.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.attributes.push((key, value.into()));
        self
    }

    /// It ends; a clock that was set back in the meantime does not let it end before it began.
    pub fn end(&mut self, at: SystemTime) {
        self.ended = at.max(self.begun);
    }
}

fn shortened(name: Cow<'static, str>) -> Cow<'static, str> {
    if name.chars().nth(MAX_TEXT).is_some() {
        return name.chars().take(MAX_TEXT).collect::<String>().into();
    }
    name
}
