//! Good inputs with some changes, for the ways in of the fuzz targets: what a fuzzer does for hours, a suite does for a
//! moment, and the same way each time.

use std::path::{Path, PathBuf};

/// Numbers that look random and are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }
}

/// Gives every seed of a fuzz target (`fuzz/seeds/TARGET`) to its way in, as it is and so many times with some changes;
/// `BERTH_CHANGES=N` makes that N times as many, and others.
///
/// # Panics
/// When the target has no seeds.
pub fn each_seed_changed(target: &str, times: usize, way_in: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    let folder = folder.join(target);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the target has seeds")
        .map(|entry| entry.expect("a seed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no seeds in {}", folder.display());
    let seeds: Vec<Vec<u8>> = files
        .iter()
        .map(|file| std::fs::read(file).expect("a seed"))
        .collect();
    let more: usize = std::env::var("BERTH_CHANGES")
        .ok()
        .and_then(|more| more.parse().ok())
        .unwrap_or(1);
    let mut numbers =
        Numbers(0x9e37_79b9_7f4a_7c15 ^ u64::try_from(more.saturating_sub(1)).unwrap_or(0));
    for seed in &seeds {
        way_in(seed);
        for _ in 0..times * more.max(1) {
            let mut input = seed.clone();
            for _ in 0..=numbers.below(4) {
                change(&mut input, &seeds, &mut numbers);
            }
            way_in(&input);
        }
    }
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], numbers: &mut Numbers) {
    let at = numbers.below(input.len() + 1);
    let end = (at + 1 + numbers.below(24)).min(input.len());
    match numbers.below(6) {
        0 => {
            let byte = u8::try_from(numbers.below(256)).unwrap_or(0);
            if let Some(old) = input.get_mut(at) {
                *old = byte;
            }
        }
        1 => {
            if let Some(old) = input.get_mut(at) {
                *old ^= 1 << numbers.below(8);
            }
        }
        2 => {
            input.drain(at..end);
        }
        3 => {
            let again = input[at..end].to_vec();
            for _ in 0..=numbers.below(3) {
                input.splice(at..at, again.iter().copied());
            }
        }
        4 => {
            const PIECES: [&[u8]; 10] = [
                b"\"",
                b"{",
                b"}",
                b"[",
                b"]",
                b"null",
                b"-1",
                b"\xff\xff\xff\xff\x7f",
                b"\0",
                b"1e999",
            ];
            input.splice(at..at, PIECES[numbers.below(PIECES.len())].iter().copied());
        }
        _ => {
            // A piece of another seed.
            let other = &seeds[numbers.below(seeds.len())];
            let from = numbers.below(other.len() + 1);
            let to = (from + numbers.below(40)).min(other.len());
            input.splice(at..end, other[from..to].iter().copied());
        }
    }
}
