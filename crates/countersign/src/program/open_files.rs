//! How many files this process may have open.

use std::fs;

/// The soft limit of open files (`RLIMIT_NOFILE`), where the system reports it in `/proc`; none when it does not, or when
/// there is no limit.
pub fn max_open_files() -> Option<usize> {
    parse(&fs::read_to_string("/proc/self/limits").ok()?)
}

/// The line reads `Max open files            1024                 1048576              files`.
fn parse(limits: &str) -> Option<usize> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max open files            1024                 1048576              files     \n\
             Max locked memory         8388608              8388608              bytes     \n";
        assert_eq!(parse(limits), Some(1024));
        assert_eq!(parse(&limits.replace("1024 ", "unlimited ")), None);
        assert_eq!(parse(""), None);
    }
}
