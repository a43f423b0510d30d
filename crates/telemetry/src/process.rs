//! Process metrics, under the names of every Prometheus client.

use std::fs;

use base::metrics::{self, NONE};
use prometheus_client::registry::Registry;

/// The unit of times in `/proc`, the same on every Linux that we run on (`sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Registers memory, processor time and descriptors, as far as the system reports them: Linux does, by `/proc`.
pub fn register_process(registry: &mut Registry) {
    metrics::register(registry, |families| {
        if let Some(kilobytes) = status("VmRSS:") {
            families.gauge(
                "process_resident_memory_bytes",
                "Resident memory in bytes.",
                [(NONE, kilobytes * 1024)],
            )?;
        }
        if let Some(seconds) = cpu_seconds() {
            families.counter(
                "process_cpu_seconds",
                "User and system CPU time in seconds.",
                [(NONE, seconds)],
            )?;
        }
        if let Ok(open) = fs::read_dir("/proc/self/fd") {
            families.gauge(
                "process_open_fds",
                "Open file descriptors.",
                [(NONE, open.count())],
            )?;
        }
        Ok(())
    });
}

fn status(field: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(field))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// User and system time, the 14th and 15th field of `/proc/self/stat`; the 2nd one, in brackets, may hold anything.
fn cpu_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let ticks: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((ticks + system) / TICKS_PER_SECOND)
}
