//! The Common Expression Language with the environment that Kubernetes 1.36 gives it.
//!
//! Pure: no I/O, no clock. [`Env`] declares variables and compiles an expression to a [`Program`]; a program estimates its
//! own worst cost and is evaluated over [`Variables`], within a [`Budget`].
//!
//! ```
//! use berth_cel::{Bindings, Budget, Decl, Env, PER_OBJECT_LIMIT, Value};
//!
//! let schema = serde_json::json!({
//!     "type": "object",
//!     "properties": {"replicas": {"type": "integer"}, "max-replicas": {"type": "integer"}},
//! });
//! let decl = std::sync::Arc::new(Decl::from_schema(&schema, false).unwrap());
//! let env = Env::new().data("self", decl.clone());
//!
//! let error = env.compile("self.replica <= 3").unwrap_err();
//! assert_eq!(error.issues()[0].message, "undefined field 'replica'");
//!
//! let program = env.compile("self.replicas <= self.max__dash__replicas").unwrap();
//! assert!(program.cost().max < 100);
//! let data = serde_json::json!({"replicas": 3, "max-replicas": 2});
//! let variables = Bindings::new().with("self", Value::typed(&data, &decl).unwrap());
//! let mut budget = Budget::new(PER_OBJECT_LIMIT);
//! assert_eq!(program.evaluate(&variables, &mut budget).unwrap().as_bool(), Some(false));
//! ```
//!
//! # For custom resources
//!
//! [`Decl::from_schema`] makes the declaration of a part of a structural schema (`self`, `oldSelf`); `Env::optional` is
//! for `optionalOldSelf`. Property names in expressions are those of [`escape`]. [`Program::uses`] says whether a rule is
//! a transition rule, [`Program::cost`] and [`Decl::max_cardinality`] what it can cost.
//!
//! # For admission
//!
//! `object`, `oldObject`, `params` are `Env::data(name, Arc::new(Decl::of(DeclKind::Dyn)))`, with
//! [`Value::json`] as value or [`Value::Null`]; `request` is [`request_decl`], `namespaceObject` is [`namespace_decl`]
//! with [`Value::typed`] as value. `variables` is an object whose fields are
//! [`DeclKind::Typed`] with the [`Program::output`] of each, and its value a [`Value::Lazy`] that evaluates a variable
//! when it is asked for, out of the budget that it is given, and keeps the result. `authorizer` is declared by
//! [`Env::authorizer`] and has a [`Check`] as value, asked through [`Authorizer`]. [`Env::mutation`] lets expressions make
//! `Object{spec: Object.spec{replicas: 1}}` and `JSONPatch{op: "add", path: "/x", value: 1}`: both are
//! [`Value::Message`], and [`Value::to_json`] makes what is to be applied of them ([`Message::check_names`] says whether
//! the types' names are the paths where they stand).
//!
//! # Bounds
//!
//! Whoever writes an expression is not trusted. An expression has at most 100,000 code points and nests 250 deep; an
//! evaluation costs at most [`PER_CALL_LIMIT`] and the [`Budget`], counted as Kubernetes counts and beyond that for what
//! Kubernetes counts nothing for (comparing deep objects, compiling regular expressions that aren't literals); the
//! values that it makes take at most 64 MiB. [`EvalError::is_cost_limit`] says that an evaluation was stopped.

mod admission;
mod ast;
mod authorizer;
mod budget;
mod builder;
mod check;
mod cidr;
mod context;
mod cost;
mod env;
mod escape;
mod estimate;
mod eval;
mod fold;
mod format;
mod functions;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod info;
mod json;
mod lexer;
mod literals;
mod macros;
mod named;
mod ops;
mod parser;
mod program;
mod regexp;
mod schema;
mod semver;
mod signatures;
mod source;
mod substitutions;
mod time;
mod types;
mod url;
mod value;
mod variables;

pub use admission::{namespace_decl, request_decl, variables_decl};
pub use authorizer::{Authorizer, Check, Decision, Question};
pub use budget::{Budget, EvalError, MATCH_CONDITIONS_LIMIT, PER_CALL_LIMIT, PER_OBJECT_LIMIT};
pub use cidr::Cidr;
pub use env::Env;
pub use escape::escape;
pub use estimate::Estimate;
pub use format::Format;
pub use program::Program;
pub use regexp::Regexp;
pub use semver::Semver;
pub use source::{CompileError, Issue};
pub use time::{Instant, is_date, is_date_time, is_duration};
pub use types::{Composite, Parts, Type};
pub use types::{Decl, DeclKind, FieldDecl, ListKind, ObjectDecl};
pub use url::Url;
pub use value::{Key, Lazy, List, Map, Message, Text, Value};
pub use variables::{Bindings, Variables};
