//! What was asked about a pod's network, and the answer.

use tokio::sync::watch;

/// Of the events about it.
pub(crate) const REASON: &str = "NetworkPolicyNotInForce";

/// What was asked about a sandbox's network.
pub(crate) struct Asked {
    pub(crate) sandbox: String,
    pub(crate) answer: watch::Receiver<Option<Result<(), String>>>,
}

impl Asked {
    /// Whether it is known that it isn't so.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(&*self.answer.borrow(), Some(Err(_)))
    }

    /// Waits for the answer.
    pub(crate) async fn answered(&mut self) -> Result<(), String> {
        match self.answer.wait_for(Option::is_some).await {
            // It is waited for until there is one.
            Ok(answer) => answer
                .clone()
                .unwrap_or_else(|| Err("there is no answer".to_owned())),
            Err(_) => Err("the node agent stops".to_owned()),
        }
    }
}
