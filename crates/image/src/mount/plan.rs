//! A snapshot as a mount that somebody else makes: the `rootfs` of a shim's Create, in the form that containerd's
//! overlayfs snapshotter gives it.

use std::io;
use std::path::{Path, PathBuf};

use super::{LayerLinks, Overlay, PAGE, SETTINGS, clear_volatile, escape};

/// Room in the page of options for what whoever mounts may add. containerd and Kata reckon with as much: from there on they
/// give layers relative to the directory that all of them have in common.
const ROOM: usize = 512;

/// One mount, in mount(8)'s words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPlan {
    /// Such as `overlay`.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Such as `lowerdir=...`.
    pub options: Vec<String>,
}

impl Overlay<'_> {
    /// How to mount it. When the names of the layers (`chains` are their ids, in the same order) don't fit into a page, they
    /// get short ones.
    pub(crate) fn plan(
        &self,
        chains: &[&str],
        links: Option<&LayerLinks>,
    ) -> io::Result<MountPlan> {
        if let Some((_, work)) = self.upper {
            clear_volatile(work)?;
        }
        let long = self.plan_with(self.lower);
        let length: usize = long.options.iter().map(|option| option.len() + 1).sum();
        let (true, Some(links)) = (length > PAGE - ROOM, links) else {
            return Ok(long);
        };
        let layers = chains.iter().copied();
        let short = links.of(layers.zip(self.lower.iter().map(PathBuf::as_path)))?;
        // What is no layer (an empty directory below too few of them) keeps its name.
        let rest = self.lower.iter().skip(short.len()).cloned();
        let lower: Vec<PathBuf> = short.iter().cloned().chain(rest).collect();
        Ok(self.plan_with(&lower))
    }

    fn plan_with(&self, lower: &[PathBuf]) -> MountPlan {
        let names: Vec<String> = lower.iter().map(|layer| escape(layer)).collect();
        let mut options = vec![format!("lowerdir={}", names.join(":"))];
        let option = |name: &str, path: &Path| format!("{name}={}", escape(path));
        match self.upper {
            Some((upper, work)) => {
                options.push(option("upperdir", upper));
                options.push(option("workdir", work));
                options.extend(SETTINGS.map(|(key, value)| format!("{key}={value}")));
                if self.volatile {
                    options.push("volatile".to_owned());
                }
            }
            None => options.push("ro".to_owned()),
        }
        MountPlan {
            kind: "overlay".to_owned(),
            source: "overlay".to_owned(),
            options,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_short_when_they_would_fill_a_page() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("l");
        std::fs::create_dir(&place).unwrap();
        let links = LayerLinks::new(place.clone());
        let chains: Vec<String> = (0..150).map(|number| format!("{number:064x}")).collect();
        let chains: Vec<&str> = chains.iter().map(|chain| &chain[56..]).collect();
        let layers: Vec<PathBuf> = chains
            .iter()
            .map(|chain| dir.path().join("layers").join("x".repeat(60)).join(chain))
            .collect();
        for layer in &layers {
            std::fs::create_dir_all(layer).unwrap();
        }
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        let overlay = |count| Overlay {
            lower: &layers[..count],
            upper: Some((&upper, &work)),
            volatile: true,
        };
        let few = overlay(2).plan(&chains[..2], Some(&links)).unwrap();
        let lower = format!("lowerdir={}:{}", layers[0].display(), layers[1].display());
        assert_eq!(few.options[0], lower);
        assert_eq!(few.options.last().unwrap(), "volatile");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        let many = overlay(150).plan(&chains, Some(&links)).unwrap();
        let names = many.options[0].strip_prefix("lowerdir=").unwrap();
        for (name, layer) in names.split(':').zip(&layers) {
            assert_eq!(Path::new(name).parent().unwrap(), place);
            assert_eq!(std::fs::canonicalize(name).unwrap(), *layer);
        }
        assert_eq!(names.split(':').count(), 150);
        // A run that was killed has left overlayfs' mark, with which it can't be mounted again.
        std::fs::create_dir_all(work.join("work/incompat/volatile")).unwrap();
        overlay(1).plan(&chains[..1], None).unwrap();
        assert!(!work.join("work/incompat").exists());
    }
}
