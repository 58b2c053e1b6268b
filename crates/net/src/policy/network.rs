//! Which bridge pods are on, and the tables of its rules: as it was configured, or as the node agent learns it from its runtime.
//!
//! Once it is known it stays: pods that run are on it. Which bridges have ever had rules is kept in a file, so that who switches
//! NetworkPolicies off leaves no rules behind that nobody keeps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::nft::{NftError, Table};
use crate::services::kept::Kept;

/// A bridge's name, or why pods are on none.
pub(crate) type Bridge = Result<String, String>;

/// What the node agent has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The port of the node's own API; 0 before it listens.
    pub(crate) node_port: u16,
    /// Nothing before the runtime has said it.
    pub(crate) bridge: Option<Bridge>,
}

/// Why there is no bridge whose rules could be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("{0}")]
    NoBridge(String),
    #[error(transparent)]
    Table(#[from] NftError),
    #[error("cannot remember the bridge {bridge:?} in {}: {source}", path.display())]
    Remember {
        bridge: String,
        path: PathBuf,
        source: io::Error,
    },
}

/// The bridge and its rules.
pub(super) struct Network {
    known: Option<(String, Kept<2>)>,
    /// Whether that bridge was said, in this run; not whether it is only remembered.
    is_said: bool,
    /// The only bridge of earlier runs: pods that run are on it, whether the runtime answers or not.
    seed: Option<String>,
    /// Where bridges are remembered; nothing where whoever removes the rules knows the bridge.
    bridges: Option<PathBuf>,
    /// One that was said later, and is not heeded.
    later: Option<Bridge>,
}

impl Network {
    pub(super) fn new(bridges: Option<PathBuf>) -> Self {
        let earlier = bridges.as_deref().and_then(|path| remembered(path).ok());
        let seed = match earlier.as_deref() {
            Some([only]) => Some(only.clone()),
            Some(_) | None => None,
        };
        Self {
            known: None,
            is_said: false,
            seed,
            bridges,
            later: None,
        }
    }

    /// Whether a bridge can be had while nothing was said.
    pub(super) fn is_remembered(&self) -> bool {
        self.seed.is_some()
    }

    /// Takes what was said, or what is remembered where nothing was.
    ///
    /// # Errors
    /// When there is no bridge, or it can't be remembered.
    pub(super) fn learn(&mut self, said: Option<&Bridge>) -> Result<(), NetworkError> {
        if !matches!(said, Some(Ok(_)))
            && self.known.is_none()
            && let Some(bridge) = self.seed.clone()
        {
            self.take(bridge)?;
        }
        let Some(said) = said else {
            return Ok(());
        };
        if let Some((bridge, _)) = &self.known
            && (self.is_said || said.is_err() || said.as_ref() == Ok(bridge))
        {
            self.is_said |= said.is_ok();
            if said.as_ref() != Ok(bridge) && self.later.as_ref() != Some(said) {
                let now = said.as_ref().unwrap_or_else(|reason| reason);
                warn!(
                    bridge,
                    now,
                    "the network of pods has changed; NetworkPolicies are enforced on the bridge that they had at the start, until the node agent is restarted"
                );
                self.later = Some(said.clone());
            }
            return Ok(());
        }
        let bridge = match said {
            Ok(bridge) => bridge.clone(),
            Err(reason) => return Err(NetworkError::NoBridge(reason.clone())),
        };
        self.take(bridge)?;
        self.is_said = true;
        Ok(())
    }

    fn take(&mut self, bridge: String) -> Result<(), NetworkError> {
        let tables = tables(&bridge)?;
        if let Some(path) = &self.bridges {
            remember(path, &bridge).map_err(|source| NetworkError::Remember {
                bridge: bridge.clone(),
                path: path.clone(),
                source,
            })?;
        }
        let kept = Kept::new("of pods' networks", tables);
        self.known = Some((bridge, kept));
        Ok(())
    }

    /// The bridge, once it is known.
    pub(super) fn bridge(&self) -> Option<&str> {
        self.known.as_ref().map(|(bridge, _)| bridge.as_str())
    }

    /// Its rules.
    pub(super) fn kept(&mut self) -> Option<&mut Kept<2>> {
        self.known.as_mut().map(|(_, kept)| kept)
    }
}

/// The tables of a bridge: of the IP layer, and of the bridge itself.
///
/// # Errors
/// When the name can't be a part of theirs.
pub(super) fn tables(bridge: &str) -> Result<[Table; 2], NftError> {
    Ok([
        Table::new("policy", bridge)?,
        Table::bridge("policy", bridge)?,
    ])
}

/// Why rules that nobody keeps any more could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// nft refuses.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// The file that remembers the bridges can't be read or removed.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Removes the rules of a network on which nothing is enforced any more: what they don't know they drop.
///
/// # Errors
/// When nft refuses. Where there is no nft there are no rules.
pub async fn remove(bridge: &str) -> Result<(), NftError> {
    for table in tables(bridge)? {
        match table.remove().await {
            Ok(()) => {}
            Err(NftError::Run(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Removes the rules of all bridges that a file remembers, and then the file.
///
/// # Errors
/// As of [`remove`], or when the file can't be read or removed. Where there is no file there are no rules.
pub async fn remove_remembered(path: &Path) -> Result<(), RemoveError> {
    let failed = |source| RemoveError::File {
        path: path.to_owned(),
        source,
    };
    let bridges = remembered(path).map_err(failed)?;
    if bridges.is_empty() {
        return Ok(());
    }
    for bridge in bridges {
        remove(&bridge).await?;
    }
    fs::remove_file(path).map_err(failed)
}

/// The bridges that had rules, one a line; none where there is no such file.
///
/// # Errors
/// When it can't be read.
fn remembered(path: &Path) -> io::Result<Vec<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn remember(path: &Path, bridge: &str) -> io::Result<()> {
    let mut all = remembered(path)?;
    if all.iter().any(|one| one == bridge) {
        return Ok(());
    }
    all.push(bridge.to_owned());
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, all.join("\n") + "\n")?;
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bridge_stays_and_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bridges");
        assert_eq!(remembered(&path).unwrap(), [""; 0]);
        let mut network = Network::new(Some(path.clone()));
        let refused = network.learn(Some(&Err("it is no bridge".to_owned())));
        assert_eq!(refused.unwrap_err().to_string(), "it is no bridge");
        // It becomes a part of a script.
        let odd = Ok("br0; flush ruleset".to_owned());
        assert!(network.learn(Some(&odd)).is_err());
        assert!(!network.is_remembered());
        network.learn(None).unwrap();
        assert_eq!(network.bridge(), None);
        for said in [Ok("br0"), Ok("br1"), Err("gone")] {
            let said = said.map(str::to_owned).map_err(str::to_owned);
            network.learn(Some(&said)).unwrap();
            assert_eq!(network.bridge(), Some("br0"));
        }
        // The next run has it while the runtime doesn't answer, until that says another one.
        let mut network = Network::new(Some(path.clone()));
        assert!(network.is_remembered());
        network.learn(None).unwrap();
        assert_eq!(network.bridge(), Some("br0"));
        network
            .learn(Some(&Err("it says nothing".to_owned())))
            .unwrap();
        assert_eq!(network.bridge(), Some("br0"));
        network.learn(Some(&Ok("br1".to_owned()))).unwrap();
        assert_eq!(network.bridge(), Some("br1"));
        assert_eq!(remembered(&path).unwrap(), ["br0", "br1"]);
        // Of several nobody knows which.
        assert!(!Network::new(Some(path)).is_remembered());
    }
}
