//! What a handler's state was found out from, to notice when that has changed without asking every binary again.
//!
//! The same files are what a sandbox that waits for its pod was booted from, so they are kept with it, too.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::definition::{Definition, RuntimeDef, is_kata};
use super::{built_in, kata};

/// A file as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// Where a program was found; a file's own path.
    place: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    mode: u32,
    /// Of its content and its attributes, in seconds and nanoseconds.
    changed: (i64, i64),
}

impl Seen {
    fn of(place: &Path) -> Option<Self> {
        let found = place.metadata().ok()?;
        let device = found.rdev() != 0;
        Some(Self {
            place: place.to_owned(),
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            mode: found.mode(),
            // A device's node is touched by whoever uses it.
            changed: if device {
                (0, 0)
            } else {
                (found.ctime(), found.ctime_nsec())
            },
        })
    }
}

/// Something that a handler needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Input {
    /// A program, by path or by name in PATH.
    Program(PathBuf),
    /// A file or directory.
    File(PathBuf),
}

impl Input {
    fn look(&self) -> Option<Seen> {
        match self {
            Self::Program(name) => Seen::of(&built_in::find(name).ok()?),
            Self::File(path) => Seen::of(path),
        }
    }
}

/// All that a handler needs, as it was at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inputs(Vec<(Input, Option<Seen>)>);

impl Inputs {
    /// Looks at what a definition names. Only looks files up, but for Kata's configuration, which it reads.
    pub(crate) fn of(definition: &Definition) -> Self {
        let mut inputs = Vec::new();
        let mut file = |path: &Option<PathBuf>| inputs.extend(path.clone().map(Input::File));
        file(&definition.base_runtime_spec);
        match &definition.runtime {
            RuntimeDef::Oci { binary, config, .. } => {
                file(config);
                inputs.push(Input::Program(binary.clone()));
            }
            // This very program.
            RuntimeDef::Embedded { .. } => {}
            RuntimeDef::Shim {
                binary,
                config,
                runtime_binary,
                ..
            } => {
                file(config);
                if is_kata(binary) {
                    let files = kata::Machine::default().inputs(config.as_deref());
                    inputs.extend(files.into_iter().map(Input::File));
                }
                inputs.push(Input::Program(binary.clone()));
                inputs.extend(runtime_binary.clone().map(Input::Program));
            }
        }
        let look = |input: Input| {
            let seen = input.look();
            (input, seen)
        };
        Self(inputs.into_iter().map(look).collect())
    }

    /// Whether something has changed since.
    pub(super) fn changed(&self) -> bool {
        self.0.iter().any(|(input, seen)| input.look() != *seen)
    }
}
