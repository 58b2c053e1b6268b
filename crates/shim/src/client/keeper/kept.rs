//! What a keeper holds of a container, with a note of it in the container's bundle (`io/note.json`).

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use crate::client::ShimError;
use crate::stream::{Fifos, Kind};

const NOTE: &str = "note.json";

/// Where in a container's bundle its FIFOs are.
pub(in crate::client) fn streams_dir(bundle: &Path) -> PathBuf {
    bundle.join("io")
}

#[derive(Debug)]
pub(super) struct Kept {
    pub(super) fifos: Fifos,
    /// The outputs, held open but not read: what is in them outlives a keeper's death and their shim's leaving.
    _open: Vec<OwnedFd>,
}

impl Kept {
    pub(super) fn new(fifos: Fifos) -> Self {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = [Kind::Stdout, Kind::Stderr]
            .into_iter()
            // Of a terminal there is only one.
            .filter_map(|kind| rustix::fs::open(fifos.path(kind), flags, Mode::empty()).ok())
            .collect();
        Self { fifos, _open: open }
    }
}

/// Notes what is to be held, in a directory without anything of an attempt before.
pub(super) fn note(fifos: &Fifos) -> Result<(), ShimError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ShimError::File { path, source }
    };
    let _ = std::fs::remove_dir_all(&fifos.dir);
    crate::private::create_dir(&fifos.dir).map_err(failed(&fifos.dir))?;
    let path = fifos.dir.join(NOTE);
    let text = serde_json::to_vec(fifos).map_err(ShimError::Encode)?;
    crate::private::write(&path, &text).map_err(failed(&path))
}

/// Reads the note in a container's bundle.
pub(super) fn load(bundle: &Path) -> Result<Fifos, ShimError> {
    let path = streams_dir(bundle).join(NOTE);
    let failed = |source: io::Error| ShimError::File {
        path: path.clone(),
        source,
    };
    let text = std::fs::read(&path).map_err(failed)?;
    let fifos: Fifos = serde_json::from_slice(&text).map_err(|e| failed(e.into()))?;
    Ok(Fifos {
        // Notes of a berth without keepers do not name it.
        dir: streams_dir(bundle),
        ..fifos
    })
}

/// The fields `stdin`, `stdout` and `stderr` of a request.
pub(in crate::client) fn fields(fifos: &Fifos) -> (String, String, String) {
    let field = |wanted: bool, kind| {
        let path = wanted.then(|| fifos.path(kind));
        path.unwrap_or_default().to_string_lossy().into_owned()
    };
    (
        field(fifos.stdin, Kind::Stdin),
        field(true, Kind::Stdout),
        field(!fifos.terminal, Kind::Stderr),
    )
}
