//! Why a text is not a valid policy: the place and the reason. Text of the policy is shown escaped.

use std::fmt;

/// Why a text is not a policy, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {}{fault}", PathInFile(pointer))]
pub struct InvalidPolicy {
    /// The JSON pointer (RFC 6901) of the value at fault; empty for the whole text.
    pub pointer: String,
    /// The line on which that value begins, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub fault: PolicyFault,
}

struct PathInFile<'a>(&'a str);

impl fmt::Display for PathInFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            pointer => write!(f, "{}: ", pointer.escape_debug()),
        }
    }
}

/// What is wrong with a value of a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyFault {
    /// The text is not one JSON value.
    #[error("not JSON: {0}")]
    NotJson(String),
    /// A value of another type.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// What belongs there.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// A field that the standard does not define.
    #[error("unknown field {field:?}; the fields here are {}", known.join(", "))]
    UnknownField {
        /// The field.
        field: String,
        /// The fields that are defined.
        known: &'static [&'static str],
    },
    /// A repeated field.
    #[error("the field {0:?} is repeated: keep one")]
    DuplicateField(String),
    /// A required field that is missing or empty.
    #[error("{0:?} is missing or empty")]
    Missing(&'static str),
    /// Two rules of one name.
    #[error("the rule on line {first} has the same name, {name:?}: names must be unique in a list")]
    DuplicateRule {
        /// The name.
        name: String,
        /// The line of the first rule.
        first: u32,
    },
    /// A pattern with a star at both ends.
    #[error("{0:?} has a star at both ends: a pattern is *, prefix*, *suffix or exact")]
    StarAtBothEnds(String),
    /// A header that a policy must not use.
    #[error("the header {0:?} belongs to the transport and cannot be part of a policy (gRFC A43)")]
    ForbiddenHeader(String),
    /// A key that no header can have.
    #[error("{0:?} is not a header name")]
    NotAHeader(String),
    /// An unknown audit condition.
    #[error("unknown audit condition {0:?}; use NONE, ON_DENY, ON_ALLOW or ON_DENY_AND_ALLOW")]
    UnknownCondition(String),
    /// An audit logger that is not registered and not optional.
    #[error("no audit logger is registered as {name:?}; registered are {registered}")]
    UnknownLogger {
        /// The name asked for.
        name: String,
        /// The names there are.
        registered: String,
    },
    /// An audit logger that refuses its configuration.
    #[error("the audit logger {name:?} refuses its configuration: {reason}")]
    LoggerConfig {
        /// The logger.
        name: String,
        /// What it says.
        reason: String,
    },
}
