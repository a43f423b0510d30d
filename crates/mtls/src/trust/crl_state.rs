//! Records in a file the newest revocation list of each issuer, so that no older one is accepted after a restart.
//!
//! Only lists with a verified signature are recorded, so that no forged number keeps out a real list. The file is used
//! as a whole or not at all: if it was edited or truncated, the program does not start.
//!
//! A process may open credentials more than once, for what it serves and for what it calls. They share the record.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base::text::timestamp;
use x509_parser::num_bigint::BigUint;

use crate::codes;
use crate::crypto::{self, Digest};
use crate::text::hexadecimal;
use crate::trust::crl::{CrlFacts, RevocationList};
use crate::trust::invalid::InvalidCredentials;
use crate::trust::lists::ListInForce;
use crate::trust::root::Root;

const FIRST_LINE: &str = "countersign revocation lists, version 1";
const LAST_LINE: &str = "end";

/// A larger file is not one of ours.
const MAX_FILE: u64 = 1 << 20;

/// A CRL number has at most 20 octets (RFC 5280 §5.2.3).
const MAX_NUMBER: usize = 49;

/// The records of this process, by the place of the file. Two that wrote one file would undo each other's.
static IN_USE: Mutex<BTreeMap<PathBuf, Weak<Mutex<Records>>>> = Mutex::new(BTreeMap::new());

/// The record of one file. Clones, and those that are opened for the same file, share it.
#[derive(Clone, Debug)]
pub(crate) struct CrlState {
    path: PathBuf,
    seen: Arc<Mutex<Records>>,
}

#[derive(Debug, Default)]
struct Records {
    lists: Lists,
    /// Lists are compared with the file, and not recorded in it.
    is_kept: bool,
}

/// What the file holds: the newest list by issuer and scope.
type Lists = BTreeMap<Digest, ListRecord>;

/// The newest list of one issuer and scope.
#[derive(Clone, Debug, PartialEq)]
struct ListRecord {
    number: BigUint,
    this_update: u64,
    /// The digest of the signed part: one number has one content.
    signed: Digest,
    /// The roots that the issuer stood under, as far as the credentials showed.
    roots: Vec<Digest>,
    issuer: String,
}

