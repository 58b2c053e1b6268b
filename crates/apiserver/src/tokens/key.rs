//! The key of service account tokens: ES256 or RS256, compact JWS.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use ring::{
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, KeyPair, RsaKeyPair, UnparsedPublicKey},
};
use rustls_pki_types::{PrivatePkcs8KeyDer, pem::PemObject};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A key that cannot sign tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not PEM.
    #[error("the service account key is not a PKCS#8 key in PEM")]
    Pem,
    /// Another kind of key.
    #[error("the service account key is neither ECDSA P-256 nor RSA (2048 bits or more)")]
    Kind,
}

/// Signs and checks.
pub struct SigningKey {
    pair: Pair,
    id: String,
}

enum Pair {
    Ecdsa(Box<EcdsaKeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads a PKCS#8 key in PEM.
    ///
    /// # Errors
    /// When it is not PEM, or of another kind than ECDSA P-256 and RSA.
    pub fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| KeyError::Pem)?;
        let der = der.secret_pkcs8_der();
        let pair = match EcdsaKeyPair::from_pkcs8(
            &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            der,
            &SystemRandom::new(),
        ) {
            Ok(pair) => Pair::Ecdsa(Box::new(pair)),
            Err(_) => Pair::Rsa(Box::new(
                RsaKeyPair::from_pkcs8(der).map_err(|_| KeyError::Kind)?,
            )),
        };
        let public = match &pair {
            Pair::Ecdsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
        };
        Ok(Self {
            pair,
            id: BASE64URL.encode(Sha256::digest(public)),
        })
    }

    fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Ecdsa(_) => "ES256",
            Pair::Rsa(_) => "RS256",
        }
    }

    /// The public half as a JSON web key.
    #[must_use]
    pub fn public(&self) -> Value {
        let mut key = json!({"use": "sig", "kid": self.id, "alg": self.algorithm()});
        match &self.pair {
            Pair::Ecdsa(pair) => {
                // an uncompressed point: 4, x, y
                let point = pair.public_key().as_ref();
                let (x, y) = point.get(1..).unwrap_or_default().split_at(point.len() / 2);
                key["kty"] = json!("EC");
                key["crv"] = json!("P-256");
                key["x"] = json!(BASE64URL.encode(x));
                key["y"] = json!(BASE64URL.encode(y));
            }
            Pair::Rsa(pair) => {
                let parts: rsa::PublicKeyComponents<Vec<u8>> = pair.public().into();
                key["kty"] = json!("RSA");
                key["n"] = json!(BASE64URL.encode(parts.n));
                key["e"] = json!(BASE64URL.encode(parts.e));
            }
        }
        key
    }

    /// Signs claims.
    #[must_use]
    pub fn seal(&self, claims: &Value) -> String {
        let header = json!({"alg": self.algorithm(), "kid": self.id, "typ": "JWT"});
        let signed = format!(
            "{}.{}",
            BASE64URL.encode(header.to_string()),
            BASE64URL.encode(claims.to_string())
        );
        format!(
            "{signed}.{}",
            BASE64URL.encode(self.sign(signed.as_bytes()))
        )
    }

    /// A signature; empty, and so never valid, if the random source fails.
    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair
                .sign(&random, message)
                .map(|s| s.as_ref().to_vec())
                .unwrap_or_default(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                match pair.sign(
                    &signature::RSA_PKCS1_SHA256,
                    &random,
                    message,
                    &mut signature,
                ) {
                    Ok(()) => signature,
                    Err(_) => Vec::new(),
                }
            }
        }
    }

    /// The claims of a token that this key has signed.
    #[must_use]
    pub fn open(&self, token: &str) -> Option<Value> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&BASE64URL.decode(header).ok()?).ok()?;
        if header.get("alg").and_then(Value::as_str) != Some(self.algorithm()) {
            return None;
        }
        let signature = BASE64URL.decode(signature).ok()?;
        let verified = match &self.pair {
            Pair::Ecdsa(pair) => UnparsedPublicKey::new(
                &signature::ECDSA_P256_SHA256_FIXED,
                pair.public_key().as_ref(),
            )
            .verify(signed.as_bytes(), &signature),
            Pair::Rsa(pair) => UnparsedPublicKey::new(
                &signature::RSA_PKCS1_2048_8192_SHA256,
                pair.public_key().as_ref(),
            )
            .verify(signed.as_bytes(), &signature),
        };
        verified.ok()?;
        serde_json::from_slice(&BASE64URL.decode(claims).ok()?).ok()
    }
}
