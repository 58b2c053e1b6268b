//! Whether a pod did what it was to do, as far as its notes and the API tell.

use crate::plan::{Plan, Work};
use crate::seen::{End, PodSeen};

/// How a process ends that is killed.
const KILLED: i32 = 128 + 9;
/// The code of a container that had ended by itself when its shim was killed, and the reason that stands beside it.
const UNKNOWN: (i32, &str) = (255, "Unknown");

/// What was done to a pod.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    /// How often its shim was killed.
    pub(crate) shim_kills: usize,
    /// It was deleted before it was over.
    pub(crate) is_cut_short: bool,
}

/// What is wrong with a pod that is gone, or over. `notes` are the files of its containers.
pub(crate) fn faults(plan: &Plan, seen: &PodSeen, done: Done, notes: &[String]) -> Vec<String> {
    let mut faults = seen.contradictions.clone();
    for (number, note) in notes.iter().enumerate() {
        let name = plan.container(number);
        let runs = note.lines().filter(|line| *line == "run").count();
        let most = plan.runs()
            + if plan.policy() == "Never" {
                0
            } else {
                done.shim_kills
            };
        if runs > most {
            faults.push(format!("{name} ran {runs} times, not {most}"));
        }
        let undisturbed = done.shim_kills == 0 && !done.is_cut_short;
        if undisturbed && runs != plan.runs() {
            faults.push(format!("{name} ran {runs} times, not {}", plan.runs()));
        }
        if undisturbed && !seen.ends.values().any(|end| end.container == name) {
            faults.push(format!("the end of {name} is not told"));
        }
    }
    let mut killed = 0;
    for end in seen.ends.values() {
        if is_own(plan, end) {
            continue;
        }
        let is_lost = (end.code, end.reason.as_str()) == UNKNOWN;
        killed += usize::from(is_lost || end.code == KILLED);
        let may_be_killed = match is_lost {
            true => done.shim_kills > 0,
            false => end.code == KILLED,
        };
        let most = done.shim_kills * plan.containers;
        if !may_be_killed || killed > most && !done.is_cut_short {
            faults.push(format!("a code that it did not end with: {end:?}"));
        }
    }
    if !done.is_cut_short && done.shim_kills == 0 && plan.work != Work::Steady {
        let fails = plan.policy() == "Never";
        let wanted = if fails { "Failed" } else { "Succeeded" };
        if seen.phase() != wanted {
            faults.push(format!("its phase is {:?}, not {wanted}", seen.phase()));
        }
    }
    let context = || format!("{plan:?} {done:?} notes {notes:?} ends {:#?}", seen.ends);
    let faults = faults.into_iter();
    faults
        .map(|fault| format!("{}: {fault}; {}", plan.name, context()))
        .collect()
}

/// Whether it is the code that the run had which wrote the message.
fn is_own(plan: &Plan, end: &End) -> bool {
    let run = end.message.parse::<usize>();
    run.is_ok_and(|run| end.code == plan.code_of_run(&end.container, run))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost() -> PodSeen {
        let mut lost = seen(255, "");
        let ends = lost.ends.values_mut();
        ends.for_each(|end| end.reason = UNKNOWN.1.to_owned());
        lost
    }

    fn seen(code: i32, message: &str) -> PodSeen {
        let end = End {
            container: "c0".to_owned(),
            code,
            reason: String::new(),
            message: message.to_owned(),
        };
        let mut seen = PodSeen::default();
        seen.ends.insert("id".to_owned(), end);
        let status = k8s_openapi::api::core::v1::PodStatus {
            phase: Some("Failed".to_owned()),
            ..Default::default()
        };
        seen.pod.status = Some(status);
        seen
    }

    #[test]
    fn a_second_run_and_another_code_are_faults() {
        let plan = Plan::new("p", Work::Once, None, 7);
        let killed = Done {
            shim_kills: 1,
            is_cut_short: false,
        };
        let none = Done::default();
        for (seen, done, notes, count) in [
            (seen(7, "1"), none, "run\n", 0),
            (seen(7, "1"), none, "run\nrun\n", 2),
            (seen(7, "1"), killed, "run\nrun\n", 1),
            (seen(8, "1"), none, "run\n", 1),
            (seen(137, "1"), none, "run\n", 1),
            (seen(137, "1"), killed, "run\n", 0),
            (seen(255, ""), killed, "run\n", 1),
            (lost(), killed, "run\n", 0),
            (lost(), none, "run\n", 1),
            (seen(7, "1"), none, "", 1),
        ] {
            let found = faults(&plan, &seen, done, &[notes.to_owned()]);
            assert_eq!(found.len(), count, "{found:?}");
        }
    }
}
