//! Reads a regular file of limited size, and says whose a file is that is not ours to use.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Room to see that there is nothing more.
const MORE: usize = 64;

/// Reads a regular file of at most `max` bytes.
///
/// # Errors
/// The system's error; or the path is not a regular file (a FIFO would block, a device might never end); or the file is
/// larger. A permission error names the file's owner and mode, and the user of this process; that a file is not there, the
/// place that a link leads to.
pub fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let metadata = path
        .metadata()
        .map_err(|error| denied(path, dangling(path, error)))?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    // All of it at once: what grows is moved, and the place before it would keep a copy, which may be of a key.
    let size = usize::try_from(metadata.len().min(max)).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size + MORE);
    let file = File::open(path).map_err(|error| denied(path, error))?;
    file.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        let text = format!("larger than {max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// Reads a regular file of at most `max` bytes that is text.
///
/// # Errors
/// As [`read`], or that it is not UTF-8, and what it is instead.
pub fn text(path: &Path, max: u64) -> io::Result<String> {
    let bytes = read(path, max)?;
    String::from_utf8(bytes).map_err(|error| {
        let form = crate::json::wrapped(error.as_bytes());
        let why = form.unwrap_or("it is not text (UTF-8)");
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
}

/// Whether nothing at all is at `path`, not even a link that leads nowhere.
pub fn is_absent(path: &Path) -> bool {
    let link = path.symlink_metadata();
    link.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The same error, with where a link leads if nothing is there.
fn dangling(path: &Path, error: io::Error) -> io::Error {
    match path.read_link() {
        Ok(place) if error.kind() == io::ErrorKind::NotFound => {
            let text = format!("{error}: it is a link to {}", place.display());
            io::Error::new(io::ErrorKind::NotFound, text)
        }
        Ok(_) | Err(_) => error,
    }
}

/// The same error, with whose the file is if permission was denied, or else the directory that hides or lacks it.
pub fn denied(path: &Path, error: io::Error) -> io::Error {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error;
    }
    let seen = path
        .ancestors()
        .find_map(|it| Some((it, it.metadata().ok()?)));
    let Some((seen, metadata)) = seen else {
        return error;
    };
    let what = if seen == path {
        "it".to_owned()
    } else {
        seen.display().to_string()
    };
    let mut text = format!(
        "{error}: uid {} owns {what}, its mode is {:04o}",
        metadata.uid(),
        metadata.mode() & 0o7777
    );
    // /proc/self belongs to the user of this process.
    if let Ok(ours) = Path::new("/proc/self").metadata() {
        text += &format!(", and we are uid {}", ours.uid());
    }
    io::Error::new(io::ErrorKind::PermissionDenied, text)
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

    #[test]
    fn a_link_that_leads_nowhere_says_where() {
        let nowhere = std::env::temp_dir().join(format!("nowhere-{}", std::process::id()));
        let link = nowhere.with_extension("link");
        std::os::unix::fs::symlink(&nowhere, &link).unwrap();
        let error = read(&link, 10).unwrap_err();
        let absent = (is_absent(&link), is_absent(&nowhere));
        std::fs::remove_file(&link).unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let says = format!("it is a link to {}", nowhere.display());
        assert!(error.to_string().ends_with(&says), "{error}");
        assert_eq!(absent, (false, true));
    }

    #[test]
    fn what_is_not_ours_to_read_says_whose_it_is() {
        let this = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/file.rs"));
        let kind = io::ErrorKind::PermissionDenied;
        let told = denied(this, kind.into());
        assert_eq!(told.kind(), kind);
        let uid = this.metadata().unwrap().uid();
        let says = format!("permission denied: uid {uid} owns it, its mode is 0");
        let told = told.to_string();
        assert!(
            told.starts_with(&says) && told.contains(", and we are uid "),
            "{told}"
        );
        // As if what is above could not be looked into.
        let hidden = this.join("tls.crt");
        let told = denied(&hidden, kind.into()).to_string();
        let says = format!("uid {uid} owns {}, its mode is ", this.display());
        assert!(told.contains(&says), "{told}");
        let gone = denied(this, io::ErrorKind::NotFound.into());
        assert_eq!(gone.to_string(), "entity not found");
    }
}
