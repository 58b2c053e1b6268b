//! The kills, in an order and at times that a seed decides.

use std::time::Instant;

use berth_testkit::wait_for_async;
use nix::sys::signal::{Signal, kill};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::LIMIT;
use crate::bundles::{self, Note, PodProcess};
use crate::load::Load;
use crate::machine::{Machine, Part};
use crate::pace::Pace;
use crate::plan::pause;

/// How often each kind is killed, as far as there is time.
const EACH: usize = 50;
/// How long that may go on, in seconds, where `BERTH_KILLS_SECONDS` does not say so.
const SECONDS: u64 = 90;

/// After so many kills it is looked whether a container runs twice at once.
const LOOK_EACH: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Cri,
    Node,
    Shim,
    Streams,
}

pub(crate) async fn kill_all(machine: &mut Machine, load: &Load, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let kinds = [Victim::Cri, Victim::Node, Victim::Shim, Victim::Streams];
    let mut victims: Vec<Victim> = kinds.repeat(EACH);
    victims.shuffle(&mut random);
    let (begun, all) = (Instant::now(), victims.len());
    let seconds = std::env::var("BERTH_KILLS_SECONDS").ok();
    let seconds = seconds.map_or(SECONDS, |text| text.parse().expect("a number"));
    let mut done = 0;
    let pace = Pace::new();
    load.note_calm(false);
    for (number, victim) in victims.into_iter().enumerate() {
        if begun.elapsed().as_secs() >= seconds {
            break;
        }
        done = number + 1;
        tokio::time::sleep(pace.pause(pause(&mut random), all - number)).await;
        load.note_ids(bundles::ids(machine));
        if number % LOOK_EACH == 0 {
            let doubles = bundles::doubles(machine).into_iter();
            doubles.for_each(|double| load.fault(double));
        }
        let which = random.random_range(0..usize::MAX);
        let at = begun.elapsed().as_secs_f32();
        match victim {
            Victim::Cri => {
                restart(machine, Part::Cri);
                pace.measure(machine.socket());
            }
            Victim::Node => restart(machine, Part::Node),
            Victim::Shim => {
                let found = one_of(machine, Note::Shim, which).await;
                println!("{at:.2} the shim of {}", found.pod);
                load.note_shim_kill(&found.pod);
                let _ = kill(found.pid, Signal::SIGKILL);
            }
            Victim::Streams => {
                let found = one_of(machine, Note::Streams, which).await;
                println!("{at:.2} what holds the streams of {}", found.pod);
                let _ = kill(found.pid, Signal::SIGKILL);
            }
        }
        if matches!(victim, Victim::Cri | Victim::Node) {
            println!("{at:.2} {victim:?}");
        }
    }
    load.note_calm(true);
    println!("{done} of {all} kills in {:?}", begun.elapsed());
}

/// As a service manager does.
fn restart(machine: &mut Machine, part: Part) {
    machine.kill(part);
    machine.launch(part);
}

async fn one_of(machine: &Machine, note: Note, which: usize) -> PodProcess {
    wait_for_async("a process to kill", LIMIT, async || {
        let found = bundles::processes(machine, note);
        let one = found.get(which % found.len().max(1)).cloned();
        one.ok_or_else(|| format!("there is none: {note:?}"))
    })
    .await
}
