//! docs/errors.md as the tool uses it: what to do about a code, in the words of the one catalogue.

const ERRORS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/errors.md"));

/// How the heading of a code begins, and the line that says what to do.
const HEADING: &str = "### `";
const DO: &str = "- Do: ";

/// What to do about `code`, when the catalogue has it.
pub(crate) fn remedy(code: &str) -> Option<&'static str> {
    let (_, entry) = ERRORS.split_once(&format!("\n{HEADING}{code}`\n"))?;
    let entry = entry.split(HEADING).next().unwrap_or(entry);
    entry.lines().find_map(|line| line.strip_prefix(DO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_of_the_catalogue_comes_once_and_says_what_to_do() {
        let codes: Vec<_> = ERRORS
            .lines()
            .filter_map(|line| line.strip_prefix(HEADING)?.strip_suffix('`'))
            .collect();
        assert!(codes.len() > 50, "{codes:?}");
        for code in &codes {
            assert!(remedy(code).is_some_and(|it| it.len() > 10), "{code}");
            let times = codes.iter().filter(|other| *other == code).count();
            assert_eq!(times, 1, "{code}");
        }
        assert_eq!(remedy("NO_SUCH_CODE"), None);
    }
}
