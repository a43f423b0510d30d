//! Files of items and of reservations: CSV, read whole and checked whole before anything of it is used.
//!
//! It is strict: no missing or extra columns, no trimming, and no row is skipped.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use csv::{ErrorKind, ReaderBuilder, StringRecord};
use proto::inventory::v1::{ImportItemsRequest, ReserveManyRequest};
use uuid::Uuid;

use countersign::base::json::wrapped;
use countersign::base::text::escape;

/// A larger file is not read (64 MiB: about a million items).
const MAX_FILE: u64 = 64 << 20;

// The forms that the contract gives to requests; the server checks them too.
const MAX_SKU_BYTES: usize = 64;
const MAX_NAME_CHARS: usize = 200;
const MAX_QUANTITY: u32 = 1_000_000_000;
const MAX_RESERVED_AT_ONCE: u32 = 1_000_000;

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFile {
    /// It cannot be read.
    #[error("cannot read {}: {source}", shown(.path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is too large to be read whole.
    #[error("{} has more than {MAX_FILE} bytes: split it", shown(.path))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// A line is not as it must be.
    #[error("{}, line {line}: {fault}", shown(.path))]
    Line {
        /// The file.
        path: PathBuf,
        /// Where its row begins, from 1.
        line: u64,
        /// What is wrong there.
        fault: InvalidRow,
    },
    /// It has a header and nothing else.
    #[error("{} has no row after its header", shown(.path))]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// What is wrong with a row.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRow {
    /// The header names other columns.
    #[error("the header is {} and must be {expected}", quoted(.found))]
    Header {
        /// What is there.
        found: String,
        /// What must be there.
        expected: &'static str,
    },
    /// It is another thing than CSV, or CSV inside of it.
    #[error("{0}")]
    Form(&'static str),
    /// Too few or too many columns.
    #[error(
        "{found} columns instead of {expected}; a value with a comma needs double quotes around it"
    )]
    Columns {
        /// How many there are.
        found: u64,
        /// How many there must be.
        expected: u64,
    },
    /// The bytes are no text.
    #[error("not UTF-8: save the file in that encoding")]
    Encoding,
    /// The SKU is malformed.
    #[error("sku {} is not 1 to {MAX_SKU_BYTES} visible ASCII characters", quoted(.0))]
    Sku(String),
    /// The name is malformed.
    #[error("name {} is not 1 to {MAX_NAME_CHARS} characters without control characters", quoted(.0))]
    Name(String),
    /// The quantity is malformed or out of range.
    #[error("quantity {} is not a number from {min} to {max}", quoted(.found))]
    Quantity {
        /// What is there.
        found: String,
        /// The smallest that is allowed.
        min: u32,
        /// The largest that is allowed.
        max: u32,
    },
    /// The identifier is no UUID.
    #[error("reservation_id {} is not a hyphenated UUID", quoted(.0))]
    ReservationId(String),
    /// The key of the row is that of a row before it.
    #[error("{} is repeated; it is first on line {first}", quoted(.key))]
    Repeated {
        /// The SKU or the identifier.
        key: String,
        /// Where it came first.
        first: u64,
    },
    /// The file is not CSV.
    #[error("not CSV: {0}")]
    Syntax(String),
}

/// Reads items to import: `sku,name,quantity`.
///
/// # Errors
/// The first fault that is found, with its line.
pub fn read_items(path: &Path) -> Result<Vec<ImportItemsRequest>, InvalidFile> {
    items(path, &contents(path)?)
}

/// Reads reservations to make: `sku,quantity`, or `sku,quantity,reservation_id`. A row without an identifier gets a
/// new one.
///
/// # Errors
/// The first fault that is found, with its line.
pub fn read_reservations(path: &Path) -> Result<Vec<ReserveManyRequest>, InvalidFile> {
    reservations(path, &contents(path)?)
}

fn items(path: &Path, contents: &[u8]) -> Result<Vec<ImportItemsRequest>, InvalidFile> {
    let mut lines = HashMap::new();
    rows(path, contents, &["sku,name,quantity"], |line, row| {
        let [sku, name, number] = [0, 1, 2].map(|column| row.get(column).unwrap_or_default());
        let item = ImportItemsRequest {
            sku: valid_sku(sku)?,
            name: valid_name(name)?,
            quantity: quantity(number, 0, MAX_QUANTITY)?,
        };
        once(&mut lines, sku, line)?;
        Ok(item)
    })
}

fn reservations(path: &Path, contents: &[u8]) -> Result<Vec<ReserveManyRequest>, InvalidFile> {
    let mut lines = HashMap::new();
    let headers = ["sku,quantity,reservation_id", "sku,quantity"];
    rows(path, contents, &headers, |line, row| {
        let [sku, number, id] = [0, 1, 2].map(|column| row.get(column).unwrap_or_default());
        let sku = valid_sku(sku)?;
        let quantity = quantity(number, 1, MAX_RESERVED_AT_ONCE)?;
        let reservation_id = match id {
            "" => Uuid::now_v7().to_string(),
            id => reservation_id(id)?,
        };
        once(&mut lines, &reservation_id, line)?;
        Ok(ReserveManyRequest {
            reservation_id,
            sku,
            quantity,
        })
    })
}

