//! The functions of Kubernetes' environment: names, overloads, parameter and result types, as in signatures.txt.
//!
//! A line there: the overload's id, the function's name, `f` for a function or `m` for a method, the parameters (a
//! method's target first), a colon, and the result. `A` and `B` are type variables.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::functions::{Run, implementation};
use crate::named;
use crate::types::Type;

/// The functions that only mutations have.
const MUTATION_ONLY: &str = "jsonpatch.escapeKey";

#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) id: &'static str,
    pub(crate) method: bool,
    pub(crate) parameters: Vec<Type>,
    pub(crate) result: Type,
    /// How many type variables there are: `A` is 0, `B` is 1.
    pub(crate) variables: u32,
}

pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) overloads: Vec<Overload>,
    pub(crate) run: Run,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

static FUNCTIONS: LazyLock<HashMap<&'static str, Function>> = LazyLock::new(|| {
    let mut functions: HashMap<&'static str, Function> = HashMap::new();
    for line in include_str!("signatures.txt").lines() {
        // A line that can't be read, and a function without implementation, are found by the tests below.
        let Some((name, overload)) = parse(line) else {
            continue;
        };
        let Some(run) = implementation(name) else {
            continue;
        };
        functions
            .entry(name)
            .or_insert_with(|| Function {
                name,
                overloads: Vec::new(),
                run,
            })
            .overloads
            .push(overload);
    }
    functions
});

/// The function of this name, for an environment with or without the functions of mutations.
pub(crate) fn function(name: &str, mutation: bool) -> Option<&'static Function> {
    let functions: &'static HashMap<_, _> = &FUNCTIONS;
    functions
        .get(name)
        .filter(|function| mutation || function.name != MUTATION_ONLY)
}

fn parse(line: &'static str) -> Option<(&'static str, Overload)> {
    let mut words = line.split(' ');
    let (id, name, kind) = (words.next()?, words.next()?, words.next()?);
    let mut variables = 0;
    let mut parameters = Vec::new();
    loop {
        match words.next()? {
            ":" => break,
            word => parameters.push(parse_type(word, &mut variables)?),
        }
    }
    let result = parse_type(words.next()?, &mut variables)?;
    Some((
        name,
        Overload {
            id,
            method: kind == "m",
            parameters,
            result,
            variables,
        },
    ))
}

fn parse_type(word: &'static str, variables: &mut u32) -> Option<Type> {
    if let Some((outer, inner)) = word.strip_suffix(')').and_then(|word| word.split_once('(')) {
        if outer == "map" {
            let (key, value) = inner.split_once(',')?;
            return Some(Type::map(
                parse_type(key, variables)?,
                parse_type(value, variables)?,
            ));
        }
        let inner = parse_type(inner, variables)?;
        return Some(match outer {
            "list" => Type::list(inner),
            "optional" => Type::optional(inner),
            "type" => Type::of(inner),
            _ => return None,
        });
    }
    Some(match word {
        "A" => {
            *variables = (*variables).max(1);
            Type::Variable(0)
        }
        "B" => {
            *variables = 2;
            Type::Variable(1)
        }
        "dyn" => Type::Dyn,
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "duration" => Type::Duration,
        "timestamp" => Type::Timestamp,
        other => Type::Named(named::ALL.into_iter().find(|name| *name == other)?),
    })
}

/// What a name of a type stands for in an expression.
pub(crate) fn type_of_name(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "optional_type" => Type::optional(Type::Dyn),
        "type" => Type::of(Type::Dyn),
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        other => Type::Named(named::ALL.into_iter().find(|name| *name == other)?),
    })
}

#[cfg(test)]
mod tests {
    use super::{FUNCTIONS, parse};
    use crate::functions::implementation;

    #[test]
    fn every_line_can_be_read_and_has_an_implementation() {
        for line in include_str!("signatures.txt").lines() {
            let (name, overload) = parse(line).unwrap_or_else(|| panic!("{line}"));
            assert!(
                implementation(name).is_some(),
                "{name} has no implementation"
            );
            assert!(
                FUNCTIONS[name]
                    .overloads
                    .iter()
                    .any(|known| known.id == overload.id),
                "{line}"
            );
            assert!(
                !overload.method || !overload.parameters.is_empty(),
                "{line}"
            );
        }
    }
}
