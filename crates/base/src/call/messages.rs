//! Counts the messages of a request before the handler reads one (gRPC over HTTP/2, "Length-Prefixed-Message").
//!
//! A method that takes one message gets exactly one, and no message may be too large. The statuses follow gRPC's
//! statuscodes.md.

use tonic::Status;

/// The flag and the length before each message.
const PREFIX: usize = 5;

/// Counts the messages of a request as they arrive.
#[derive(Debug)]
pub struct MessageCount {
    max_bytes: usize,
    only_one: bool,
    /// Whether a message has begun.
    seen: bool,
    /// Whether a whole message has arrived.
    whole: bool,
    /// What has arrived of the next message's prefix, and how many bytes that is.
    prefix: [u8; PREFIX],
    known: usize,
    /// Bytes of the current message that have not arrived yet.
    left: usize,
}

impl MessageCount {
    /// No message yet. A message may have at most `max_bytes`; with `only_one` there must be exactly one.
    pub fn new(max_bytes: usize, only_one: bool) -> Self {
        Self {
            max_bytes,
            only_one,
            seen: false,
            whole: false,
            prefix: [0; PREFIX],
            known: 0,
            left: 0,
        }
    }

    /// Whether a whole message has arrived.
    pub fn has_one(&self) -> bool {
        self.whole
    }

    /// Whether the request may end here.
    pub fn may_end(&self) -> bool {
        self.seen || !self.only_one
    }

    /// Takes the next piece of the body.
    ///
    /// # Errors
    /// A message is too large, or there is one too many.
    pub fn look(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while let Some((first, rest)) = data.split_first() {
            if self.left > 0 {
                let skipped = self.left.min(data.len());
                self.left -= skipped;
                self.whole |= self.left == 0;
                data = data.get(skipped..).unwrap_or_default();
                continue;
            }
            if self.known == 0 && self.only_one && self.seen {
                return Err(Status::unimplemented(
                    "the method takes one message, and the request has more",
                ));
            }
            self.seen = true;
            if let Some(next) = self.prefix.get_mut(self.known) {
                *next = *first;
            }
            self.known += 1;
            data = rest;
            if self.known == PREFIX {
                let [_, a, b, c, d] = self.prefix;
                let length = u32::from_be_bytes([a, b, c, d]);
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
                self.known = 0;
                self.whole |= self.left == 0;
                if self.left > self.max_bytes {
                    return Err(Status::resource_exhausted(format!(
                        "a request message has {length} bytes; the limit is {}",
                        self.max_bytes
                    )));
                }
            }
        }
        Ok(())
    }

    /// The body has ended.
    ///
    /// # Errors
    /// The method takes one message and there was none. The error is returned once.
    pub fn end(&mut self) -> Result<(), Status> {
        if self.may_end() {
            return Ok(());
        }
        self.seen = true;
        Err(Status::unimplemented(
            "the method takes one message, and the request has none",
        ))
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn code(pieces: &[&[u8]], only_one: bool) -> Code {
        let mut count = MessageCount::new(3, only_one);
        let looked = pieces.iter().try_for_each(|data| count.look(data));
        let read = looked.and_then(|()| count.end());
        read.map_or_else(|status| status.code(), |()| Code::Ok)
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        let two: &[u8] = &[0, 0, 0, 0, 1, 7, 0, 0, 0, 0, 0];
        let one = two.get(..6).unwrap();
        let bytes: Vec<&[u8]> = two.chunks(1).collect();
        for (pieces, only_one, expected) in [
            (&[one][..], true, Code::Ok),
            (&bytes[..6], true, Code::Ok),
            (&[one, &[]], true, Code::Ok),
            (&[two], true, Code::Unimplemented),
            (&bytes, true, Code::Unimplemented),
            (&[one, &[0]], true, Code::Unimplemented),
            (&[], true, Code::Unimplemented),
            (&[], false, Code::Ok),
            (&[two], false, Code::Ok),
            (&[&[0, 0, 0, 0, 4]], true, Code::ResourceExhausted),
            (
                &[one, &[0, 255, 255, 255, 255]],
                false,
                Code::ResourceExhausted,
            ),
        ] {
            assert_eq!(code(pieces, only_one), expected, "{pieces:?}");
        }
    }
}
