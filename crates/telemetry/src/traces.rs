//! The spans of this process, exported to a collector when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
//!
//! A call does not wait for the collector: spans that it does not take in time are dropped.

use std::fmt;

use prometheus_client::registry::Registry;

use crate::calls::Side;
use crate::invalid::InvalidTracing;
use crate::trace::TraceContext;

/// What ends spans, and sends them to where they are collected. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    #[cfg(feature = "otlp")]
    exporter: Option<std::sync::Arc<crate::otlp::Exporter>>,
}

impl Traces {
    /// As the `OTEL_*` variables say: without an endpoint spans get their places and are sent nowhere. `service` is
    /// the name of the service unless a variable gives it another. Call it within a tokio runtime.
    ///
    /// # Errors
    /// A variable asks for what is not there.
    #[cfg(feature = "otlp")]
    pub fn from_env(service: &'static str) -> Result<Self, InvalidTracing> {
        let exporter = crate::otlp::Exporter::from_env(service)?;
        Ok(Self {
            exporter: exporter.map(std::sync::Arc::new),
        })
    }

    /// To a collector that is reached by `collector`, and whose name for people is `endpoint`; the rest is as the
    /// `OTEL_*` variables say. Call it within a tokio runtime.
    ///
    /// # Errors
    /// A variable asks for what is not there, or names another collector.
    #[cfg(feature = "otlp")]
    pub fn to(
        service: &'static str,
        endpoint: String,
        collector: crate::otlp::Collector,
    ) -> Result<Self, InvalidTracing> {
        let exporter = crate::otlp::Exporter::to(service, endpoint, collector)?;
        Ok(Self {
            exporter: exporter.map(std::sync::Arc::new),
        })
    }

    /// This build sends spans nowhere, and says so when an endpoint is set.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "otlp"))]
    pub fn from_env(_service: &'static str) -> Result<Self, InvalidTracing> {
        if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some() {
            tracing::warn!("{}", crate::events::BUILT_WITHOUT_OTLP);
        }
        Ok(Self::default())
    }

    /// Begins the span of a call of `method` on this side, under that of `parent`.
    pub fn begin(&self, side: Side, method: &str, parent: Option<&TraceContext>) -> CallSpan {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = &self.exporter {
            let (context, recording) = exporter.begin(side, method, parent);
            return CallSpan { context, recording };
        }
        let _ = (side, method);
        CallSpan {
            // Recorded nowhere here; what the caller recorded stays true for those behind us.
            context: parent.map_or_else(
                || TraceContext::root(false),
                |parent| parent.child(parent.is_sampled()),
            ),
            #[cfg(feature = "otlp")]
            recording: crate::otlp::Recording::Off,
        }
    }

    /// Registers the families of spans, if they are sent anywhere.
    pub fn register(&self, registry: &mut Registry) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = &self.exporter {
            exporter.register(registry);
        }
        let _ = registry;
    }

    /// Sends what is left, and waits for that for two seconds at most. It blocks, so call it outside of async code.
    pub fn flush(&self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = &self.exporter {
            exporter.shut_down();
        }
    }
}

/// The span of a call that runs.
pub struct CallSpan {
    context: TraceContext,
    #[cfg(feature = "otlp")]
    recording: crate::otlp::Recording,
}

/// A call that a server answered with another code than OK.
#[derive(Clone, Copy, Debug)]
pub struct FailedCall<'a> {
    /// Its method.
    pub method: &'a str,
    /// Whose call it was.
    pub peer: &'a str,
}

impl CallSpan {
    /// Its place in its trace.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// The call ended: with an error of this name, or with none of its side. `failed` says whose call a server did not answer
    /// with OK, which is recorded within a quota if only the caller did not want it. `attributes` are asked for only if the
    /// span is recorded.
    #[cfg(feature = "otlp")]
    pub fn end<const N: usize>(
        self,
        error: Option<&'static str>,
        failed: Option<FailedCall<'_>>,
        attributes: impl FnOnce() -> [(&'static str, String); N],
    ) {
        use crate::otlp::{Recording, describe};
        match (self.recording, failed) {
            // It is sent when it goes.
            (Recording::Sampled(mut span), _) => describe(&mut span, error, attributes),
            (Recording::Unsampled(call), Some(FailedCall { method, peer })) => {
                call.failed(&self.context, method, peer, |span| {
                    describe(span, error, attributes);
                });
            }
            (Recording::Unsampled(_), None) | (Recording::Off, _) => {}
        }
    }

    /// The call ended. This build records nothing.
    #[cfg(not(feature = "otlp"))]
    pub fn end<const N: usize>(
        self,
        _error: Option<&'static str>,
        _failed: Option<FailedCall<'_>>,
        _attributes: impl FnOnce() -> [(&'static str, String); N],
    ) {
    }
}

impl fmt::Debug for CallSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context.fmt(f)
    }
}
