//! PKCS#12 (RFC 7292) files for the programs that read nothing else. They are only written here.

use anyhow::{Context as _, Result, bail};
use p12_keystore::{
    Certificate, EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey,
    PrivateKeyChain,
};

use super::encoding;

/// How a file is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// AES-256 and HMAC-SHA-256, as OpenSSL 3, Java 17, NSS and Windows 10 write it.
    Modern,
    /// Triple DES and HMAC-SHA-1, which also the macOS keychain and older programs read.
    Compatible,
}

/// A password by which every program finds the same key.
#[derive(Clone)]
pub(super) struct Password(String);

impl Password {
    /// Refuses one whose encoding programs disagree on, or that keytool would not take.
    pub(super) fn new(text: &str) -> Result<Self> {
        let visible = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if visible && (6..=128).contains(&text.len()) {
            Ok(Self(text.to_owned()))
        } else {
            bail!(
                "a password is 6 to 128 visible ASCII characters: programs encode others in different ways"
            )
        }
    }

    /// 122 random bits.
    pub(super) fn random() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

/// A key with its chain, the leaf first, under `name`.
pub(super) fn identity(
    name: &str,
    key_der: &[u8],
    chain_pem: &str,
    encoding: Encoding,
    password: &Password,
) -> Result<Vec<u8>> {
    let chain = certificates(chain_pem)?;
    let key = PrivateKey::from_der(key_der).context(REFUSED)?;
    let entry = KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(name, key, chain));
    write([(name.to_owned(), entry)], encoding, password)
}

/// Certificates that Java is to trust, each under `name` and its number.
pub(super) fn truststore(name: &str, roots_pem: &str, password: &Password) -> Result<Vec<u8>> {
    let roots = certificates(roots_pem)?.into_iter().enumerate();
    let entries = roots.map(|(index, root)| {
        let alias = format!("{name}-{}", index + 1);
        (alias, KeyStoreEntry::Certificate(root))
    });
    write(entries, Encoding::Modern, password)
}

const REFUSED: &str = "it cannot be written as PKCS#12";

fn certificates(pem: &str) -> Result<Vec<Certificate>> {
    let chain = encoding::certificates("the chain", pem)?;
    let chain = chain
        .iter()
        .map(|der| Certificate::from_der(der).context(REFUSED));
    chain.collect()
}

fn write(
    entries: impl IntoIterator<Item = (String, KeyStoreEntry)>,
    encoding: Encoding,
    password: &Password,
) -> Result<Vec<u8>> {
    let mut store = KeyStore::new();
    for (alias, entry) in entries {
        store.add_entry(&alias, entry);
    }
    let (encryption, mac) = match encoding {
        Encoding::Modern => (
            EncryptionAlgorithm::PbeWithHmacSha256AndAes256,
            MacAlgorithm::HmacSha256,
        ),
        Encoding::Compatible => (
            EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc,
            MacAlgorithm::HmacSha1,
        ),
    };
    let writer = store.writer(password.as_str());
    writer
        .encryption_algorithm(encryption)
        .mac_algorithm(mac)
        .write()
        .context(REFUSED)
}
