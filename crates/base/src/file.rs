//! Files that a setting or a command names: read whole, regular, and of a sane size.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// What the system says; or that it is no file, since a FIFO would block and a device might never end; or that it is
/// larger.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let text = format!("larger than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_of_a_sane_size_is_read() {
        let error = |path: &str| read(Path::new(path), 10).unwrap_err().to_string();
        assert_eq!(error("/dev/zero"), "not a regular file");
        assert_eq!(error("/"), "not a regular file");
        let this = concat!(env!("CARGO_MANIFEST_DIR"), "/src/file.rs");
        assert_eq!(error(this), "larger than 10 bytes");
        let length = std::fs::metadata(this).unwrap().len();
        let whole = read(Path::new(this), length).unwrap();
        assert_eq!(whole.len() as u64, length);
    }
}
