//! PKCS#12 (RFC 7292) files for the programs that read nothing else. They are only written here.

use anyhow::{Context as _, Result, ensure};
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

/// Refuses a password whose encoding programs disagree on, or that keytool would not take.
pub(super) fn check_password(text: &str) -> Result<()> {
    let visible = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    ensure!(
        visible && (6..=128).contains(&text.len()),
        "a password is 6 to 128 visible ASCII characters: programs encode others in different ways"
    );
    Ok(())
}

/// A password of 122 random bits.
pub(super) fn random_password() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A key with its chain, the leaf first, under `name`.
pub(super) fn identity(
    name: &str,
    key_der: &[u8],
    chain_pem: &str,
    encoding: Encoding,
    password: &str,
) -> Result<Vec<u8>> {
    let chain = certificates(chain_pem)?;
    let key = PrivateKey::from_der(key_der).context(REFUSED)?;
    let entry = KeyStoreEntry::PrivateKeyChain(PrivateKeyChain::new(name, key, chain));
    write([(name.to_owned(), entry)], encoding, password)
}

/// Certificates that Java is to trust, each under `name` and its number.
pub(super) fn truststore(name: &str, roots_pem: &str, password: &str) -> Result<Vec<u8>> {
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
    password: &str,
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
    let writer = store.writer(password);
    writer
        .encryption_algorithm(encryption)
        .mac_algorithm(mac)
        .write()
        .context(REFUSED)
}
