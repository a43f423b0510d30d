//! Spans of failed calls whose callers do not sample, so that no caller can hide a denied call from the collector.
//! The sampler decides about such a call after it failed, as about one without a `traceparent`. Each identity has a
//! quota. For successful calls the caller's choice stands.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use base::quota::{Quota, Quotas};
use opentelemetry::Context;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, TraceFlags, TraceId, TraceState, Tracer,
    TracerProvider,
};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor,
};
use prometheus_client::metrics::counter::Counter;

use crate::trace::TraceContext;

/// The quota of such spans per identity.
const PER_IDENTITY: Quota = Quota {
    burst: 50,
    refill: Duration::from_secs(1),
    parties: 4096,
};

/// After this time, identities beyond their quota make room for others. What is left out is counted at once.
const FORGET: Duration = Duration::from_secs(10);

/// The queue to the collector. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct SpanQueue(Arc<BatchSpanProcessor>);

impl SpanQueue {
    /// The resource is set in `processor`, since it is shared from here on.
    pub(crate) fn new(processor: BatchSpanProcessor) -> Self {
        Self(Arc::new(processor))
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }
}

/// Creates these spans and queues them.
#[derive(Debug)]
pub(crate) struct UnsampledSpans {
    /// Has the sampler that the variables ask for, and no queue: what it makes is put in its place first.
    tracer: SdkTracer,
    queue: SpanQueue,
    recorded: Counter,
    left_out: Counter,
    admitted: Mutex<Admitted>,
}

#[derive(Debug)]
struct Admitted {
    of: Quotas<String, ()>,
    forgot: Instant,
}

impl UnsampledSpans {
    /// Counts in `recorded` what it puts into `queue`.
    pub(crate) fn new(scope: &'static str, queue: SpanQueue, recorded: Counter) -> Self {
        Self {
            tracer: SdkTracerProvider::builder().build().tracer(scope),
            queue,
            recorded,
            left_out: Counter::default(),
            admitted: Mutex::new(Admitted {
                of: Quotas::new(PER_IDENTITY),
                forgot: Instant::now(),
            }),
        }
    }

    /// How many calls failed beyond the quota.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out.get()
    }

    fn admits(&self, peer: &str, now: Instant) -> bool {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(admitted.forgot) >= FORGET {
            admitted.of.left_out(true, now);
            admitted.forgot = now;
        }
        let admits = admitted.of.admit(&peer.to_owned(), (), now).is_some();
        if !admits {
            self.left_out.inc();
        }
        admits
    }
}

/// A call whose caller does not sample.
pub(crate) struct UnsampledCall {
    spans: Arc<UnsampledSpans>,
    caller: u64,
    began: SystemTime,
}

impl UnsampledCall {
    /// The call begins, as a child of the caller's span.
    pub(crate) fn begin(spans: &Arc<UnsampledSpans>, caller: &TraceContext) -> Self {
        Self {
            spans: spans.clone(),
            caller: caller.span_number(),
            began: SystemTime::now(),
        }
    }

    /// The call failed: its span has the ids that its log lines name.
    pub(crate) fn failed(
        self,
        place: &TraceContext,
        method: &str,
        peer: &str,
        describe: impl FnOnce(&mut Span),
    ) {
        let Self {
            spans,
            caller,
            began,
        } = self;
        let builder = SpanBuilder::from_name(method.to_owned())
            .with_kind(SpanKind::Server)
            .with_start_time(began);
        let mut span = spans.tracer.build_with_context(builder, &Context::new());
        if !span.is_recording() || !spans.admits(peer, Instant::now()) {
            return;
        }
        describe(&mut span);
        let Some(data) = span.exported_data() else {
            return;
        };
        spans.recorded.inc();
        spans.queue.on_end(SpanData {
            span_context: SpanContext::new(
                TraceId::from(place.trace_number()),
                SpanId::from(place.span_number()),
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: SpanId::from(caller),
            parent_span_is_remote: true,
            end_time: SystemTime::now(),
            ..data
        });
    }
}
