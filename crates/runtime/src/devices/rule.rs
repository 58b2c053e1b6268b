//! The spec's device rules, and those that every container has.
//!
//! Each of reading, writing and making is decided by the last rule that speaks of it for the device, and an access
//! is allowed when all that it asks for is. Version 1's controller decides so for every list that makes sense there:
//! one that begins with a rule for everything and goes on with exceptions that don't overlap.

use std::ops::{BitAnd, BitOr, Not};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::DeviceError;

/// The kernel's `BPF_DEVCG_DEV_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Block = 1,
    Char = 2,
}

/// A set of accesses: the kernel's `BPF_DEVCG_ACC_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Access(pub(super) u8);

impl Access {
    pub(super) const NONE: Self = Self(0);
    pub(super) const MAKE: Self = Self(1);
    pub(super) const READ: Self = Self(2);
    pub(super) const WRITE: Self = Self(4);
    pub(super) const ALL: Self = Self(7);
}

impl BitAnd for Access {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Access {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for Access {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }
}

/// One rule; `None` stands for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) allow: bool,
    pub(super) kind: Option<Kind>,
    pub(super) major: Option<i32>,
    pub(super) minor: Option<i32>,
    pub(super) access: Access,
}

impl Rule {
    /// Reads a rule of the spec's.
    ///
    /// Of a rule for all types, version 1 ignores the numbers and the access: there "allow all types 1:3" allows
    /// all devices. Here a rule says what is written in it.
    pub(super) fn parse(rule: &LinuxDeviceCgroup) -> Result<Self, DeviceError> {
        let wrong = |problem| DeviceError::Rule {
            rule: rule.to_string(),
            problem,
        };
        let kind = match rule.typ().unwrap_or_default() {
            LinuxDeviceType::A => None,
            LinuxDeviceType::B => Some(Kind::Block),
            LinuxDeviceType::C | LinuxDeviceType::U => Some(Kind::Char),
            LinuxDeviceType::P => return Err(wrong("FIFOs are not subject to device rules")),
        };
        let number = |number: Option<i64>, problem| match number {
            None | Some(-1) => Ok(None),
            // The kernel's have 12 and 20 bits.
            Some(number) => match i32::try_from(number) {
                Ok(number) if number >= 0 => Ok(Some(number)),
                Ok(_) | Err(_) => Err(wrong(problem)),
            },
        };
        let mut access = Access::NONE;
        for letter in rule.access().as_deref().unwrap_or_default().chars() {
            access = access
                | match letter {
                    'r' => Access::READ,
                    'w' => Access::WRITE,
                    'm' => Access::MAKE,
                    _ => return Err(wrong("its access has other letters than r, w and m")),
                };
        }
        let parsed = Self {
            allow: rule.allow(),
            kind,
            major: number(rule.major(), "its major number is out of range")?,
            minor: number(rule.minor(), "its minor number is out of range")?,
            access,
        };
        // "Deny" or "allow", and no more, is about everything.
        let blank = Self {
            access: Access::NONE,
            ..Self::everything(parsed.allow)
        };
        Ok(if parsed == blank {
            Self::everything(parsed.allow)
        } else {
            parsed
        })
    }

    pub(super) const fn everything(allow: bool) -> Self {
        Self {
            allow,
            kind: None,
            major: None,
            minor: None,
            access: Access::ALL,
        }
    }

    pub(super) fn is_everything(&self) -> bool {
        *self == Self::everything(self.allow)
    }

    const fn character(major: Option<i32>, minor: Option<i32>, access: Access) -> Self {
        Self {
            allow: true,
            kind: Some(Kind::Char),
            major,
            minor,
            access,
        }
    }
}

/// What every container may use: runc's list, and libcgroups' on version 1.
pub(super) const DEFAULTS: [Rule; 12] = [
    // Making a node opens nothing.
    Rule::character(None, None, Access::MAKE),
    Rule {
        kind: Some(Kind::Block),
        ..Rule::character(None, None, Access::MAKE)
    },
    Rule::character(Some(1), Some(3), Access::ALL), // null
    Rule::character(Some(1), Some(5), Access::ALL), // zero
    Rule::character(Some(1), Some(7), Access::ALL), // full
    Rule::character(Some(1), Some(8), Access::ALL), // random
    Rule::character(Some(1), Some(9), Access::ALL), // urandom
    Rule::character(Some(5), Some(0), Access::ALL), // tty
    Rule::character(Some(5), Some(1), Access::ALL), // console
    Rule::character(Some(5), Some(2), Access::ALL), // ptmx
    Rule::character(Some(136), None, Access::ALL),  // pts/*
    Rule::character(Some(10), Some(200), Access::ALL), // net/tun
];