fn contents(path: &Path) -> Result<Vec<u8>, InvalidFile> {
    countersign::base::file::read(path, MAX_FILE).map_err(|source| {
        let path = path.to_owned();
        if source.kind() == io::ErrorKind::FileTooLarge {
            InvalidFile::TooLarge { path }
        } else {
            InvalidFile::Unreadable { path, source }
        }
    })
}

/// Reads the rows under one of `headers`, the first of which is the one to suggest.
fn rows<T>(
    path: &Path,
    contents: &[u8],
    headers: &[&'static str],
    mut read: impl FnMut(u64, &StringRecord) -> Result<T, InvalidRow>,
) -> Result<Vec<T>, InvalidFile> {
    let invalid = |line, fault| InvalidFile::Line {
        path: path.to_owned(),
        line,
        fault,
    };
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .from_reader(contents);
    let mut records = reader.records();
    let mut lines = Lines::new(contents);
    let header = match records.next() {
        Some(record) => {
            record.map_err(|error| invalid(lines.of(error.position()), malformed(&error)))?
        }
        None => StringRecord::new(),
    };
    let found = header.iter().collect::<Vec<_>>().join(",");
    if !headers.contains(&found.as_str()) {
        // A header of several columns is CSV, also when there are quotes around each.
        let is_quoted = header.len() > 1 && contents.starts_with(b"\"");
        if let Some(form) = wrapped(contents).filter(|_| !is_quoted) {
            return Err(invalid(1, InvalidRow::Form(form)));
        }
        let expected = headers.first().copied().unwrap_or_default();
        return Err(invalid(1, InvalidRow::Header { found, expected }));
    }
    let mut rows = Vec::new();
    for record in records {
        let record =
            record.map_err(|error| invalid(lines.of(error.position()), malformed(&error)))?;
        let line = lines.of(record.position());
        rows.push(read(line, &record).map_err(|fault| invalid(line, fault))?);
    }
    if rows.is_empty() {
        return Err(InvalidFile::Empty {
            path: path.to_owned(),
        });
    }
    Ok(rows)
}

fn malformed(error: &csv::Error) -> InvalidRow {
    match error.kind() {
        ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => InvalidRow::Columns {
            found: *len,
            expected: *expected_len,
        },
        ErrorKind::Utf8 { .. } => InvalidRow::Encoding,
        // Bytes in memory can always be read, and these are not deserialized. The enum is open.
        ErrorKind::Io(_)
        | ErrorKind::Seek
        | ErrorKind::Serialize(_)
        | ErrorKind::Deserialize { .. }
        | _ => InvalidRow::Syntax(error.to_string()),
    }
}

/// Counts lines up to where a record begins. The parser's own count is that of the end of the record before it, which
/// is another line when a CRLF or an empty line is between them.
struct Lines<'a> {
    contents: &'a [u8],
    counted: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(contents: &'a [u8]) -> Self {
        Self {
            contents,
            counted: 0,
            line: 1,
        }
    }

    /// The line of `position`, from 1. Positions come in their order.
    fn of(&mut self, position: Option<&csv::Position>) -> u64 {
        let begin = position
            .and_then(|position| usize::try_from(position.byte()).ok())
            .unwrap_or_default();
        for (at, byte) in self.contents.iter().enumerate().skip(self.counted) {
            if at >= begin && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            self.line += u64::from(*byte == b'\n');
            self.counted = at + 1;
        }
        self.line
    }
}

fn valid_sku(sku: &str) -> Result<String, InvalidRow> {
    let valid =
        (1..=MAX_SKU_BYTES).contains(&sku.len()) && sku.bytes().all(|b| b.is_ascii_graphic());
    if valid {
        Ok(sku.to_owned())
    } else {
        Err(InvalidRow::Sku(sku.to_owned()))
    }
}

fn valid_name(name: &str) -> Result<String, InvalidRow> {
    let valid =
        (1..=MAX_NAME_CHARS).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if valid {
        Ok(name.to_owned())
    } else {
        Err(InvalidRow::Name(name.to_owned()))
    }
}

fn quantity(text: &str, min: u32, max: u32) -> Result<u32, InvalidRow> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    let quantity = text
        .parse()
        .ok()
        .filter(|quantity| digits && (min..=max).contains(quantity));
    quantity.ok_or_else(|| InvalidRow::Quantity {
        found: text.to_owned(),
        min,
        max,
    })
}

fn reservation_id(text: &str) -> Result<String, InvalidRow> {
    // Of the forms that the parser knows, only this one is 36 characters long.
    let id = Uuid::try_parse(text).ok().filter(|_| text.len() == 36);
    id.map(|id| id.to_string())
        .ok_or_else(|| InvalidRow::ReservationId(text.to_owned()))
}

fn once(lines: &mut HashMap<String, u64>, key: &str, line: u64) -> Result<(), InvalidRow> {
    match lines.insert(key.to_owned(), line) {
        Some(first) => Err(InvalidRow::Repeated {
            key: key.to_owned(),
            first,
        }),
        None => Ok(()),
    }
}

fn shown(path: &Path) -> String {
    escape(&path.to_string_lossy())
}

/// A value of the file for a message: escaped, and cut where it gets long.
fn quoted(value: &str) -> String {
    const MOST: usize = 80;
    let cut: String = value.chars().take(MOST).collect();
    let more = if cut.len() < value.len() { "..." } else { "" };
    format!("\"{}{more}\"", escape(&cut))
}

#[cfg(test)]
mod tests;
