use proptest::prelude::*;

use super::*;
use crate::devices::rule::{DEFAULTS, Kind};

/// A device and what is asked of it.
#[derive(Debug, Clone, Copy)]
struct Asked {
    kind: Kind,
    major: u32,
    minor: u32,
    access: Access,
}

/// What the program answers.
fn run(program: &[Instruction], asked: Asked) -> bool {
    let code: Vec<u8> = program
        .iter()
        .flat_map(|instruction| {
            let [offset, more] = instruction.offset.to_ne_bytes();
            let head = [instruction.operation, instruction.registers, offset, more];
            head.into_iter().chain(instruction.immediate.to_ne_bytes())
        })
        .collect();
    let access_type = u32::from(asked.access.0) << 16 | asked.kind as u32;
    let mut context: Vec<u8> = [access_type, asked.major, asked.minor]
        .into_iter()
        .flat_map(u32::to_ne_bytes)
        .collect();
    let machine = rbpf::EbpfVmRaw::new(Some(&code)).unwrap();
    match machine.execute_program(&mut context).unwrap() {
        0 => false,
        1 => true,
        other => panic!("{other} is no verdict"),
    }
}

/// The same by the rules' definition: each access for itself, by the last rule that speaks of it.
fn evaluate(rules: &[Rule], asked: Asked) -> bool {
    [Access::READ, Access::WRITE, Access::MAKE]
        .into_iter()
        .filter(|one| asked.access & *one != Access::NONE)
        .all(|one| {
            let speaks = |rule: &&Rule| {
                let is = |wanted: Option<i32>, number: u32| {
                    wanted.is_none_or(|wanted| u32::try_from(wanted) == Ok(number))
                };
                rule.kind.is_none_or(|kind| kind == asked.kind)
                    && is(rule.major, asked.major)
                    && is(rule.minor, asked.minor)
                    && rule.access & one != Access::NONE
            };
            let last = rules.iter().rev().find(speaks);
            last.is_some_and(|rule| rule.allow)
        })
}

fn rules(lines: &[&str]) -> Vec<Rule> {
    lines.iter().map(|line| rule(line)).collect()
}

/// `+c 1:3 rw`, as the kernel's devices.list has it.
fn rule(line: &str) -> Rule {
    let words: Vec<&str> = line[1..].split([' ', ':']).collect();
    let number = |word: &str| (word != "*").then(|| word.parse().unwrap());
    Rule {
        allow: line.starts_with('+'),
        kind: match words[0] {
            "b" => Some(Kind::Block),
            "c" => Some(Kind::Char),
            _ => None,
        },
        major: number(words[1]),
        minor: number(words[2]),
        access: access(words[3]),
    }
}

fn access(letters: &str) -> Access {
    letters.chars().fold(Access::NONE, |all, letter| {
        all | match letter {
            'r' => Access::READ,
            'w' => Access::WRITE,
            _ => Access::MAKE,
        }
    })
}

#[test]
fn lists_and_what_they_allow() {
    let deny = "-a *:* rwm";
    let allow = "+a *:* rwm";
    for (list, yes, no) in [
        (vec![], vec![], vec!["c 1:3 r", "b 8:0 m"]),
        (vec![deny], vec![], vec!["c 1:3 r", "b 8:0 m"]),
        (vec![allow], vec!["c 1:3 rwm", "b 8:0 w"], vec![]),
        (
            vec![deny, "+c 1:3 rw"],
            vec!["c 1:3 r", "c 1:3 rw"],
            vec!["c 1:3 m", "c 1:3 rwm", "b 1:3 r", "c 1:4 r", "c 3:3 r"],
        ),
        // Accesses allowed one by one are allowed together.
        (
            vec![deny, "+c 1:3 r", "+c 1:3 w"],
            vec!["c 1:3 rw"],
            vec!["c 1:3 rwm"],
        ),
        // Opening for both is no way around a denied one.
        (
            vec![allow, "-c 1:11 w"],
            vec!["c 1:11 r", "c 1:11 rm", "c 1:3 rw"],
            vec!["c 1:11 w", "c 1:11 rw"],
        ),
        // The last one counts.
        (
            vec![deny, "+c 10:* rw", "-c 10:200 w", "+c 10:200 w"],
            vec!["c 10:200 rw", "c 10:1 rw"],
            vec!["c 11:200 r"],
        ),
        (
            vec![deny, "+c 10:* rw", "-c 10:200 r"],
            vec!["c 10:1 rw", "c 10:200 w"],
            vec!["c 10:200 r", "c 10:200 rw"],
        ),
        (vec!["+c 1:3 r", deny], vec![], vec!["c 1:3 r"]),
        (
            vec![deny, "+a *:7 r", "+b *:* w"],
            vec!["c 1:7 r", "b 9:7 rw", "b 0:0 w"],
            vec!["c 1:7 w", "b 9:8 r"],
        ),
        // The largest numbers there are.
        (
            vec!["+b 4095:1048575 r"],
            vec!["b 4095:1048575 r"],
            vec!["b 4094:1048575 r"],
        ),
    ] {
        let program = assemble(&Rules::new(rules(&list)));
        for (device, verdict) in yes
            .iter()
            .map(|device| (device, true))
            .chain(no.iter().map(|device| (device, false)))
        {
            let wanted = rule(&format!("?{device}"));
            let asked = Asked {
                kind: wanted.kind.unwrap(),
                major: wanted.major.unwrap().cast_unsigned(),
                minor: wanted.minor.unwrap().cast_unsigned(),
                access: wanted.access,
            };
            assert_eq!(run(&program, asked), verdict, "{list:?}: {device}");
            assert_eq!(evaluate(&rules(&list), asked), verdict, "{device}");
        }
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Block), Just(Kind::Char)]
}

/// Few numbers, so that rules and devices meet.
fn number() -> impl Strategy<Value = i32> {
    prop_oneof![4 => 0..3_i32, 1 => Just(i32::MAX)]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let fields = (
        any::<bool>(),
        proptest::option::of(kinds()),
        proptest::option::of(number()),
        proptest::option::of(number()),
        (0..8_u8).prop_map(Access),
    );
    fields.prop_map(|(allow, kind, major, minor, access)| Rule {
        allow,
        kind,
        major,
        minor,
        access,
    })
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let number = || number().prop_map(i32::cast_unsigned);
    let fields = (kinds(), number(), number(), (1..8_u8).prop_map(Access));
    fields.prop_map(|(kind, major, minor, access)| Asked {
        kind,
        major,
        minor,
        access,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_program_decides_as_its_rules(
        rules in proptest::collection::vec(any_rule(), 0..12),
        asked in proptest::collection::vec(any_asked(), 8),
    ) {
        let kept = Rules::new(rules.clone());
        let program = assemble(&kept);
        for one in asked {
            prop_assert_eq!(run(&program, one), evaluate(&rules, one), "{:?}", one);
            // Where there is no program, nothing would be denied.
            prop_assert!(!kept.allow_everything() || evaluate(&rules, one));
        }
    }

    #[test]
    fn the_default_devices_are_open_whatever_a_list_says(
        rules in proptest::collection::vec(any_rule(), 0..6),
        default in proptest::sample::select(DEFAULTS.to_vec()),
    ) {
        let program = assemble(&Rules::new([rules, DEFAULTS.to_vec()].concat()));
        let asked = Asked {
            kind: default.kind.unwrap(),
            major: default.major.unwrap_or(7).cast_unsigned(),
            minor: default.minor.unwrap_or(7).cast_unsigned(),
            access: default.access,
        };
        prop_assert!(run(&program, asked));
    }
}
