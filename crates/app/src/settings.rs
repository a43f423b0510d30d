//! Flags, and for each the environment variable of the same name: `--tls-dir` is `APP_TLS_DIR`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;

use clap::Command;
use clap::error::ErrorKind;

use crate::exit;

/// The prefix of every variable that is read. One that nobody reads is an error, because it is a typo.
const PREFIX: &str = "APP_";

/// Parses the command line and the environment.
///
/// Ends the process when they are not usable ([`exit::USAGE`]), or when `--help` or `--version` was asked for.
pub fn parse<T: clap::Parser>() -> T {
    parse_as(T::command())
}

/// The same, and flags may stand after a subcommand as well as before it.
pub fn parse_on_either_side<T: clap::Parser>() -> T {
    parse_as(T::command().mut_args(|argument| argument.global(true)))
}

fn parse_as<T: clap::Parser>(mut command: Command) -> T {
    let unknown = reject_unknown_variables(&command, std::env::vars_os().map(|(name, _)| name));
    let parsed = command
        .try_get_matches_from_mut(std::env::args_os())
        .and_then(|matches| T::from_arg_matches(&matches))
        .map_err(|error| error.format(&mut command));
    let asked =
        |e: &clap::Error| matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    match (parsed, unknown) {
        (Err(error), _) if asked(&error) => error.exit(),
        (Ok(settings), Ok(())) => settings,
        (Err(error), _) => {
            // Nothing is left to do when standard error is closed.
            drop(error.print());
            std::process::exit(exit::USAGE.into())
        }
        (Ok(_), Err(unknown)) => {
            exit::say(&unknown);
            std::process::exit(exit::USAGE.into())
        }
    }
}

/// An `APP_*` variable that no setting reads.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} is not a setting{}", hint(.nearest.as_deref()))]
pub struct UnknownVariable {
    name: String,
    nearest: Option<String>,
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; unset it, or see --help".to_owned(),
        |nearest| format!("; did you mean {nearest}?"),
    )
}

/// Checks that every variable with our prefix is one that `command`, or one of its subcommands, reads.
///
/// # Errors
/// The first that is not, with the known one that it resembles most.
pub fn reject_unknown_variables(
    command: &Command,
    variables: impl Iterator<Item = OsString>,
) -> Result<(), UnknownVariable> {
    let known = known_variables(command);
    for name in variables {
        let name = name.to_string_lossy();
        if !name.starts_with(PREFIX) || known.contains(name.as_ref()) {
            continue;
        }
        let nearest = known
            .iter()
            .map(|known| (shared_prefix(known, &name), known))
            .max()
            .filter(|(shared, _)| *shared > PREFIX.len())
            .map(|(_, known)| known.clone());
        return Err(UnknownVariable {
            name: name.escape_debug().to_string(),
            nearest,
        });
    }
    Ok(())
}

fn known_variables(command: &Command) -> BTreeSet<String> {
    let own = command
        .get_arguments()
        .filter_map(|argument| argument.get_env());
    let mut known: BTreeSet<_> = own
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    known.extend(command.get_subcommands().flat_map(known_variables));
    known
}

fn shared_prefix(one: &str, other: &str) -> usize {
    one.bytes()
        .zip(other.bytes())
        .take_while(|(a, b)| a == b)
        .count()
}

/// A duration as people write it: `250ms`, `5s`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// A duration that passes: neither none nor longer than a year.
    ///
    /// # Errors
    /// What is wrong with the text, for a person.
    pub fn positive(text: &str) -> Result<Self, String> {
        const YEAR: std::time::Duration = std::time::Duration::from_secs(365 * 24 * 60 * 60);
        let duration = Self::from_str(text).map_err(|e| e.to_string())?;
        if duration.0.is_zero() || duration.0 > YEAR {
            return Err("it must be more than nothing and at most a year".to_owned());
        }
        Ok(duration)
    }
}

impl FromStr for Duration {
    type Err = humantime::DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        humantime::parse_duration(text).map(Self)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Parser)]
    struct Settings {
        #[arg(long, env = "APP_TLS_DIR")]
        _tls_dir: Option<String>,
        #[arg(long, env = "APP_LISTEN_ADDR")]
        _listen: Option<String>,
    }

    fn check(names: &[&str]) -> Result<(), String> {
        let names = names.iter().map(OsString::from);
        reject_unknown_variables(&Settings::command(), names).map_err(|e| e.to_string())
    }

    #[test]
    fn a_variable_that_nobody_reads_is_named_with_the_one_that_was_meant() {
        assert_eq!(check(&["APP_TLS_DIR", "HOME", "MY_APP_X"]), Ok(()));
        assert_eq!(
            check(&["APP_TLS_DIRECTORY"]).unwrap_err(),
            "the environment variable APP_TLS_DIRECTORY is not a setting; did you mean APP_TLS_DIR?"
        );
        assert_eq!(
            check(&["APP_COLOUR"]).unwrap_err(),
            "the environment variable APP_COLOUR is not a setting; unset it, or see --help"
        );
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(
            "250ms".parse(),
            Ok(Duration(std::time::Duration::from_millis(250)))
        );
        assert!("5".parse::<Duration>().is_err());
        assert!("-5s".parse::<Duration>().is_err());
        assert!(Duration::positive("1ns").is_ok());
        assert!(Duration::positive("0s").is_err());
        assert!(Duration::positive("1000years").is_err());
    }
}
