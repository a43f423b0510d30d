//! The audit log of gRFC A59: `event` is what is written, `loggers` who may write it, `log` when it is.

pub(crate) mod event;
pub(crate) mod log;
pub(crate) mod loggers;
