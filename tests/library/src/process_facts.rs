//! What the system says about a process: descriptors, memory, processor time. Only Linux reports it.

use std::fs;
use std::io::Write as _;
use std::time::Duration;

/// A process by its id.
#[derive(Clone, Copy)]
pub struct Facts(pub u32);

impl Facts {
    /// The facts of `id`, or none, said loudly, where there is no `/proc`.
    pub fn of(id: u32) -> Option<Self> {
        if fs::exists(format!("/proc/{id}/fd")).unwrap() {
            return Some(Self(id));
        }
        let line =
            b"skipped: no /proc, so descriptors, memory and processor time are not looked at\n";
        std::io::stderr().write_all(line).unwrap();
        None
    }

    pub fn descriptors(self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.0))
            .unwrap()
            .count()
    }

    /// Resident memory in bytes.
    pub fn memory(self) -> usize {
        let status = self.file("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.unwrap().trim().trim_end_matches("kB").trim();
        kilobytes.parse::<usize>().unwrap() * 1024
    }

    /// Processor time since the start, in user and kernel mode.
    pub fn processor_time(self) -> Duration {
        /// `USER_HZ`, which is 100 wherever Rust runs.
        const TICKS: u32 = 100;
        let stat = self.file("stat");
        // The name of the program, in parentheses, may hold anything.
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks: u32 = [11, 12]
            .iter()
            .map(|at| fields[*at].parse::<u32>().unwrap())
            .sum();
        Duration::from_secs(ticks.into()) / TICKS
    }

    fn file(self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.0)).unwrap()
    }
}
