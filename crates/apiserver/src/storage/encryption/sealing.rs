//! Keys, and what they do to bytes.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::aes::{Aes128, Aes192, Aes256};
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::Aead as _;
use rand::RngExt as _;

type Aes192Gcm = AesGcm<Aes192, aes_gcm::aead::consts::U12>;

const GCM_NONCE: usize = 12;
const BOX_NONCE: usize = 24;
const CBC_IV: usize = 16;

/// A key with its name.
pub(super) struct NamedKey {
    pub(super) name: String,
    cipher: Cipher,
}

impl std::fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NamedKey({})", self.name)
    }
}

/// What a provider does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// AES-GCM with a random nonce.
    AesGcm,
    /// AES-CBC with PKCS #7 padding.
    AesCbc,
    /// XSalsa20 and Poly1305.
    Secretbox,
}

enum Cipher {
    Gcm128(Box<Aes128Gcm>),
    Gcm192(Box<Aes192Gcm>),
    Gcm256(Box<Aes256Gcm>),
    Cbc(Vec<u8>),
    Secretbox(Box<XSalsa20Poly1305>),
}

impl Method {
    /// Its name in the configuration and in stored values.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AesGcm => "aesgcm",
            Self::AesCbc => "aescbc",
            Self::Secretbox => "secretbox",
        }
    }

    /// Lengths that a key may have.
    pub(super) fn key_lengths(self) -> &'static [usize] {
        match self {
            Self::AesGcm | Self::AesCbc => &[16, 24, 32],
            Self::Secretbox => &[32],
        }
    }

    /// A key; none when it has another length.
    pub(super) fn key(self, name: &str, secret: &[u8]) -> Option<NamedKey> {
        let cipher = match (self, secret.len()) {
            (Self::AesGcm, 16) => Cipher::Gcm128(Box::new(Aes128Gcm::new_from_slice(secret).ok()?)),
            (Self::AesGcm, 24) => Cipher::Gcm192(Box::new(Aes192Gcm::new_from_slice(secret).ok()?)),
            (Self::AesGcm, 32) => Cipher::Gcm256(Box::new(Aes256Gcm::new_from_slice(secret).ok()?)),
            (Self::AesCbc, 16 | 24 | 32) => Cipher::Cbc(secret.to_vec()),
            (Self::Secretbox, 32) => {
                use crypto_secretbox::KeyInit as _;
                Cipher::Secretbox(Box::new(XSalsa20Poly1305::new_from_slice(secret).ok()?))
            }
            _ => return None,
        };
        Some(NamedKey {
            name: name.to_owned(),
            cipher,
        })
    }
}

fn random<const N: usize>() -> [u8; N] {
    rand::rng().random()
}

fn joined(nonce: &[u8], sealed: &[u8]) -> Vec<u8> {
    [nonce, sealed].concat()
}

impl NamedKey {
    /// Seals bytes; those in `bound` must be the same when they are opened.
    pub(super) fn seal(&self, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, String> {
        let failed = || format!("key {:?} cannot encrypt the object", self.name);
        let payload = Payload {
            msg: plain,
            aad: bound,
        };
        let nonce = random::<GCM_NONCE>();
        let sealed = match &self.cipher {
            Cipher::Gcm128(cipher) => cipher.encrypt(&nonce.into(), payload),
            Cipher::Gcm192(cipher) => cipher.encrypt(&nonce.into(), payload),
            Cipher::Gcm256(cipher) => cipher.encrypt(&nonce.into(), payload),
            Cipher::Cbc(key) => {
                let iv = random::<CBC_IV>();
                return cbc_seal(key, &iv, plain)
                    .map(|sealed| joined(&iv, &sealed))
                    .ok_or_else(failed);
            }
            Cipher::Secretbox(cipher) => {
                let nonce = random::<BOX_NONCE>();
                return cipher
                    .encrypt(&nonce.into(), plain)
                    .map(|sealed| joined(&nonce, &sealed))
                    .map_err(|_| failed());
            }
        };
        sealed
            .map(|sealed| joined(&nonce, &sealed))
            .map_err(|_| failed())
    }

    /// Opens what was sealed; none when that was with another key, or it was changed.
    pub(super) fn open(&self, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        match &self.cipher {
            Cipher::Gcm128(cipher) => gcm_open(cipher.as_ref(), bound, sealed),
            Cipher::Gcm192(cipher) => gcm_open(cipher.as_ref(), bound, sealed),
            Cipher::Gcm256(cipher) => gcm_open(cipher.as_ref(), bound, sealed),
            Cipher::Cbc(key) => {
                let (iv, sealed) = sealed.split_first_chunk::<CBC_IV>()?;
                cbc_open(key, iv, sealed)
            }
            Cipher::Secretbox(cipher) => {
                let (nonce, sealed) = sealed.split_first_chunk::<BOX_NONCE>()?;
                cipher.decrypt(&(*nonce).into(), sealed).ok()
            }
        }
    }
}

fn gcm_open<C>(cipher: &C, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>>
where
    C: Aead + aes_gcm::aead::AeadCore<NonceSize = aes_gcm::aead::consts::U12>,
{
    let (nonce, sealed) = sealed.split_first_chunk::<GCM_NONCE>()?;
    let payload = Payload {
        msg: sealed,
        aad: bound,
    };
    cipher.decrypt(&(*nonce).into(), payload).ok()
}

fn cbc_seal(key: &[u8], iv: &[u8; CBC_IV], plain: &[u8]) -> Option<Vec<u8>> {
    fn sealed<C>(key: &[u8], iv: &[u8], plain: &[u8]) -> Option<Vec<u8>>
    where
        C: BlockModeEncrypt + KeyIvInit,
    {
        let cipher = C::new_from_slices(key, iv).ok()?;
        Some(cipher.encrypt_padded_vec::<Pkcs7>(plain))
    }
    match key.len() {
        16 => sealed::<cbc::Encryptor<Aes128>>(key, iv, plain),
        24 => sealed::<cbc::Encryptor<Aes192>>(key, iv, plain),
        _ => sealed::<cbc::Encryptor<Aes256>>(key, iv, plain),
    }
}

fn cbc_open(key: &[u8], iv: &[u8; CBC_IV], sealed: &[u8]) -> Option<Vec<u8>> {
    fn opened<C>(key: &[u8], iv: &[u8], sealed: &[u8]) -> Option<Vec<u8>>
    where
        C: BlockModeDecrypt + KeyIvInit,
    {
        let cipher = C::new_from_slices(key, iv).ok()?;
        cipher.decrypt_padded_vec::<Pkcs7>(sealed).ok()
    }
    match key.len() {
        16 => opened::<cbc::Decryptor<Aes128>>(key, iv, sealed),
        24 => opened::<cbc::Decryptor<Aes192>>(key, iv, sealed),
        _ => opened::<cbc::Decryptor<Aes256>>(key, iv, sealed),
    }
}
