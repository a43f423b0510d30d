//! An unusable variable of OpenTelemetry.

/// An OpenTelemetry variable with a value that this program does not support.
#[derive(Debug, thiserror::Error)]
#[error("{variable} is {value:?}, and {reason}")]
pub struct InvalidTracing {
    pub(crate) variable: &'static str,
    pub(crate) value: String,
    pub(crate) reason: String,
}
