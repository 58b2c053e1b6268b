//! What a token says.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::user::{AUTHENTICATED, User};

/// An object by name and UID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) name: String,
    pub(super) uid: String,
}

impl Reference {
    pub(super) fn of(object: &Value) -> Self {
        Self::read(object.get("metadata").unwrap_or(&Value::Null)).unwrap_or(Self {
            name: String::new(),
            uid: String::new(),
        })
    }

    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            name: text("name")?,
            uid: text("uid").unwrap_or_default(),
        })
    }

    fn write(&self) -> Value {
        json!({"name": self.name, "uid": self.uid})
    }
}

/// The claims of a token; the names and the nesting are the stock server's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) issuer: String,
    pub(super) audiences: Vec<String>,
    pub(super) issued: i64,
    pub(super) not_before: i64,
    pub(super) expires: i64,
    pub(super) id: String,
    pub(super) namespace: String,
    pub(super) account: Reference,
    pub(super) pod: Option<Reference>,
    pub(super) secret: Option<Reference>,
    /// The node of the pod, or the node that the token is bound to when there is no pod.
    pub(super) node: Option<Reference>,
}

impl Claims {
    pub(super) fn new(
        issuer: &str,
        audiences: &[String],
        now: i64,
        seconds: i64,
        namespace: &str,
        account: Reference,
    ) -> Self {
        Self {
            issuer: issuer.to_owned(),
            audiences: audiences.to_vec(),
            issued: now,
            not_before: now,
            expires: now.saturating_add(seconds),
            id: uuid::Uuid::new_v4().to_string(),
            namespace: namespace.to_owned(),
            account,
            pod: None,
            secret: None,
            node: None,
        }
    }

    fn subject(&self) -> String {
        format!(
            "system:serviceaccount:{}:{}",
            self.namespace, self.account.name
        )
    }

    pub(super) fn encode(&self) -> Value {
        let mut private =
            json!({"namespace": self.namespace, "serviceaccount": self.account.write()});
        for (name, reference) in [
            ("pod", &self.pod),
            ("secret", &self.secret),
            ("node", &self.node),
        ] {
            if let Some(reference) = reference {
                private[name] = reference.write();
            }
        }
        json!({
            "iss": self.issuer, "aud": self.audiences, "iat": self.issued, "nbf": self.not_before, "exp": self.expires,
            "jti": self.id, "sub": self.subject(), "kubernetes.io": private,
        })
    }

    pub(super) fn decode(claims: &Value) -> Option<Self> {
        let private = claims.get("kubernetes.io")?;
        let reference = |name: &str| private.get(name).and_then(Reference::read);
        // What a token is bound to and cannot be read must not become a token that is bound to nothing.
        let bound = |name: &str| match private.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(at) => Reference::read(at).map(Some),
        };
        let audiences = match claims.get("aud")? {
            Value::String(one) => vec![one.clone()],
            many => many
                .as_array()?
                .iter()
                .filter_map(|a| a.as_str().map(str::to_owned))
                .collect(),
        };
        let read = Self {
            issuer: claims.get("iss")?.as_str()?.to_owned(),
            audiences,
            issued: claims
                .get("iat")
                .and_then(Value::as_i64)
                .unwrap_or_default(),
            not_before: claims
                .get("nbf")
                .and_then(Value::as_i64)
                .unwrap_or_default(),
            expires: claims.get("exp")?.as_i64()?,
            id: claims
                .get("jti")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            namespace: private.get("namespace")?.as_str()?.to_owned(),
            account: reference("serviceaccount")?,
            pod: bound("pod")?,
            secret: bound("secret")?,
            node: bound("node")?,
        };
        (claims.get("sub")?.as_str()? == read.subject()).then_some(read)
    }

    /// What must still exist: storage name, namespace and object. The node of a pod's token may
    /// go before the pod.
    pub(super) fn references(&self) -> Vec<(&'static str, &str, &Reference)> {
        let mut all = vec![(super::ACCOUNTS, self.namespace.as_str(), &self.account)];
        all.extend(
            self.pod
                .as_ref()
                .map(|pod| ("core/pods", self.namespace.as_str(), pod)),
        );
        all.extend(
            self.secret
                .as_ref()
                .map(|secret| ("core/secrets", self.namespace.as_str(), secret)),
        );
        all.extend(
            self.node
                .as_ref()
                .filter(|_| self.pod.is_none())
                .map(|node| ("core/nodes", "", node)),
        );
        all
    }

    pub(super) fn user(&self) -> User {
        let mut extra = BTreeMap::new();
        let mut put = |name: &str, value: &str| {
            extra.insert(
                format!("authentication.kubernetes.io/{name}"),
                vec![value.to_owned()],
            );
        };
        if !self.id.is_empty() {
            put("credential-id", &format!("JTI={}", self.id));
        }
        for (kind, reference) in [("pod", &self.pod), ("node", &self.node)] {
            if let Some(reference) = reference {
                put(&format!("{kind}-name"), &reference.name);
                put(&format!("{kind}-uid"), &reference.uid);
            }
        }
        User {
            name: self.subject(),
            uid: self.account.uid.clone(),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{}", self.namespace),
                AUTHENTICATED.to_owned(),
            ],
            extra,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_is_bound_to_is_read_or_the_token_is_none() {
        let account = Reference {
            name: "a".to_owned(),
            uid: "u".to_owned(),
        };
        let good = Claims::new("i", &[], 0, 10, "n", account).encode();
        assert!(Claims::decode(&good).is_some());
        for name in ["pod", "secret", "node"] {
            let mut bound = good.clone();
            bound["kubernetes.io"][name] = json!({"name": "p", "uid": "u"});
            assert!(Claims::decode(&bound).is_some());
            for odd in [json!({"uid": "u"}), json!("p"), json!([])] {
                bound["kubernetes.io"][name] = odd;
                assert_eq!(Claims::decode(&bound), None, "{bound}");
            }
        }
    }
}