/// Rules in order, the last being the strongest; what none speaks of is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    /// Of a spec's list and the defaults.
    pub(super) fn of_container(listed: &[LinuxDeviceCgroup]) -> Result<Self, DeviceError> {
        let listed: Result<Vec<Rule>, _> = listed.iter().map(Rule::parse).collect();
        let mut rules = listed?;
        rules.extend(DEFAULTS);
        Ok(Self::new(rules))
    }

    /// Without those that decide nothing.
    pub(super) fn new(mut rules: Vec<Rule>) -> Self {
        if let Some(last) = rules.iter().rposition(Rule::is_everything) {
            rules.drain(..last);
        }
        rules.retain(|rule| rule.access != Access::NONE);
        Self(rules)
    }

    pub(super) fn allow_everything(&self) -> bool {
        self.0.first().is_some_and(Rule::is_everything) && self.0.iter().all(|rule| rule.allow)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Rule> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Rule, String> {
        let rule = serde_json::from_str(json).unwrap();
        Rule::parse(&rule).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_read_as_they_are_written() {
        let all = Rule::everything(true);
        for (json, rule) in [
            (r#"{"allow":false,"access":"rwm"}"#, Rule::everything(false)),
            (r#"{"allow":false}"#, Rule::everything(false)),
            (r#"{"allow":true,"type":"a","access":""}"#, all),
            (
                r#"{"allow":true,"type":"a","major":-1,"minor":-1,"access":"mwr"}"#,
                all,
            ),
            (
                r#"{"allow":true,"major":1,"access":"r"}"#,
                Rule {
                    major: Some(1),
                    access: Access::READ,
                    ..all
                },
            ),
            (
                r#"{"allow":true,"type":"u","minor":0,"access":"rw"}"#,
                Rule::character(None, Some(0), Access::READ | Access::WRITE),
            ),
            (
                r#"{"allow":false,"type":"b","major":8,"minor":1,"access":"mm"}"#,
                Rule {
                    allow: false,
                    kind: Some(Kind::Block),
                    ..Rule::character(Some(8), Some(1), Access::MAKE)
                },
            ),
            (
                r#"{"allow":true,"type":"c","major":1,"minor":3}"#,
                Rule::character(Some(1), Some(3), Access::NONE),
            ),
        ] {
            assert_eq!(parse(json), Ok(rule), "{json}");
        }
    }

    #[test]
    fn rules_that_mean_nothing_are_refused() {
        for (json, problem) in [
            (
                r#"{"allow":true,"type":"p","access":"r"}"#,
                r#"device rule "p *:* r": FIFOs are not subject to device rules"#,
            ),
            (
                r#"{"allow":true,"type":"c","access":"rx"}"#,
                r#"device rule "c *:* rx": its access has other letters than r, w and m"#,
            ),
            (
                r#"{"allow":true,"type":"c","major":-2,"access":"r"}"#,
                r#"device rule "c -2:* r": its major number is out of range"#,
            ),
            (
                r#"{"allow":true,"type":"b","minor":4294967296,"access":"r"}"#,
                r#"device rule "b *:4294967296 r": its minor number is out of range"#,
            ),
        ] {
            assert_eq!(parse(json), Err(problem.to_owned()), "{json}");
        }
    }

    #[test]
    fn only_a_list_without_exceptions_allows_everything() {
        let of = |rules: &[Rule]| Rules::new([rules, &DEFAULTS].concat()).allow_everything();
        let kmsg = Rule::character(Some(1), Some(11), Access::ALL);
        let denied = Rule {
            allow: false,
            ..kmsg
        };
        assert!(of(&[Rule::everything(true)]));
        assert!(of(&[denied, Rule::everything(true), kmsg]));
        assert!(!of(&[Rule::everything(true), denied]));
        assert!(!of(&[Rule::everything(true), Rule::everything(false)]));
        assert!(!of(&[kmsg]));
        assert!(!of(&[]));
        assert!(!Rules::new(Vec::new()).allow_everything());
    }
}
