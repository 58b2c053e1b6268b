//! What a pod of the load does, and the codes that its containers end with.

use rand::rngs::StdRng;
use rand::{Rng, RngExt};
use serde_json::{Value, json};

/// The image that the machine has.
pub(crate) const IMAGE: &str = "berth.dev/demo:1";
/// In a container's environment: whose it is.
pub(crate) const MARK: &str = "BERTH_KILLS_CONTAINER";

/// What its containers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Policy Never: end with the code after a while.
    Once,
    /// Policy OnFailure: end with the code, then with 0.
    Retry,
    /// Policy OnFailure: run until they are killed, then end with 0.
    RunThenEnd,
    /// Policy Never: run until they are killed.
    RunOnce,
    /// Policy Always: run until they are told to end, then end with the code.
    Steady,
    /// Policy Never: end with the code when the file `gate` is there.
    Gate,
}

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) work: Work,
    /// RuntimeClass; none for runc.
    pub(crate) class: Option<&'static str>,
    /// What containers end with, each with another.
    pub(crate) code: i32,
    pub(crate) containers: usize,
    /// Milliseconds until they end by themselves.
    pub(crate) lasts: u64,
    /// Milliseconds after which it is deleted, however far it is.
    pub(crate) deleted_after: Option<u64>,
    /// Whether it has a volume in memory.
    pub(crate) token: bool,
}

const CLASSES: [Option<&str>; 10] = [
    None,
    None,
    None,
    Some("inside"),
    Some("inside"),
    Some("stranger"),
    Some("stranger"),
    Some("stranger"),
    Some("stranger"),
    Some("gvisor"),
];

impl Plan {
    /// A pod of one container that is not deleted early.
    pub(crate) fn new(name: &str, work: Work, class: Option<&'static str>, code: i32) -> Self {
        Self {
            name: name.to_owned(),
            work,
            class,
            code,
            containers: 1,
            lasts: 100,
            deleted_after: None,
            token: false,
        }
    }

    pub(crate) fn random(name: String, random: &mut StdRng) -> Self {
        let class = CLASSES[random.random_range(0..CLASSES.len())];
        let work = [Work::Once, Work::Once, Work::Retry, Work::Steady][random.random_range(0..4)];
        let early = work == Work::Steady || random.random_range(0..5) == 0;
        Self {
            code: random.random_range(1..100),
            containers: if random.random_range(0..4) == 0 { 2 } else { 1 },
            lasts: random.random_range(0..2000),
            deleted_after: early.then(|| random.random_range(0..6000)),
            token: random.random_range(0..3) == 0,
            ..Self::new(&name, work, class, 0)
        }
    }

    pub(crate) fn container(&self, number: usize) -> String {
        format!("c{number}")
    }

    /// The file in which a container notes that it begins.
    pub(crate) fn note(&self, container: &str) -> String {
        format!("{}-{container}", self.name)
    }

    /// What a container ends with by itself.
    fn own_code(&self, number: usize) -> i32 {
        self.code + i32::try_from(number).expect("few")
    }

    /// What the `run`th run of a container may end with.
    pub(crate) fn code_of_run(&self, container: &str, run: usize) -> i32 {
        let number = container.trim_start_matches('c').parse().expect("a number");
        match self.work {
            Work::Retry | Work::RunThenEnd if run > 1 => 0,
            Work::Once
            | Work::Retry
            | Work::RunThenEnd
            | Work::RunOnce
            | Work::Steady
            | Work::Gate => self.own_code(number),
        }
    }

    /// How often a container may begin when nobody ends it.
    pub(crate) fn runs(&self) -> usize {
        match self.work {
            Work::Retry => 2,
            Work::Once | Work::RunThenEnd | Work::RunOnce | Work::Steady | Work::Gate => 1,
        }
    }

    pub(crate) fn policy(&self) -> &'static str {
        match self.work {
            Work::Once | Work::RunOnce | Work::Gate => "Never",
            Work::Retry | Work::RunThenEnd => "OnFailure",
            Work::Steady => "Always",
        }
    }

    fn script(&self, number: usize) -> String {
        let (code, note) = (self.own_code(number), self.note(&self.container(number)));
        // The message says which run it was, so that a code can be told from another run's.
        let begin = format!(
            "echo run >>/notes/{note}; n=$(wc -l </notes/{note}); echo $n >/dev/termination-log"
        );
        let wait = format!("sleep {}.{:03}", self.lasts / 1000, self.lasts % 1000);
        let forever = "while :; do sleep 1000 & wait; done";
        match self.work {
            Work::Once => format!("{begin}; {wait}; exit {code}"),
            Work::Retry => format!("{begin}; {wait}; [ $n -ge 2 ] && exit 0; exit {code}"),
            Work::RunThenEnd => format!("{begin}; [ $n -ge 2 ] && exit 0; {forever}"),
            Work::RunOnce => format!("{begin}; {forever}"),
            Work::Steady => format!("trap 'exit {code}' TERM; {begin}; {forever}"),
            Work::Gate => {
                format!("{begin}; until [ -e /notes/gate ]; do sleep 0.05; done; exit {code}")
            }
        }
    }

    /// The pod, whose containers write into the directory `notes` of the machine.
    pub(crate) fn pod(&self, notes: &std::path::Path) -> k8s_openapi::api::core::v1::Pod {
        let containers: Vec<Value> = (0..self.containers)
            .map(|number| {
                let name = self.container(number);
                json!({
                    "name": name,
                    "image": IMAGE,
                    "command": ["sh", "-c", self.script(number)],
                    "env": [{"name": MARK, "value": notes.join(self.note(&name))}],
                    "volumeMounts": [{"name": "notes", "mountPath": "/notes"}],
                })
            })
            .collect();
        let pod = json!({
            "metadata": {"name": self.name},
            "spec": {
                "restartPolicy": self.policy(),
                "runtimeClassName": self.class,
                "terminationGracePeriodSeconds": 2,
                "automountServiceAccountToken": self.token,
                "containers": containers,
                "volumes": [{"name": "notes", "hostPath": {"path": notes, "type": "Directory"}}],
            },
        });
        serde_json::from_value(pod).expect("a pod")
    }
}

/// Milliseconds between two kills: often almost none, sometimes long enough for a part to get far.
pub(crate) fn pause(random: &mut impl Rng) -> u64 {
    match random.random_range(0..4) {
        0 => random.random_range(0..30),
        1 | 2 => random.random_range(30..250),
        _ => random.random_range(250..700),
    }
}
