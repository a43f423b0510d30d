//! Flags, and for each the environment variable of the same name: `--tls-dir` is `APP_TLS_DIR`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;
use std::str::FromStr;
use std::sync::Mutex;

use clap::Command;
use clap::error::ErrorKind;

use crate::program::exit;

/// The prefix of every variable that is read. A variable that resembles a setting is treated as a typo and is an error;
/// any other may belong to another program.
const PREFIX: &str = "APP_";

/// What [`parse_with`] found, until there is a log to write it to.
static IGNORED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Warns once, in one line, of the `APP_*` variables that are ignored. Their values may be secrets and are never logged.
#[cfg(any(feature = "server", feature = "client"))]
pub(crate) fn warn_of_ignored_variables() {
    let mut ignored = IGNORED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let names = std::mem::take(&mut *ignored).join(", ");
    if !names.is_empty() {
        tracing::warn!(names, "{}", crate::events::VARIABLES_IGNORED);
    }
}

/// Parses the command line and the environment.
///
/// Ends the process when they are not usable ([`exit::USAGE`]), or when `--help` or `--version` was asked for.
pub fn parse<T: clap::Parser>() -> T {
    parse_with(|command| command)
}

/// As [`parse`], with a change to the command before it is used, such as other defaults.
pub fn parse_with<T: clap::Parser>(change: impl FnOnce(Command) -> Command) -> T {
    let mut command = change(T::command());
    let unknown = reject_unknown_variables(&command, std::env::vars_os().map(|(name, _)| name));
    let parsed = command
        .try_get_matches_from_mut(std::env::args_os())
        .and_then(|mut matches| T::from_arg_matches_mut(&mut matches))
        .map_err(|error| error.format(&mut command));
    let asked =
        |e: &clap::Error| matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    match (parsed, unknown) {
        (Err(error), _) if asked(&error) => error.exit(),
        (Ok(settings), Ok(ignored)) => {
            *IGNORED
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner) = ignored;
            settings
        }
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

/// An `APP_*` variable that no setting reads, and that looks as if one was meant.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment variable {name} is not a setting; did you mean {nearest}?")]
pub struct UnknownVariable {
    name: String,
    nearest: String,
}

/// Checks that no variable with our prefix is almost one that `command`, or one of its subcommands, reads, and returns the
/// names of those that are ignored: all others but what Kubernetes sets for a Service named `app` or `app-…`, and the
/// settings of any server or client of this library.
///
/// # Errors
/// The first misspelled variable, with the setting that it resembles most.
pub fn reject_unknown_variables(
    command: &Command,
    variables: impl Iterator<Item = OsString>,
) -> Result<Vec<String>, UnknownVariable> {
    let known = known_variables(command);
    let flags = variables_of_flags(command);
    let others = of_any_program();
    let mut ignored = BTreeSet::new();
    for name in variables {
        let name = name.to_string_lossy();
        let is_read = known.contains(&*name) || others.contains(&*name);
        if !name.starts_with(PREFIX) || is_read || is_service_link(&name) {
            continue;
        }
        let shown = name.escape_debug().to_string();
        let of_flag = flags.get(&*name).map(String::as_str);
        if let Some(nearest) = of_flag.or_else(|| nearest(&known, &name)) {
            return Err(UnknownVariable {
                name: shown,
                nearest: nearest.to_owned(),
            });
        }
        ignored.insert(shown);
    }
    Ok(ignored.into_iter().collect())
}

/// What the servers and clients of this library read, so that one environment may serve them all.
fn of_any_program() -> BTreeSet<String> {
    let settings = Command::new("any");
    #[cfg(feature = "server")]
    let settings = <crate::server::Settings as clap::Args>::augment_args(settings);
    let mut known = known_variables(&settings);
    let settings = Command::new("any");
    #[cfg(feature = "client")]
    let settings = <crate::client::ConnectionSettings as clap::Args>::augment_args(settings);
    known.extend(known_variables(&settings));
    known
}

/// The variable of each flag, by the name that it would have if it were that of the flag: `APP_POLICY` for `--policy`.
fn variables_of_flags(command: &Command) -> BTreeMap<String, String> {
    let named = |argument: &clap::Arg| {
        let flag = argument.get_long()?.replace('-', "_").to_ascii_uppercase();
        let variable = argument.get_env()?.to_string_lossy().into_owned();
        Some((format!("{PREFIX}{flag}"), variable))
    };
    let mut flags: BTreeMap<_, _> = command.get_arguments().filter_map(named).collect();
    flags.extend(command.get_subcommands().flat_map(variables_of_flags));
    flags
}

/// The setting that was probably meant: one that the name begins, ends or is begun by, or is a typo or two away from.
fn nearest<'a>(known: &'a BTreeSet<String>, name: &str) -> Option<&'a str> {
    let meant = |known: &&String| {
        let shorter = known.len().min(name.len()).saturating_sub(PREFIX.len());
        let ends = |rest: &str| known.ends_with(rest);
        let is_part = shorter >= MIN_BEGINNING
            && (known.starts_with(name)
                || name.starts_with(*known)
                || name.strip_prefix(PREFIX).is_some_and(ends));
        is_part || strsim::levenshtein(known, name) <= (shorter / LETTERS_A_TYPO).min(MAX_TYPOS)
    };
    let shared = |known: &&String| shared_prefix(known, name);
    known
        .iter()
        .filter(meant)
        .max_by_key(shared)
        .map(String::as_str)
}

