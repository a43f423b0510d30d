//! The messages of log events. docs/operations.md describes each.

base::names! {
    BUILT_WITHOUT_OTLP = "OTEL_EXPORTER_OTLP_ENDPOINT is set, and this program was built without the feature otlp",
    CALL_FINISHED = "call finished",
    COLLECTOR_AVAILABLE = "the collector accepts spans again",
    COLLECTOR_UNAVAILABLE = "the collector does not accept spans; they are dropped until it does",
    LAST_SPANS_LOST = "the last spans were not sent",
    LINES_LEFT_OUT = "log lines were suppressed: there were too many of one kind",
    LINES_LOST = "log lines were lost: they were not read in time",
    RUST_LOG_MALFORMED = "RUST_LOG is invalid; the default is used",
    SPANS_EXPORTED = "spans go to a collector",
}
