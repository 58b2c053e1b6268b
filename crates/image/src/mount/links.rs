//! Short names for the directories of layers, for mounts that others make with one page of options.
//!
//! Each link is named by the beginning of its layer's chain id, as long as is needed to differ from the others. A link
//! whose layer is gone is removed the next time one is made; it would be right again if the layer came back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// The shortest name of a link.
const SHORTEST: usize = 4;

/// The directory of all links.
#[derive(Debug)]
pub(crate) struct LayerLinks {
    directory: PathBuf,
    /// Held while links are made and removed, so that none is removed that was just found.
    changing: Mutex<()>,
}

impl LayerLinks {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            changing: Mutex::default(),
        }
    }

    /// Links to directories, each given with its chain id in hexadecimal. The directories must exist.
    pub(crate) fn of<'a>(
        &self,
        layers: impl IntoIterator<Item = (&'a str, &'a Path)>,
    ) -> io::Result<Vec<PathBuf>> {
        let _changing = self.changing.lock();
        self.remove_dangling()?;
        layers
            .into_iter()
            .map(|(chain, layer)| self.link(chain, layer))
            .collect()
    }

    fn link(&self, chain: &str, layer: &Path) -> io::Result<PathBuf> {
        for length in SHORTEST.min(chain.len())..=chain.len() {
            let link = self.directory.join(chain.get(..length).unwrap_or(chain));
            match std::os::unix::fs::symlink(layer, &link) {
                Ok(()) => return Ok(link),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if fs::read_link(&link).is_ok_and(|to| to == layer) {
                        return Ok(link);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn remove_dangling(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let link = entry?.path();
            match fs::metadata(&link) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_file(&link)?,
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_unique_and_go_with_their_layers() {
        let dir = tempfile::tempdir().unwrap();
        let (place, layers) = (dir.path().join("l"), dir.path().join("layers"));
        fs::create_dir(&place).unwrap();
        let layer = |name: &str| {
            let layer = layers.join(name);
            fs::create_dir_all(&layer).unwrap();
            layer
        };
        let links = LayerLinks::new(place.clone());
        let names = ["abcdef00", "abcdef11", "12345678"];
        let dirs = names.map(layer);
        let pairs = || {
            names
                .iter()
                .zip(&dirs)
                .map(|(name, dir)| (*name, dir.as_path()))
        };
        let made = links.of(pairs()).unwrap();
        assert_eq!(made, ["abcd", "abcde", "1234"].map(|name| place.join(name)));
        for (link, dir) in made.iter().zip(&dirs) {
            assert_eq!(fs::canonicalize(link).unwrap(), *dir);
        }
        // The same again gives the same, in whatever order.
        let again = links.of(pairs().rev()).unwrap();
        assert!(again.iter().rev().eq(&made));
        fs::remove_dir(&dirs[0]).unwrap();
        links.of(pairs().skip(2)).unwrap();
        assert!(fs::symlink_metadata(&made[0]).is_err() && made[1].exists());
        // One whose names are all taken has none, and no other's.
        for length in SHORTEST..=8 {
            fs::write(place.join(&"ffffffff"[..length]), "").unwrap();
        }
        let error = links
            .of([("ffffffff", layer("ffffffff").as_path())])
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    }
}
