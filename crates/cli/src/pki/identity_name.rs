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
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, &'static str> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
        if name == "ca" {
            return Err("`ca` is the directory of the CA; choose another name");
        }
        if !name.bytes().all(allowed)
            || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
            || name.len() > 63
        {
            return Err(
                "a name is 1 to 63 of a-z, 0-9, '-', '_' and '.', and begins with a letter or digit",
            );
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_never_a_path() {
        for name in ["orders", "orders-2", "a.b_c", "0"] {
            assert_eq!(name.parse::<IdentityName>().unwrap().as_str(), name);
        }
        let refused = |name: &str| name.parse::<IdentityName>().unwrap_err();
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
            &"a".repeat(64),
        ] {
            assert!(refused(name).starts_with("a name is"), "{name:?}");
        }
        assert!(refused("ca").contains("choose another"));
    }
}
