//! Metrics as Prometheus reads them: text format 0.0.4.
//!
//! Label values are escaped here and nowhere else.

use std::fmt::{Display, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::histogram::Histogram;

/// The `content-type` of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One page of metrics, family by family. Each family may be written once.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// A family of numbers that only grow. Its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    /// A family of numbers that come and go.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// A family of distributions.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "histogram", help)
    }

    /// All that was written.
    pub fn into_text(self) -> String {
        self.text
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: self, name }
    }

    fn put(&mut self, text: impl Display) {
        // Writing to a string does not fail.
        write!(self.text, "{text}").ok();
    }
}

/// A family whose samples are being written.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut Page,
    name: &'static str,
}

impl Family<'_> {
    /// One number, under labels that no other sample of the family has.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.line("", labels, None, value);
        self
    }

    /// A moment, in seconds since 1970.
    pub fn moment(&mut self, labels: &[(&str, &str)], at: SystemTime) -> &mut Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.sample(labels, since.as_secs_f64())
    }

    /// One distribution.
    pub fn distribution(&mut self, labels: &[(&str, &str)], distribution: &Histogram) -> &mut Self {
        let mut count = 0;
        for (bound, within) in distribution.buckets() {
            count += within;
            let bound = bound.map_or_else(|| "+Inf".to_owned(), |bound| bound.to_string());
            self.line("_bucket", labels, Some(("le", &bound)), count);
        }
        self.line("_sum", labels, None, distribution.sum().as_secs_f64());
        self.line("_count", labels, None, count);
        self
    }

    fn line(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        last: Option<(&str, &str)>,
        value: impl Display,
    ) {
        self.page.put(format_args!("{}{suffix}", self.name));
        let mut separator = '{';
        for (name, text) in labels.iter().copied().chain(last) {
            self.page
                .put(format_args!("{separator}{name}=\"{}\"", escaped(text)));
            separator = ',';
        }
        let end = if separator == ',' { "}" } else { "" };
        self.page.put(format_args!("{end} {value}\n"));
    }
}

/// A label value on one line, with every control character shown.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '"' => escaped.push_str("\\\""),
            '\n' => escaped.push_str("\\n"),
            // A backslash that the reader of the page sees as one.
            c if c.is_control() => {
                escaped.push('\\');
                escaped.extend(c.escape_default());
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_is_in_the_text_format() {
        let mut page = Page::default();
        page.counter("a_total", "What a is.")
            .sample(&[], 3)
            .sample(&[("b", "c"), ("d", "e")], 4);
        page.gauge("t_seconds", "When.")
            .moment(&[], UNIX_EPOCH + Duration::from_millis(1500));
        assert_eq!(
            page.into_text(),
            "# HELP a_total What a is.\n# TYPE a_total counter\na_total 3\na_total{b=\"c\",d=\"e\"} 4\n\
             # HELP t_seconds When.\n# TYPE t_seconds gauge\nt_seconds 1.5\n"
        );
    }

    #[test]
    fn buckets_add_up() {
        let times = Histogram::default();
        times.record(Duration::from_millis(5));
        times.record(Duration::from_millis(7));
        times.record(Duration::from_secs(60));
        let mut page = Page::default();
        page.histogram("h_seconds", "H.")
            .distribution(&[("m", "x")], &times);
        let text = page.into_text();
        for line in [
            "h_seconds_bucket{m=\"x\",le=\"0.005\"} 1",
            "h_seconds_bucket{m=\"x\",le=\"0.01\"} 2",
            "h_seconds_bucket{m=\"x\",le=\"10\"} 2",
            "h_seconds_bucket{m=\"x\",le=\"+Inf\"} 3",
            "h_seconds_sum{m=\"x\"} 60.012",
            "h_seconds_count{m=\"x\"} 3",
        ] {
            assert!(text.lines().any(|have| have == line), "{line}\n{text}");
        }
    }

    #[test]
    fn no_label_breaks_out_of_its_quotes_or_its_line() {
        assert_eq!(
            escaped("a\"} 1\nb\\\r\u{1b}[0m"),
            "a\\\"} 1\\nb\\\\\\\\r\\\\u{1b}[0m"
        );
    }
}
