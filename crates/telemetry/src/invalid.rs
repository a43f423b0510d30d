//! An unusable variable of OpenTelemetry.

/// A variable of OpenTelemetry's that is set to what this program cannot do.
#[derive(Debug, thiserror::Error)]
#[error("{variable} is {value:?}, and {reason}")]
pub struct InvalidTracing {
    pub(crate) variable: &'static str,
    pub(crate) value: String,
    pub(crate) reason: String,
}
