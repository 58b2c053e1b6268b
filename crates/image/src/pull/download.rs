//! One blob: into `ingest/<hex>.part`, hashed on the way, from where it broke off.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::digest::Digest;
use crate::error::ImageError;
use crate::install::run;
use crate::lease::Lease;
use crate::lock::FileLock;
use crate::manifest::Descriptor;
use crate::registry::Registry;
use crate::space::Reservation;
use crate::store::Inner;
use crate::types::Progress;

/// Chunks between the socket and the disk.
const CHUNKS: usize = 16;
/// Progress is told every so many bytes.
const TELL_EVERY: u64 = 512 << 10;
/// A writer whose download was given up ends with the chunk that it is at.
const WRITER_ENDS: Duration = Duration::from_secs(2);
/// Attempts that bring nothing new.
const TRIES: u32 = 5;

/// Brings a blob into the store if it isn't there, and gives its path.
pub(super) async fn blob(
    inner: &Arc<Inner>,
    registry: &Registry,
    lease: &Lease,
    wanted: &Descriptor,
    reservation: &Arc<Reservation>,
) -> Result<PathBuf, ImageError> {
    lease.protect(&wanted.digest);
    let _flight = inner.blob_flights.take(&wanted.digest).await;
    if !inner.blobs.has(&wanted.digest) {
        let mut part = open(inner, wanted, reservation).await?;
        let resumed = part.have > 0;
        part = fill(registry, wanted, part).await?;
        if part.have == wanted.size && part.digest() != wanted.digest && resumed {
            // What was left of an earlier download was wrong.
            part.restart()?;
            part = fill(registry, wanted, part).await?;
        }
        let (inner, wanted) = (inner.clone(), wanted.clone());
        run("storing a blob", move || part.finish(&inner, &wanted)).await?;
    } else {
        reservation.used(wanted.size);
    }
    Ok(inner.blobs.path(&wanted.digest))
}