/// A shorter beginning says nothing.
const MIN_BEGINNING: usize = 6;
/// More than these, and a guess would mislead.
const MAX_TYPOS: usize = 2;
/// A name has to have so many letters for each typo in it.
const LETTERS_A_TYPO: usize = 3;

/// Whether Kubernetes sets such a variable for each Service of the namespace: `APP_SERVICE_HOST`,
/// `APP_DB_PORT_5432_TCP_ADDR`.
fn is_service_link(name: &str) -> bool {
    let port = |rest: &str| {
        let mut parts = rest.split('_');
        let number = parts.next().is_some_and(|it| it.parse::<u16>().is_ok());
        let protocol = parts
            .next()
            .is_some_and(|it| ["TCP", "UDP", "SCTP"].contains(&it));
        number && protocol
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name
            .match_indices("_PORT_")
            .any(|(at, it)| name.get(at + it.len()..).is_some_and(port))
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
    /// A duration of more than zero and at most a year.
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
    struct TestSettings {
        #[arg(long, env = "APP_TLS_DIR")]
        _tls_dir: Option<String>,
        #[arg(long, env = "APP_LISTEN_ADDR")]
        _listen: Option<String>,
        #[arg(long = "policy", env = "APP_AUTHZ_POLICY_FILE")]
        _policy: Option<String>,
    }

    fn check(names: &[&str]) -> Result<(), String> {
        let names = names.iter().map(OsString::from);
        let checked = reject_unknown_variables(&TestSettings::command(), names);
        checked.map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn a_variable_that_nobody_reads_is_named_with_the_one_that_was_meant() {
        assert_eq!(check(&["APP_TLS_DIR", "HOME", "MY_APP_X"]), Ok(()));
        assert_eq!(
            check(&["APP_TLS_DIRECTORY"]).unwrap_err(),
            "the environment variable APP_TLS_DIRECTORY is not a setting; did you mean APP_TLS_DIR?"
        );
        for typo in [
            "APP_TLS_DIRS",
            "APP_TSL_DIR",
            "APP_LISTEN",
            "APP_LISTEN_ADDRESS",
            "APP_LISTN_ADDR",
        ] {
            assert!(check(&[typo]).is_err(), "{typo}");
        }
        // A flag whose variable has another name, and the end of such a name.
        for typo in ["APP_POLICY", "APP_POLICY_FILE"] {
            let refused = check(&[typo]).unwrap_err();
            assert!(
                refused.ends_with("did you mean APP_AUTHZ_POLICY_FILE?"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_variable_of_another_program_or_of_a_service_is_left_alone() {
        let others = [
            "APP_PORT",
            "APP_SERVICE_HOST",
            "APP_SERVICE_PORT",
            "APP_SERVICE_PORT_GRPC",
            "APP_PORT_50051_TCP",
            "APP_DB_PORT_5432_TCP_ADDR",
            "APP_DB_SERVICE_HOST",
            "APP_LISTEN_ADDR_PORT",
            "APP_COLOUR",
            "APP_RATE",
            "APP_",
        ];
        for name in others {
            assert_eq!(check(&[name]), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_nobody_reads_is_named_and_links_and_settings_of_other_programs_are_not() {
        let set = [
            "APP_RATE",
            "APP_COLOUR",
            "APP_\u{1b}[2J",
            "APP_TLS_DIR",
            "APP_PORT",
            "APP_PORT_50051_TCP",
            "APP_PORT_50051_TCP_ADDR",
            "APP_SERVICE_HOST",
            "HOME",
            #[cfg(feature = "server")]
            "APP_DRAIN_DELAY",
            #[cfg(feature = "client")]
            "APP_TARGET",
        ];
        let ignored = reject_unknown_variables(
            &TestSettings::command(),
            set.into_iter().map(OsString::from),
        );
        assert_eq!(
            ignored.unwrap(),
            ["APP_COLOUR", "APP_RATE", "APP_\\u{1b}[2J"]
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
