//! The accumulators of comprehensions, and what their steps cost: as much as in the reference, where they are expressions
//! themselves.

use indexmap::IndexMap;

use crate::ast::Fold;
use crate::budget::EvalError;
use crate::context::Context;
use crate::cost::{CREATE_LIST, CREATE_MAP};
use crate::ops::insert;
use crate::value::{Key, Map, Value};

pub(crate) enum State<'a> {
    /// `all` (decided by false) and `exists` (decided by true), with the first error so far.
    Judged {
        decides: bool,
        decided: bool,
        error: Option<EvalError>,
    },
    /// `exists_one`
    Counted(u64),
    List {
        elements: Vec<Value<'a>>,
        filter: bool,
    },
    Map {
        entries: IndexMap<Key, Value<'a>>,
        merge: bool,
    },
}

impl<'a> State<'a> {
    pub(crate) fn new(fold: Fold) -> Self {
        match fold {
            Fold::All => Self::Judged {
                decides: false,
                decided: false,
                error: None,
            },
            Fold::Exists => Self::Judged {
                decides: true,
                decided: false,
                error: None,
            },
            Fold::ExistsOne => Self::Counted(0),
            Fold::Map => Self::List {
                elements: Vec::new(),
                filter: false,
            },
            Fold::Filter => Self::List {
                elements: Vec::new(),
                filter: true,
            },
            Fold::TransformMap => Self::Map {
                entries: IndexMap::new(),
                merge: false,
            },
            Fold::TransformMapEntry => Self::Map {
                entries: IndexMap::new(),
                merge: true,
            },
        }
    }

    /// What creating the accumulator costs.
    pub(crate) fn creation(&self) -> Option<u64> {
        match self {
            Self::Judged { .. } | Self::Counted(_) => None,
            Self::List { .. } => Some(CREATE_LIST),
            Self::Map { .. } => Some(CREATE_MAP),
        }
    }

    /// What looking whether to go on costs.
    pub(crate) fn condition_cost(&self) -> u64 {
        match self {
            Self::Judged { decides: false, .. } => 2,
            Self::Judged { decides: true, .. } => 3,
            Self::Counted(_) | Self::List { .. } | Self::Map { .. } => 0,
        }
    }

    pub(crate) fn decided(&self) -> bool {
        matches!(self, Self::Judged { decided: true, .. })
    }

    /// Takes the answer for one element of `all` or `exists`.
    pub(crate) fn judge(&mut self, answer: Result<Value<'a>, EvalError>) {
        let Self::Judged {
            decides,
            decided,
            error,
        } = self
        else {
            return;
        };
        match answer {
            Ok(Value::Bool(value)) => *decided = *decided || value == *decides,
            Ok(_) => {
                error.get_or_insert_with(EvalError::no_overload);
            }
            Err(failed) => {
                error.get_or_insert(failed);
            }
        }
    }

    /// Takes what the body gave for one element.
    pub(crate) fn take(
        &mut self,
        context: &mut Context<'_>,
        element: Value<'a>,
        body: Value<'a>,
    ) -> Result<(), EvalError> {
        let held = |body: &Value<'_>| body.as_bool().ok_or_else(EvalError::no_overload);
        match self {
            Self::Judged { .. } => self.judge(Ok(body)),
            Self::Counted(count) => {
                if held(&body)? {
                    context.charge(2)?;
                    *count += 1;
                } else {
                    context.charge(1)?;
                }
            }
            Self::List { elements, filter } => {
                let value = match (*filter, held(&body)) {
                    (false, _) => body,
                    (true, Ok(true)) => {
                        context.charge(1)?;
                        element
                    }
                    (true, Ok(false)) => return context.charge(1),
                    (true, Err(error)) => return Err(error),
                };
                // The accumulator, a list of one, and their sum.
                context.charge(2 + CREATE_LIST)?;
                context.allocate_list(1)?;
                elements.push(value);
            }
            Self::Map { entries, merge } => {
                context.charge(2)?;
                if !*merge {
                    context.allocate_list(2)?;
                    return insert(entries, &element, body);
                }
                let Value::Map(map) = body else {
                    return Err(EvalError::no_overload());
                };
                context.allocate_list(map.len() * 2)?;
                context.charge(u64::try_from(map.len()).unwrap_or(u64::MAX))?;
                let keys = map.keys();
                for index in 0..map.len() {
                    let Some((key, value)) = map.entry(index, &keys) else {
                        break;
                    };
                    insert(entries, &key, value?)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn finish_cost(&self) -> u64 {
        if matches!(self, Self::Counted(_)) {
            2
        } else {
            1
        }
    }

    pub(crate) fn finish(self) -> Result<Value<'a>, EvalError> {
        match self {
            Self::Judged {
                decides,
                decided: true,
                ..
            } => Ok(Value::Bool(decides)),
            Self::Judged {
                error: Some(error), ..
            } => Err(error),
            Self::Judged { decides, .. } => Ok(Value::Bool(!decides)),
            Self::Counted(count) => Ok(Value::Bool(count == 1)),
            Self::List { elements, .. } => Ok(Value::list(elements)),
            Self::Map { entries, .. } => Ok(Value::Map(Map::Made(entries.into()))),
        }
    }
}