/// Removes what was downloaded of these blobs, unless somebody else goes on with it.
pub(super) async fn discard(inner: &Arc<Inner>, blobs: &[Descriptor]) -> Result<(), ImageError> {
    for blob in blobs {
        // Nobody else in this process; a writer of ours that was cut short lets go of the file in a moment.
        let _flight = inner.blob_flights.take(&blob.digest).await;
        let path = inner
            .root
            .join("ingest")
            .join(format!("{}.part", blob.digest.hex()));
        run("removing a download", move || {
            let end = Instant::now() + WRITER_ENDS;
            while path.exists() {
                match FileLock::try_exclusive(&path)? {
                    Some(_lock) => {
                        return fs::remove_file(&path)
                            .map_err(|e| ImageError::io("removing", &path, e));
                    }
                    // Another process downloads the same.
                    None if Instant::now() > end => return Ok(()),
                    None => std::thread::sleep(Duration::from_millis(5)),
                }
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

/// A file that grows to a blob.
struct Part {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    have: u64,
    reservation: Arc<Reservation>,
    /// No other process writes to the file.
    _lock: FileLock,
}

async fn open(
    inner: &Arc<Inner>,
    wanted: &Descriptor,
    reservation: &Arc<Reservation>,
) -> Result<Part, ImageError> {
    let reservation = reservation.clone();
    let (ingest, hex, size) = (
        inner.root.join("ingest"),
        wanted.digest.hex().to_owned(),
        wanted.size,
    );
    run("opening a download", move || {
        let path = ingest.join(format!("{hex}.part"));
        match FileLock::try_exclusive(&path)? {
            Some(lock) => Part::open(&path, lock, size, reservation),
            // Another process downloads the same.
            None => {
                let path = ingest.join(format!("{hex}.{}.part", uuid::Uuid::new_v4().simple()));
                let lock = FileLock::exclusive(&path)?;
                Part::open(&path, lock, size, reservation)
            }
        }
    })
    .await
}

/// Downloads until all bytes are there.
async fn fill(
    registry: &Registry,
    wanted: &Descriptor,
    mut part: Part,
) -> Result<Part, ImageError> {
    let mut tries = 0;
    while part.have < wanted.size {
        let before = part.have;
        let (mut response, from) = registry.blob(&wanted.digest, part.have).await?;
        if from != part.have {
            part.restart()?;
        }
        let start = part.have;
        let (sender, receiver) = mpsc::channel::<Bytes>(CHUNKS);
        let limit = wanted.size;
        let writer = tokio::task::spawn_blocking(move || part.write(receiver, limit));
        let (mut sent, mut told) = (start, start);
        let mut broken = None;
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    sent += chunk.len() as u64;
                    if sender.send(chunk).await.is_err() {
                        break;
                    }
                    if sent - told >= TELL_EVERY {
                        told = sent;
                        tell(registry, wanted, sent);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    broken = Some(error.to_string());
                    break;
                }
            }
        }
        drop(sender);
        part = match writer.await {
            Ok(written) => written?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {
                return Err(ImageError::Cancelled {
                    action: "downloading",
                });
            }
        };
        if part.have < wanted.size {
            let reason = broken.unwrap_or_else(|| "the answer was too short".to_owned());
            tries = if part.have > before { 0 } else { tries + 1 };
            if tries >= TRIES {
                return Err(ImageError::Mismatch {
                    what: format!("blob {} ({reason})", wanted.digest),
                    expected: format!("{} bytes", wanted.size),
                    actual: part.have.to_string(),
                });
            }
            registry
                .pause(&format!("blob {}", wanted.digest), &reason, tries)
                .await;
        }
    }
    tell(registry, wanted, part.have);
    Ok(part)
}

fn tell(registry: &Registry, wanted: &Descriptor, done: u64) {
    registry.progress(Progress::Downloading {
        layer: wanted.digest.clone(),
        done,
        total: wanted.size,
    });
}

impl Part {
    fn open(
        path: &Path,
        lock: FileLock,
        size: u64,
        reservation: Arc<Reservation>,
    ) -> Result<Self, ImageError> {
        let failed = |e: io::Error| ImageError::io("reading", path, e);
        let mut file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(failed)?;
        let mut hasher = Sha256::new();
        let mut have = 0;
        if file.metadata().map_err(failed)?.len() > size {
            file.set_len(0).map_err(failed)?;
        }
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).map_err(failed)? {
                0 => break,
                n => {
                    hasher.update(&buffer[..n]);
                    have += n as u64;
                }
            }
        }
        reservation.used(have);
        Ok(Self {
            path: path.to_owned(),
            file,
            hasher,
            have,
            reservation,
            _lock: lock,
        })
    }

    fn restart(&mut self) -> Result<(), ImageError> {
        let result = self
            .file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)));
        result.map_err(|e| ImageError::io("emptying", &self.path, e))?;
        self.hasher = Sha256::new();
        self.have = 0;
        Ok(())
    }

    /// Writes what comes, up to the blob's size.
    fn write(mut self, mut chunks: mpsc::Receiver<Bytes>, limit: u64) -> Result<Self, ImageError> {
        while let Some(chunk) = chunks.blocking_recv() {
            if self.have + chunk.len() as u64 > limit {
                let _ = fs::remove_file(&self.path);
                return Err(ImageError::Mismatch {
                    what: format!(
                        "blob {}",
                        self.path.file_stem().unwrap_or_default().to_string_lossy()
                    ),
                    expected: format!("{limit} bytes"),
                    actual: "more".to_owned(),
                });
            }
            if let Err(error) = self.file.write_all(&chunk) {
                let error = ImageError::io("downloading to", &self.path, error);
                if matches!(error, ImageError::NoSpace { .. }) {
                    // Give the space back; there is no telling when it can go on.
                    let _ = fs::remove_file(&self.path);
                }
                return Err(error);
            }
            self.hasher.update(&chunk);
            self.have += chunk.len() as u64;
            self.reservation.used(chunk.len() as u64);
        }
        Ok(self)
    }

    fn digest(&self) -> Digest {
        Digest::from_hasher(self.hasher.clone())
    }

    fn finish(self, inner: &Inner, wanted: &Descriptor) -> Result<(), ImageError> {
        let digest = self.digest();
        if digest != wanted.digest {
            let _ = fs::remove_file(&self.path);
            return Err(ImageError::Mismatch {
                what: format!("blob {}", wanted.digest),
                expected: wanted.digest.to_string(),
                actual: digest.to_string(),
            });
        }
        inner.blobs.adopt(&self.path, &wanted.digest)
    }
}
