//! Clients that make pods, wait for them to end or don't, delete them, and look whether all was well.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

use crate::LIMIT;
use crate::judge::{self, Done};
use crate::machine::Machine;
use crate::plan::Plan;
use crate::seen::{PodSeen, Seen};

/// A pod whose shim was killed so often is not waited for: its back-off grows.
const ENOUGH: usize = 2;
const LOOK: Duration = Duration::from_millis(25);

pub(crate) struct Load {
    seed: u64,
    pub(crate) api: Api<Pod>,
    pub(crate) seen: Seen,
    notes: PathBuf,
    stopped: AtomicBool,
    /// When the last kill was.
    calm_since: Mutex<Option<Instant>>,
    shim_kills: Mutex<BTreeMap<String, usize>>,
    /// Ids that were seen of sandboxes and containers.
    ids: Mutex<BTreeSet<String>>,
    /// Where shims were seen to listen.
    sockets: Mutex<BTreeSet<String>>,
    faults: Mutex<Vec<String>>,
    /// Pods that went all their way, and those that were deleted before.
    whole: AtomicUsize,
    cut_short: AtomicUsize,
    following: JoinHandle<()>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Load {
    pub(crate) async fn start(machine: &Machine, seed: u64) -> Self {
        let client = machine.client().await.expect("a client");
        let api: Api<Pod> = Api::namespaced(client, "default");
        let seen = Seen::default();
        Self {
            seed,
            following: tokio::spawn(seen.clone().follow(api.clone())),
            api,
            seen,
            notes: machine.notes(),
            stopped: AtomicBool::new(false),
            calm_since: Mutex::new(Some(Instant::now())),
            shim_kills: Mutex::default(),
            ids: Mutex::default(),
            sockets: Mutex::default(),
            faults: Mutex::default(),
            whole: AtomicUsize::new(0),
            cut_short: AtomicUsize::new(0),
        }
    }

    /// Makes pods until it is stopped.
    pub(crate) async fn run(self: Arc<Self>, client: u64) {
        let mut random = StdRng::seed_from_u64(self.seed.wrapping_add(client));
        let mut number = 0;
        while !self.stopped.load(Ordering::Relaxed) {
            number += 1;
            let plan = Plan::random(format!("c{client}-{number}"), &mut random);
            self.live(&plan).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..100))).await;
        }
    }

    async fn live(&self, plan: &Plan) {
        self.create(plan).await;
        let is_over = match plan.deleted_after {
            Some(after) => {
                tokio::time::sleep(Duration::from_millis(after)).await;
                self.seen.pod(&plan.name).is_over()
            }
            None => {
                self.wait(plan, "to be over", |seen| {
                    seen.is_over() || self.shim_kills(&plan.name) >= ENOUGH
                })
                .await;
                self.seen.pod(&plan.name).is_over()
            }
        };
        let counted = if is_over {
            &self.whole
        } else {
            &self.cut_short
        };
        counted.fetch_add(1, Ordering::Relaxed);
        self.delete(&plan.name).await;
        self.wait(plan, "to be gone", |seen| seen.is_gone).await;
        self.judge(plan, !is_over);
    }

    pub(crate) async fn create(&self, plan: &Plan) {
        let pod = plan.pod(&self.notes);
        let made = self.api.create(&PostParams::default(), &pod).await;
        made.expect("a pod is made");
    }

    pub(crate) async fn delete(&self, name: &str) {
        let deleted = self.api.delete(name, &DeleteParams::default()).await;
        deleted.expect("a pod is deleted");
    }

    /// Waits until a pod is as it should be; false, and a fault, when it takes too long. As long as parts are killed it may take
    /// for ever: on a busy machine they don't get far between two kills.
    pub(crate) async fn wait(
        &self,
        plan: &Plan,
        what: &str,
        holds: impl Fn(&PodSeen) -> bool,
    ) -> bool {
        let begun = Instant::now();
        loop {
            let seen = self.seen.pod(&plan.name);
            if holds(&seen) {
                return true;
            }
            let calm = *self.calm_since.lock();
            if calm.is_some_and(|calm| calm.max(begun).elapsed() > LIMIT) {
                let status = serde_json::to_string(&seen.pod.status).unwrap_or_default();
                self.fault(format!("waited {LIMIT:?} for {plan:?} {what}: {status}"));
                return false;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks at a pod that is over or gone.
    pub(crate) fn judge(&self, plan: &Plan, is_cut_short: bool) {
        let done = Done {
            shim_kills: self.shim_kills(&plan.name),
            is_cut_short,
        };
        let notes: Vec<String> = (0..plan.containers)
            .map(|number| self.note(plan, number))
            .collect();
        let faults = judge::faults(plan, &self.seen.pod(&plan.name), done, &notes);
        faults.into_iter().for_each(|fault| self.fault(fault));
    }

    /// What a container has noted.
    pub(crate) fn note(&self, plan: &Plan, number: usize) -> String {
        let name = plan.note(&plan.container(number));
        std::fs::read_to_string(self.notes.join(name)).unwrap_or_default()
    }

    fn shim_kills(&self, pod: &str) -> usize {
        self.shim_kills.lock().get(pod).copied().unwrap_or(0)
    }

    /// Takes note that a pod's shim is killed.
    pub(crate) fn note_shim_kill(&self, pod: &str) {
        *self.shim_kills.lock().entry(pod.to_owned()).or_default() += 1;
    }

    pub(crate) fn note_ids(&self, (ids, sockets): (Vec<String>, Vec<String>)) {
        self.ids.lock().extend(ids);
        self.sockets.lock().extend(sockets);
    }

    pub(crate) fn sockets(&self) -> Vec<String> {
        self.sockets.lock().iter().cloned().collect()
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        self.ids.lock().iter().cloned().collect()
    }

    pub(crate) fn fault(&self, fault: String) {
        println!("FAULT {fault}");
        self.faults.lock().push(fault);
    }

    pub(crate) fn faults(&self) -> Vec<String> {
        self.faults.lock().clone()
    }

    /// The kills begin, or are over.
    pub(crate) fn note_calm(&self, is_calm: bool) {
        *self.calm_since.lock() = is_calm.then(Instant::now);
    }

    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn whole(&self) -> usize {
        self.whole.load(Ordering::Relaxed)
    }

    pub(crate) fn report(&self) -> String {
        let killed = self.shim_kills.lock().len();
        let cut = self.cut_short.load(Ordering::Relaxed);
        let whole = self.whole();
        format!(
            "{whole} pods went all their way, {cut} were deleted before, of {killed} the shim was killed"
        )
    }
}
