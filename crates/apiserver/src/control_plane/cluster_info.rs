//! The ConfigMap `kube-public/cluster-info`: where the API is, and the CA of its servers. A machine that joins reads it without
//! credentials and takes of it only what the hash of the CA's key vouches for.
//!
//! It also shows that two servers with different CAs use one store: what one of them issues, the other refuses.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_api::status::ApiError;
use berth_store::Expect;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::leases;
use super::write::fresh;
use crate::ca_hash;
use crate::storage::Storage;

const CONFIG_MAPS: &str = "core/configmaps";
const NAMESPACE: &str = "kube-public";
const NAME: &str = "cluster-info";
/// What machines that join read; a bootstrap signer adds signatures beside it.
const KEY: &str = "kubeconfig";
/// How often it is looked at whether another server works.
const LOOK: Duration = Duration::from_millis(500);

/// What this server says of itself.
pub(crate) struct ClusterInfo {
    /// The CA of its serving certificate, PEM.
    pub(crate) ca: String,
    /// Where others reach it.
    pub(crate) url: String,
}

/// Another server works on the same store with another CA.
#[derive(Debug, thiserror::Error)]
#[error(
    "another server works on this store with another certificate authority ({theirs}) than this one ({ours}): what one of them \
     issues, the other refuses. Start this one with the --cert-dir of the others; to replace the authority, stop all servers first"
)]
pub struct OtherAuthority {
    theirs: String,
    ours: String,
}

impl ClusterInfo {
    /// Makes sure that no server with another CA works on this store. It takes a while only when one did last.
    ///
    /// # Errors
    /// When one does.
    pub(super) async fn be_alone(&self, storage: &Storage) -> Result<(), OtherAuthority> {
        let Some(theirs) = stored_ca(storage).filter(|ca| ca != &self.ca) else {
            return Ok(());
        };
        let before = leases::records(storage);
        let end = Instant::now() + leases::LIFE;
        while Instant::now() < end && !before.is_empty() {
            if leases::records(storage)
                .iter()
                .any(|record| !before.contains(record))
            {
                return Err(OtherAuthority {
                    theirs: hashes(&theirs),
                    ours: hashes(&self.ca),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
        tracing::warn!(
            before = hashes(&theirs),
            now = hashes(&self.ca),
            "the cluster has another certificate authority than at the last start: all kubeconfigs of before are void"
        );
        self.write(storage)
            .await
            .unwrap_or_else(|error| tracing::warn!(%error, "cluster-info cannot be written"));
        Ok(())
    }

    /// Makes it when it is not there, and corrects what this server may speak for: the CA, and its own address where it is the
    /// only server.
    ///
    /// # Errors
    /// When the store cannot be written, or another server has written another CA.
    pub(super) async fn keep(&self, storage: &Storage, shared: bool) -> Result<(), ApiError> {
        let stored = stored(storage);
        let ca = stored.as_ref().and_then(ca_of);
        let url = stored.as_ref().and_then(url_of);
        match ca {
            Some(ca) if ca == self.ca && (shared || url.as_ref() == Some(&self.url)) => Ok(()),
            Some(ca) if shared && ca != self.ca => Err(ApiError::Internal(format!(
                "ConfigMap {NAMESPACE}/{NAME} has another certificate authority ({}) than this server ({})",
                hashes(&ca),
                hashes(&self.ca)
            ))),
            Some(_) | None => self.write(storage).await,
        }
    }

    async fn write(&self, storage: &Storage) -> Result<(), ApiError> {
        let text = self.kubeconfig();
        let (expect, object) = match storage.get(CONFIG_MAPS, NAMESPACE, NAME) {
            None => {
                let object = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": NAME, "namespace": NAMESPACE},
                    "data": {KEY: text},
                });
                (Expect::Absent, fresh(object))
            }
            Some(stored) => {
                let mut object = stored.value()?;
                object["data"][KEY] = json!(text);
                (Expect::Revision(stored.revision), object)
            }
        };
        // Who was quicker is answered at the next look.
        storage
            .put(CONFIG_MAPS, NAMESPACE, NAME, expect, object)
            .await
            .map(|_| ())
    }

    fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: \"\"\n\
             \x20 cluster:\n\
             \x20   server: {}\n\
             \x20   certificate-authority-data: {}\n\
             contexts: null\n\
             current-context: \"\"\n\
             preferences: {{}}\n\
             users: null\n",
            self.url,
            STANDARD.encode(&self.ca),
        )
    }
}

fn stored(storage: &Storage) -> Option<Value> {
    let object = storage.get(CONFIG_MAPS, NAMESPACE, NAME)?.value().ok()?;
    let text = object["data"][KEY].as_str()?;
    serde_saphyr::from_str(text).ok()
}

fn stored_ca(storage: &Storage) -> Option<String> {
    ca_of(&stored(storage)?)
}

fn ca_of(kubeconfig: &Value) -> Option<String> {
    let data = kubeconfig.pointer("/clusters/0/cluster/certificate-authority-data")?;
    String::from_utf8(STANDARD.decode(data.as_str()?.trim()).ok()?).ok()
}

fn url_of(kubeconfig: &Value) -> Option<String> {
    let url = kubeconfig.pointer("/clusters/0/cluster/server")?;
    url.as_str().map(str::to_owned)
}

/// For messages.
fn hashes(pem: &str) -> String {
    ca_hash::of_pem(pem.as_bytes()).map_or_else(|| "unreadable".to_owned(), |all| all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let info = ClusterInfo {
            ca: "a\nb\n".to_owned(),
            url: "https://[fd00::1]:6443".to_owned(),
        };
        let value: Value = serde_saphyr::from_str(&info.kubeconfig()).unwrap();
        assert_eq!(ca_of(&value), Some(info.ca));
        assert_eq!(url_of(&value), Some(info.url));
        assert_eq!(value["kind"], "Config");
    }
}
