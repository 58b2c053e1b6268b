//! Progress of a pull or an import, on standard error: a bar on a terminal, lines elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use berth_image::{Progress, ProgressFn};

const WIDTH: u64 = 30;
const REDRAW: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Bar {
    layers: BTreeMap<String, (u64, u64)>,
    drawn: Option<Instant>,
    shown: bool,
}

impl Bar {
    fn take(&mut self, progress: &Progress) {
        match progress {
            Progress::Resolved { layers, .. } => {
                for (layer, size) in layers {
                    self.layers.insert(layer.to_string(), (0, *size));
                }
            }
            Progress::Downloading { layer, done, total } => {
                // The image's documents are fetched, too, and are no layers.
                if let Some(entry) = self.layers.get_mut(&layer.to_string()) {
                    *entry = (*done, *total);
                }
            }
            Progress::Present { layer } | Progress::Unpacked { layer } => {
                if let Some(entry) = self.layers.get_mut(&layer.to_string()) {
                    entry.0 = entry.1;
                }
            }
            Progress::Resolving { .. }
            | Progress::Unpacking { .. }
            | Progress::Retrying { .. }
            | Progress::Done { .. } => {}
        }
    }

    fn line(&self) -> String {
        let done: u64 = self.layers.values().map(|(done, _)| done).sum();
        let total: u64 = self.layers.values().map(|(_, total)| total).sum();
        let filled = (done.min(total) * WIDTH).checked_div(total).unwrap_or(0);
        let bar: String = (0..WIDTH)
            .map(|n| if n < filled { '#' } else { '.' })
            .collect();
        format!(
            "[{bar}] {} of {} in {} layers",
            super::size(done),
            super::size(total),
            self.layers.len()
        )
    }
}

/// Shows progress on standard error.
pub(super) fn to_stderr() -> ProgressFn {
    let bar = Mutex::new(Bar::default());
    let terminal = std::io::stderr().is_terminal();
    Arc::new(move |progress| {
        let mut bar = bar.lock().unwrap_or_else(PoisonError::into_inner);
        bar.take(&progress);
        let mut out = std::io::stderr().lock();
        if terminal && matches!(progress, Progress::Done { .. }) && bar.shown {
            // The last bytes may have come too soon after the ones before to be drawn.
            let _unshown = write!(out, "\r{}\x1b[K", bar.line());
        }
        let mut line = |text: &str| {
            // Progress that can't be shown is no reason to fail.
            let _unshown = writeln!(out, "{text}");
        };
        match &progress {
            Progress::Resolving { reference } => line(&format!("resolving {reference}")),
            Progress::Retrying { what, reason } => line(&format!("{what}: {reason}; trying again")),
            Progress::Unpacked { layer } if !terminal => line(&format!("unpacked {layer}")),
            Progress::Done { .. } if bar.shown => line(""),
            Progress::Resolved { .. }
            | Progress::Downloading { .. }
            | Progress::Present { .. }
            | Progress::Unpacking { .. }
            | Progress::Unpacked { .. }
            | Progress::Done { .. } => {}
        }
        let due = bar.drawn.is_none_or(|at| at.elapsed() >= REDRAW);
        if terminal
            && due
            && !bar.layers.is_empty()
            && matches!(progress, Progress::Downloading { .. })
        {
            let _unshown = write!(out, "\r{}\x1b[K", bar.line());
            let _unshown = out.flush();
            bar.drawn = Some(Instant::now());
            bar.shown = true;
        }
    })
}
