//! Faults in parts of the credentials. Each fault is logged once, and only when two reads in a row find it, since a file
//! may still be being written.

use crate::trust::invalid::InvalidCredentials;
use crate::trust::root::Vouches;

/// How many reads in a row must find a fault before it is logged.
const SAID_AFTER: u32 = 2;

/// How many must find a different fault of the same part: a slow writer causes one after the other.
const SAID_AGAIN_AFTER: u32 = 30;

/// A part of the credentials that keeps its own last good content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Our chain and its key.
    Own,
    /// The roots of one bundle.
    Roots(Vouches),
    /// The file of revocation lists as a whole.
    Lists,
    /// The lists of one issuer, by its name in DER.
    ListOf(Vec<u8>),
    /// The source of all parts.
    Source,
    /// The file that records the newest lists.
    CrlState,
}

/// Why the new content of a part is not in use.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) part: Part,
    pub(crate) error: InvalidCredentials,
}

impl Fault {
    pub(crate) fn new(part: Part, error: InvalidCredentials) -> Self {
        Self { part, error }
    }

    /// Whether it is in the roots of this bundle.
    pub(crate) fn is_of_roots(&self, vouches: &Vouches) -> bool {
        matches!(&self.part, Part::Roots(of) if of == vouches)
    }
}

/// The current faults, and which were logged.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<PreviousFault>);

#[derive(Debug)]
struct PreviousFault {
    fault: Fault,
    text: String,
    /// How many reads in a row found it.
    reads: u32,
    said: Option<String>,
}

impl Faults {
    /// Replaces the faults of the last read by those of the next one.
    pub(crate) fn found(&mut self, faults: Vec<Fault>) {
        let mut met: Vec<PreviousFault> = Vec::new();
        for fault in faults {
            if met.iter().any(|other| other.fault.part == fault.part) {
                continue;
            }
            let text = fault.error.to_string();
            let mut before = self.0.iter();
            let before = before.find(|before| before.fault.part == fault.part);
            met.push(PreviousFault {
                reads: before
                    .filter(|before| before.text == text)
                    .map_or(1, |before| before.reads.saturating_add(1)),
                said: before.and_then(|before| before.said.clone()),
                fault,
                text,
            });
        }
        self.0 = met;
    }

    /// The same was found once more.
    pub(crate) fn found_again(&mut self) {
        for met in &mut self.0 {
            met.reads = met.reads.saturating_add(1);
        }
    }

    /// The faults to log now; each is returned once.
    pub(crate) fn take_due(&mut self) -> Vec<Fault> {
        let due = |met: &&mut PreviousFault| match &met.said {
            None => met.reads >= SAID_AFTER,
            Some(said) => *said != met.text && met.reads >= SAID_AGAIN_AFTER,
        };
        let say = |met: &mut PreviousFault| {
            met.said = Some(met.text.clone());
            met.fault.clone()
        };
        self.0.iter_mut().filter(due).map(say).collect()
    }

    /// Whether a fault of `part` was logged and is still there.
    pub(crate) fn was_said_of(&self, part: &Part) -> bool {
        let mut met = self.0.iter();
        met.any(|met| met.fault.part == *part && met.said.is_some())
    }

    /// Whether no current fault was logged.
    pub(crate) fn are_gone(&self) -> bool {
        self.0.iter().all(|met| met.said.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(part: Part, reason: &str) -> Fault {
        Fault::new(part, InvalidCredentials::new("PEM_MALFORMED", reason))
    }

    /// How many lines these reads make: a letter is a fault of our chain, and a point none.
    fn lines(reads: &str) -> usize {
        let mut faults = Faults::default();
        let lines = reads.chars().map(|read| {
            let found = vec![fault(Part::Own, &read.to_string())];
            faults.found(if read == '.' { Vec::new() } else { found });
            faults.take_due().len()
        });
        lines.sum()
    }

    #[test]
    fn a_slow_write_makes_one_line_and_what_was_whole_at_the_next_read_none() {
        let stays = |fault: &str, reads| fault.repeat(reads);
        for (what, reads, expected) in [
            ("half at one read", "a.".to_owned(), 0),
            ("half at one read, again and again", "a.".repeat(9), 0),
            ("another half at each read", "abcdefgh".to_owned(), 0),
            ("two halves in turn", "ab".repeat(20), 0),
            ("half at two reads", "aa.".to_owned(), 1),
            ("half for long", stays("a", 99), 1),
            ("a slow write", "abbcccddeeee".to_owned(), 1),
            ("a slow write, then good", "aabb..".to_owned(), 1),
            ("a second fault after good content", "aa.aa".to_owned(), 2),
            (
                "one half, then another for long",
                format!("aa{}", stays("b", 29)),
                1,
            ),
            (
                "one fault, then another that stays",
                format!("aa{}", stays("b", 30)),
                2,
            ),
            (
                "a third that stays",
                format!("aa{}{}", stays("b", 30), stays("c", 30)),
                3,
            ),
        ] {
            assert_eq!(lines(&reads), expected, "{what}");
        }
    }

    #[test]
    fn each_part_has_its_own_line_and_another_fault_that_stays_is_said_too() {
        let mut faults = Faults::default();
        let of = |issuer: &[u8]| Part::ListOf(issuer.to_vec());
        faults.found(vec![
            fault(of(b"x"), "a"),
            fault(of(b"y"), "b"),
            fault(Part::Roots(Vouches::ForEverybody), "c"),
        ]);
        assert_eq!(faults.take_due().len(), 0);
        faults.found_again();
        assert_eq!(faults.take_due().len(), 3);
        faults.found_again();
        assert_eq!(faults.take_due().len(), 0);
        faults.found(vec![fault(Part::Roots(Vouches::ForEverybody), "d")]);
        for _ in 0..SAID_AGAIN_AFTER {
            faults.found_again();
        }
        let said = faults.take_due();
        assert_eq!(said.len(), 1);
        assert!(
            said.iter().all(|it| it.error.to_string().contains('d')),
            "{said:?}"
        );
        assert!(!faults.are_gone());
    }
}
