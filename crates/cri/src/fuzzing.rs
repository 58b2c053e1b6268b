//! Ways in for the fuzz targets under `fuzz/`, and for the property tests that run them on changed inputs in the
//! normal suite.

use std::path::PathBuf;

use crate::handlers::HandlerSource;

#[cfg(test)]
mod tests;

/// Reads any bytes as each kind of configuration: it is understood or refused, and what is refused is so in words.
///
/// # Panics
/// A refusal without words, or a definition that comes from nowhere.
pub fn import_anything(data: &[u8]) {
    type Kind = (&'static str, fn(PathBuf) -> HandlerSource);
    const KINDS: [Kind; 4] = [
        ("config.toml", HandlerSource::Berth),
        ("containerd.toml", HandlerSource::Containerd),
        ("crio.conf", HandlerSource::Crio),
        ("daemon.json", HandlerSource::Docker),
    ];
    let folder = tempfile::tempdir();
    assert!(folder.is_ok(), "no temporary directory: {folder:?}");
    let Ok(folder) = folder else { return };
    for (name, source) in KINDS {
        let path = folder.path().join(name);
        let written = std::fs::write(&path, data);
        assert!(written.is_ok(), "{}: {written:?}", path.display());
        match source(path).definitions() {
            Ok(handlers) => {
                for handler in handlers {
                    let text = handler.origin.to_string();
                    assert!(!text.is_empty(), "{handler:?}");
                }
            }
            Err(error) => assert!(!crate::error::chain(&error).is_empty()),
        }
    }
}

/// Sends any bytes to a SPDY session and reads all streams that it opens: the session ends when the bytes do.
///
/// # Panics
/// The session goes on when the client is gone.
pub fn speak_spdy(data: &[u8]) {
    crate::streaming::spdy_anything(data);
}
