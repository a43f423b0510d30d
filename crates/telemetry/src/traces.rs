//! The spans of this process, exported to a collector when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.
//!
//! A call does not wait for the collector: spans that it does not take in time are dropped.

use std::fmt;

use prometheus_client::registry::Registry;

use crate::calls::Side;
use crate::invalid::InvalidTracing;
use crate::trace::TraceContext;

/// Creates the spans of calls and exports them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    #[cfg(feature = "otlp")]
    exporter: Option<std::sync::Arc<crate::otlp::Exporter>>,
}

impl Traces {
    /// Configured by the `OTEL_*` variables. Without an endpoint, calls get a trace context and no span is exported.
    /// `service` is the name of the service unless a variable gives it another. Call it within a tokio runtime.
    ///
    /// # Errors
    /// A variable has an unsupported value.
    #[cfg(feature = "otlp")]
    pub fn from_env(service: &'static str) -> Result<Self, InvalidTracing> {
        let exporter = crate::otlp::Exporter::from_env(service)?;
        Ok(Self {
            exporter: exporter.map(std::sync::Arc::new),
        })
    }

    /// Exports to a collector through `collector`; logs call it `endpoint`. The `OTEL_*` variables configure the rest.
    /// Call it within a tokio runtime.
    ///
    /// # Errors
    /// A variable has an unsupported value, or names another collector.
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

    /// This build exports no spans, and warns if an endpoint is set.
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
            // Not recorded here; downstream services keep the caller's context.
            context: parent.map_or_else(
                || TraceContext::root(false),
                |parent| parent.child(parent.is_sampled()),
            ),
            #[cfg(feature = "otlp")]
            recording: crate::otlp::Recording::Off,
        }
    }

    /// Registers the metrics of spans, if they are exported.
    pub fn register(&self, registry: &mut Registry) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = &self.exporter {
            exporter.register(registry);
        }
        let _ = registry;
    }

    /// Sends the remaining spans, and waits for at most two seconds. It blocks, so call it outside of async code.
    pub fn flush(&self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = &self.exporter {
            exporter.shut_down();
        }
    }
}

/// The span of an open call.
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
    /// Its trace context.
    pub fn context(&self) -> &TraceContext {
        &self.context
    }

    /// The call ended, with an error of this name if it is one on this side. `failed` is the caller of a call that a
    /// server did not end with OK; its span is recorded within a quota even if the caller does not sample. `attributes`
    /// is called only if the span is recorded.
    #[cfg(feature = "otlp")]
    pub fn end<const N: usize>(
        self,
        error: Option<&'static str>,
        failed: Option<FailedCall<'_>>,
        attributes: impl FnOnce() -> [(&'static str, String); N],
    ) {
        use crate::otlp::{Recording, describe};
        match (self.recording, failed) {
            // It is exported when it is dropped.
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
