//! Serial numbers, as RFC 5280 §4.1.2.2 wants them and as people copy them from one tool to another.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use super::encoding;

/// The serial number of a certificate: positive, at most 20 octets, printed as lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Vec<u8>);

impl Serial {
    /// A serial number of 16 octets, 120 bits of them from a secure random source, so that no two are alike.
    pub fn random() -> Self {
        let mut octets = Uuid::new_v4().into_bytes();
        // Positive, and never shorter than 16 octets.
        octets[0] = octets[0] & 0x7f | 0x40;
        Self(octets.to_vec())
    }

    /// The number that these octets are, most significant first.
    ///
    /// # Errors
    /// When it is zero or longer than 20 octets.
    pub fn from_octets(octets: &[u8]) -> Result<Self, &'static str> {
        let zeros = octets.iter().take_while(|octet| **octet == 0).count();
        match &octets[zeros..] {
            [] => Err("a serial number is not zero"),
            octets if octets.len() > 20 => Err("a serial number has at most 20 octets"),
            octets => Ok(Self(octets.to_vec())),
        }
    }

    /// The octets, most significant first, without leading zeros.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl FromStr for Serial {
    type Err = &'static str;

    /// Reads hexadecimal, in either case, with or without colons or a leading `0x`.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let mut digits = text.strip_prefix("0x").unwrap_or(text).replace(':', "");
        if digits.len() % 2 == 1 {
            digits.insert(0, '0');
        }
        let octets = encoding::hexadecimal(&digits)
            .ok_or("a serial number is written in hexadecimal, such as 4f:1a:02 or 4f1a02")?;
        Self::from_octets(&octets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_other_tools_are_the_same_number() {
        for text in ["4f1a02", "4F1A02", "4f:1a:02", "0x4f1a02", "004f1a02"] {
            assert_eq!(
                text.parse::<Serial>().unwrap().to_string(),
                "4f1a02",
                "{text}"
            );
        }
        assert_eq!("f".parse::<Serial>().unwrap().to_string(), "0f");
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for (text, why) in [
            ("", "not zero"),
            ("00", "not zero"),
            ("-1", "in hexadecimal"),
            ("4f 1a", "in hexadecimal"),
            (&"1".repeat(41), "at most 20"),
        ] {
            let refused = text.parse::<Serial>().unwrap_err();
            assert!(refused.contains(why), "{text}: {refused}");
        }
    }

    #[test]
    fn random_ones_are_positive_and_of_one_length() {
        for _ in 0..1000 {
            let serial = Serial::random();
            assert_eq!(serial.octets().len(), 16);
            assert!(serial.octets()[0] & 0x80 == 0);
        }
    }
}
