//! The names of identities, which are those of their directories.

use std::fmt;
use std::str::FromStr;

/// The name of an identity, which is also that of its directory: never a path, never hidden, never `ca`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityName(String);

impl IdentityName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for IdentityName {
    type Err = InvalidIdentityName;

    fn from_str(name: &str) -> Result<Self, InvalidIdentityName> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if name == "ca" {
            return Err(InvalidIdentityName::Reserved);
        }
        if !name.bytes().all(allowed)
            || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || name.len() > 63
        {
            return Err(InvalidIdentityName::Malformed);
        }
        Ok(Self(name.to_owned()))
    }
}

/// Why a text cannot name an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentityName {
    /// It is where the authority is kept.
    #[error("`ca` is where the authority is kept; choose another name")]
    Reserved,
    /// It could be a path, a hidden file, or the same file as another name.
    #[error("a name is 1 to 63 of a-z, 0-9, '-', '_' and '.', and begins with a letter or digit")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_path() {
        for name in ["orders", "orders-2", "a.b_c", "0"] {
            assert_eq!(name.parse::<IdentityName>().unwrap().as_str(), name);
        }
        for name in [
            "",
            ".",
            "..",
            "../orders",
            "a/b",
            "/etc",
            ".hidden",
            "-rf",
            "Orders",
            "a\0",
            "a b",
            "é",
            "CA",
        ] {
            assert_eq!(
                name.parse::<IdentityName>(),
                Err(InvalidIdentityName::Malformed),
                "{name:?}"
            );
        }
        assert_eq!(
            "ca".parse::<IdentityName>(),
            Err(InvalidIdentityName::Reserved)
        );
        assert_eq!(
            "a".repeat(64).parse::<IdentityName>(),
            Err(InvalidIdentityName::Malformed)
        );
    }
}
