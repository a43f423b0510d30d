//! The audit log of gRFC A59: `event` defines events, `loggers` the registry of loggers, `log` the queue and its writer.

pub(crate) mod event;
pub(crate) mod log;
pub(crate) mod loggers;