impl CrlState {
    /// Reads the file, if there is one. With `keep`, this process never changes it.
    pub(crate) fn open(path: PathBuf, keep: bool) -> Result<Self, InvalidCredentials> {
        let mut in_use = IN_USE.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.retain(|_, seen| seen.strong_count() > 0);
        let entry = in_use.entry(place(&path)).or_default();
        let seen = entry.upgrade().unwrap_or_default();
        *entry = Arc::downgrade(&seen);
        let state = Self { path, seen };
        let mut seen = state.lock();
        seen.is_kept |= keep;
        seen.lists = read(&state.path).map_err(|reason| unusable(&state.path, &reason))?;
        drop(seen);
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that none of these lists is older than the one recorded.
    pub(crate) fn check(
        &self,
        lists: &[ListInForce],
        roots: &[Root],
    ) -> Result<(), InvalidCredentials> {
        let path = self.path.display();
        let recorded = self.lock();
        for list in lists.iter().map(ListInForce::newest) {
            let Some(seen) = recorded.lists.get(&key(list)) else {
                continue;
            };
            let CrlFacts { issuer, number, .. } = &list.facts;
            let what = if list.facts.ordinal < seen.number {
                format!("its number is {number}, and {} was in use", seen.number)
            } else if list.facts.ordinal == seen.number && list.signed_digest != seen.signed {
                format!("another list with its number {number} was in use")
            } else if seconds(list.facts.this_update) < seen.this_update {
                let later = timestamp(UNIX_EPOCH + Duration::from_secs(seen.this_update));
                format!("one that was issued later, at {later}, was in use")
            } else {
                continue;
            };
            let text = format!(
                "the revocation list of {issuer} is not the newest: {what}, as {path} records; install the newest"
            );
            return Err(InvalidCredentials::new(codes::CRL_OLDER, text));
        }
        let roots: Vec<_> = roots
            .iter()
            .map(|root| crypto::digest([&*root.der]))
            .collect();
        for (id, seen) in &recorded.lists {
            let is_there = lists.iter().any(|list| key(list.newest()) == *id);
            // As while running, a list may go with the roots above it.
            let may_go = !seen.roots.is_empty() && !seen.roots.iter().any(|it| roots.contains(it));
            if !is_there && !may_go {
                let ListRecord { issuer, number, .. } = seen;
                let text = format!(
                    "there is no revocation list of {issuer}, but its list number {number} was in use, as {path} \
                     records: put a current one back, or remove that file to stop checking"
                );
                return Err(InvalidCredentials::new(codes::CRL_GONE, text));
            }
        }
        Ok(())
    }

    /// Records what is in use now. The file is replaced as a whole, and is on disk when this returns.
    pub(crate) fn record(&self, lists: &[ListInForce]) -> Result<(), InvalidCredentials> {
        let mut recorded = self.lock();
        if recorded.is_kept {
            return Ok(());
        }
        let mut seen = recorded.lists.clone();
        for list in lists.iter().filter(|list| list.is_settled()) {
            let newest = list.newest();
            let roots = list.roots().iter();
            let record = ListRecord {
                number: newest.facts.ordinal.clone(),
                this_update: seconds(newest.facts.this_update),
                signed: newest.signed_digest,
                roots: roots.map(|root| crypto::digest([&**root])).collect(),
                issuer: base::text::escape(&newest.facts.issuer),
            };
            match seen.entry(key(newest)) {
                Entry::Vacant(new) => drop(new.insert(record)),
                Entry::Occupied(mut held) => held.get_mut().take(record),
            }
        }
        let is_written = seen == recorded.lists && self.path.exists();
        if !is_written {
            let text = text(&seen);
            replace(&self.path, &text)
                .map_err(|error| unusable(&self.path, &format!("it cannot be written: {error}")))?;
            recorded.lists = seen;
        }
        Ok(())
    }
}

impl ListRecord {
    /// Other credentials of the process may have a newer list already, or the same one under other roots.
    fn take(&mut self, other: Self) {
        match other.number.cmp(&self.number) {
            Ordering::Less => {}
            Ordering::Equal => {
                let more = other.roots.into_iter();
                self.roots.extend(
                    more.filter(|root| !self.roots.contains(root))
                        .collect::<Vec<_>>(),
                );
            }
            Ordering::Greater => *self = other,
        }
    }
}

/// Where a file is, however its directory is written.
fn place(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_empty| path.to_owned());
    match (
        absolute.parent().map(Path::canonicalize),
        absolute.file_name(),
    ) {
        (Some(Ok(directory)), Some(name)) => directory.join(name),
        _ => absolute,
    }
}

/// What the file holds: nothing, if there is none.
fn read(path: &Path) -> Result<Lists, String> {
    let bytes = match base::file::read(path, MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Lists::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mode = path.metadata().map_err(|e| e.to_string())?.mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(format!(
            "other users can write to it (its mode is {mode:04o})"
        ));
    }
    parse(&bytes)
}

/// The file cannot be read or written.
fn unusable(path: &Path, reason: &str) -> InvalidCredentials {
    let path = path.display();
    let text = format!(
        "{path}, which records the newest revocation lists, is not usable: {reason}; correct it, or remove it to accept the installed lists as the newest"
    );
    InvalidCredentials::new(codes::CRL_STATE_UNUSABLE, text)
}

/// One issuer and scope.
fn key(list: &RevocationList) -> Digest {
    let scope = list.facts.scope.as_deref().unwrap_or_default();
    crypto::digest([&*list.facts.canonical_issuer, scope])
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// One line for each: issuer and scope, number, time of issue, digest of the signed part, the roots, and the issuer as
/// text.
fn text(seen: &Lists) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for (key, seen) in seen {
        let ListRecord {
            number,
            this_update,
            signed,
            roots,
            issuer,
        } = seen;
        let roots: Vec<_> = roots.iter().map(|it| hexadecimal(it)).collect();
        let roots = if roots.is_empty() {
            "-".to_owned()
        } else {
            roots.join(",")
        };
        let (key, signed) = (hexadecimal(key), hexadecimal(signed));
        // Writing to a string does not fail.
        writeln!(
            text,
            "{key} {number} {this_update} {signed} {roots} {issuer}"
        )
        .ok();
    }
    writeln!(text, "{LAST_LINE} {}", seen.len()).ok();
    text
}

fn parse(bytes: &[u8]) -> Result<Lists, String> {
    let text = str::from_utf8(bytes).map_err(|_bytes| "it is not text".to_owned())?;
    let mut lines = text.lines().enumerate();
    if lines.next().is_none_or(|(_, line)| line != FIRST_LINE) {
        return Err(format!("its first line is not {FIRST_LINE:?}"));
    }
    let mut seen = Lists::new();
    for (index, line) in lines.by_ref() {
        let malformed = |what: &str| format!("line {}: {what}", index + 1);
        if let Some(count) = line.strip_prefix(LAST_LINE) {
            if count.trim_start() != seen.len().to_string() {
                return Err(malformed("its number of lines is wrong"));
            }
            return match lines.next() {
                None if text.ends_with('\n') => Ok(seen),
                Some(_) | None => {
                    Err("it is truncated, or has data after its last line".to_owned())
                }
            };
        }
        let (key, one) = entry(line).ok_or_else(|| malformed("it is not an entry"))?;
        if seen.insert(key, one).is_some() {
            return Err(malformed("a second entry of one issuer"));
        }
    }
    Err("it is truncated".to_owned())
}

fn entry(line: &str) -> Option<(Digest, ListRecord)> {
    let fields: Vec<_> = line.splitn(6, ' ').collect();
    let [key, number, this_update, signed, roots, issuer] = *fields else {
        return None;
    };
    let is_number = number.len() <= MAX_NUMBER && number.bytes().all(|it| it.is_ascii_digit());
    // A time beyond the year 9999 is none (RFC 5280 §4.1.2.5).
    let this_update = this_update
        .parse()
        .ok()
        .filter(|at| *at < 253_402_300_800)?;
    let roots = match roots {
        "-" => Vec::new(),
        roots => roots.split(',').map(digest).collect::<Option<_>>()?,
    };
    let record = ListRecord {
        // A longer number would take long to parse.
        number: is_number.then(|| number.parse().ok()).flatten()?,
        this_update,
        signed: digest(signed)?,
        roots,
        issuer: issuer.to_owned(),
    };
    Some((digest(key)?, record))
}

fn digest(hex: &str) -> Option<Digest> {
    let is_hex = hex.bytes().all(|it| it.is_ascii_hexdigit());
    let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Vec<_> = bytes.collect::<Option<_>>()?;
    bytes.try_into().ok().filter(|_| is_hex && rest.is_empty())
}

/// Writes a file that only we may read, and puts it in the place of the old one.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        Some(_) | None => Path::new("."),
    };
    let mut next = std::ffi::OsString::from(".");
    next.push(name);
    next.push(format!(".{}", std::process::id()));
    let next = dir.join(next);
    // One of a process that ended while it wrote.
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Lists {
        let one = ListRecord {
            number: BigUint::from(7_u32),
            this_update: 1_790_000_000,
            signed: [2; 32],
            roots: vec![[3; 32], [4; 32]],
            issuer: "CN=Acme Issuing,O=Acme".to_owned(),
        };
        let none = ListRecord {
            roots: Vec::new(),
            ..one.clone()
        };
        Lists::from([([1; 32], one), ([9; 32], none)])
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let whole = text(&seen());
        assert_eq!(parse(whole.as_bytes()), Ok(seen()));
        for (index, _) in whole.char_indices() {
            assert!(parse(&whole.as_bytes()[..index]).is_err(), "cut at {index}");
        }
        let first = format!("{FIRST_LINE}\n");
        let entry = whole.lines().nth(1).unwrap();
        for (case, damaged) in [
            ("another version", whole.replace("version 1", "version 2")),
            ("a number that is none", whole.replace(" 7 ", " x ")),
            ("a number that is negative", whole.replace(" 7 ", " -7 ")),
            (
                "a number without an end",
                whole.replace(" 7 ", &format!(" {} ", "7".repeat(50))),
            ),
            (
                "a time beyond all",
                whole.replace("1790000000", "99999999999999"),
            ),
            ("a digest with a sign", whole.replacen("0101", "+101", 1)),
            (
                "an entry less",
                whole.replacen(&format!("{entry}\n"), "", 1),
            ),
            (
                "an entry twice",
                whole.replacen(entry, &format!("{entry}\n{entry}"), 1),
            ),
            ("more after the end", format!("{whole}{entry}\n")),
            ("two of them", format!("{whole}{whole}")),
            ("no entry", format!("{first}\nend 0\n")),
            ("nothing", String::new()),
        ] {
            assert_ne!(damaged, whole, "{case}");
            assert!(parse(damaged.as_bytes()).is_err(), "{case}");
        }
        assert!(parse(b"\xff").is_err());
    }
}
