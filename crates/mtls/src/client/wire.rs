//! Reads from a server's frames what hyper does not report: the debug data of a GOAWAY, and the number of interim
//! responses (1xx) to a call. Ends the connection on demand, with the calls that run on it.
//!
//! It changes no byte. It ends the connection when a call gets too many interim responses, because hyper skips them
//! without a limit.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// Interim responses (1xx, RFC 9110 §15.2) to one call. A gRPC server sends none; a proxy may send one or two.
const MAX_INTERIM: u8 = 10;

/// Calls whose interim responses are counted at the same time. Beyond it, the oldest is no longer counted.
const MAX_COUNTED: usize = 1024;

/// How many bytes of a GOAWAY's debug data are kept.
const MAX_DEBUG_DATA: usize = 256;

// Frames of HTTP/2 (RFC 9113 §6), and the flag that ends a stream.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;

/// Passes all bytes through and reads the frames in them.
pub(crate) struct Wire<S> {
    stream: S,
    frames: Frames,
    cut: Option<oneshot::Receiver<()>>,
}

/// Why a connection ends, once it is known.
pub(crate) type LastWords = Arc<OnceLock<LastMessage>>;

/// Who ended a connection, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LastMessage {
    /// The server, by a GOAWAY (RFC 9113 §6.8).
    GoAway {
        /// Its error code.
        code: u32,
        /// Its debug data, truncated.
        debug_data: String,
    },
    /// We did: a call got too many interim responses.
    TooManyInterim,
}

impl fmt::Display for LastMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoAway { code, debug_data } => {
                let reason = h2::Reason::from(*code);
                write!(f, "the server closed the connection with GOAWAY {reason:?}")?;
                if debug_data.is_empty() {
                    return Ok(());
                }
                write!(f, " {debug_data:?}")
            }
            Self::TooManyInterim => write!(f, "we closed the connection: {TooManyInterim}"),
        }
    }
}

impl<S> Wire<S> {
    /// The sender ends the connection and every call on it, and knows when the connection is gone. Dropping it does
    /// nothing.
    pub(crate) fn new(stream: S) -> (Self, LastWords, oneshot::Sender<()>) {
        let last_words = LastWords::default();
        let frames = Frames {
            head: Vec::with_capacity(HEAD),
            left: 0,
            goaway: None,
            answers: BTreeMap::new(),
            last_words: last_words.clone(),
        };
        let (cut, when_cut) = oneshot::channel();
        let wire = Self {
            stream,
            frames,
            cut: Some(when_cut),
        };
        (wire, last_words, cut)
    }

    /// Fails once the connection is cut. Every read and write asks, since either may be what the connection waits for.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.cut.as_mut().map(|cut| Pin::new(cut).poll(cx)) {
            Some(Poll::Ready(Ok(()))) => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Poll::Ready(Err(_never))) => {
                self.cut = None;
                Ok(())
            }
            Some(Poll::Pending) | None => Ok(()),
        }
    }
}

/// A call got too many interim responses.
#[derive(Debug, thiserror::Error)]
#[error("the server sent more than {MAX_INTERIM} interim responses (1xx) to one call")]
struct TooManyInterim;

/// The bytes of a frame before its payload (RFC 9113 §4.1).
const HEAD: usize = 9;

struct Frames {
    head: Vec<u8>,
    /// Bytes of the payload that have not arrived yet.
    left: usize,
    /// The payload so far, if it is that of a GOAWAY.
    goaway: Option<Vec<u8>>,
    /// How many header blocks that do not end it each open stream has had.
    answers: BTreeMap<u32, u8>,
    last_words: LastWords,
}

impl Frames {
    fn read(&mut self, mut bytes: &[u8]) -> Result<(), TooManyInterim> {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (payload, rest) = bytes.split_at(self.left.min(bytes.len()));
                bytes = rest;
                self.payload(payload);
                continue;
            }
            let missing = HEAD - self.head.len();
            let (head, rest) = bytes.split_at(missing.min(bytes.len()));
            bytes = rest;
            self.head.extend_from_slice(head);
            if let [a, b, c, kind, flags, stream @ ..] = &self.head[..]
                && let Ok(stream) = <[u8; 4]>::try_from(stream)
            {
                let length = u32::from_be_bytes([0, *a, *b, *c]);
                let (kind, flags) = (*kind, *flags);
                self.head.clear();
                self.left = usize::try_from(length).unwrap_or(usize::MAX);
                self.begin(kind, flags, u32::from_be_bytes(stream) & 0x7fff_ffff)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, kind: u8, flags: u8, stream: u32) -> Result<(), TooManyInterim> {
        self.goaway = (kind == GOAWAY).then(Vec::new);
        let ends = flags & END_STREAM != 0;
        match kind {
            DATA | HEADERS if ends => {
                self.answers.remove(&stream);
            }
            RST_STREAM => {
                self.answers.remove(&stream);
            }
            HEADERS => {
                let answers = self.answers.entry(stream).or_default();
                *answers = answers.saturating_add(1);
                // The answer itself is one.
                if *answers > MAX_INTERIM + 1 {
                    self.last_words.set(LastMessage::TooManyInterim).ok();
                    return Err(TooManyInterim);
                }
                if self.answers.len() > MAX_COUNTED {
                    self.answers.pop_first();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn payload(&mut self, bytes: &[u8]) {
        self.left -= bytes.len();
        let Some(payload) = &mut self.goaway else {
            return;
        };
        let room = (8 + MAX_DEBUG_DATA).saturating_sub(payload.len());
        payload.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.left == 0
            && let Some((fixed, debug_data)) = payload.split_at_checked(8)
            && let [_, _, _, _, code @ ..] = fixed
            && let Ok(code) = <[u8; 4]>::try_from(code)
        {
            // The first one has the reason; the last one of a graceful shutdown repeats it.
            self.last_words
                .set(LastMessage::GoAway {
                    code: u32::from_be_bytes(code),
                    debug_data: String::from_utf8_lossy(debug_data).into_owned(),
                })
                .ok();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(self.frames.read(read).map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        [&head, payload].concat()
    }

    fn frames() -> Frames {
        Wire::new(()).0.frames
    }

    #[test]
    fn a_goaway_is_read_however_it_is_cut_into_pieces() {
        let goaway = frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0btoo \x1b[2Jmany");
        let bytes = [frame(DATA, 0, 1, b"GOAWAY"), goaway].concat();
        for size in 1..bytes.len() {
            let mut frames = frames();
            for piece in bytes.chunks(size) {
                frames.read(piece).unwrap();
            }
            let said = frames.last_words.get().unwrap().to_string();
            assert_eq!(
                said,
                "the server closed the connection with GOAWAY ENHANCE_YOUR_CALM \"too \\u{1b}[2Jmany\""
            );
        }
    }

    #[test]
    fn only_so_many_interim_answers_are_taken_for_one_call() {
        let headers = |stream| frame(HEADERS, 4, stream, b"\x88");
        let mut many = frames();
        for stream in (1..20_001).step_by(2) {
            many.read(&headers(stream)).unwrap();
        }
        assert!(many.answers.len() <= MAX_COUNTED);
        let mut ended = frames();
        for _ in 0..100 {
            ended.read(&headers(1)).unwrap();
            ended
                .read(&frame(HEADERS, 4 | END_STREAM, 1, b"\x88"))
                .unwrap();
        }
        let mut flooded = frames();
        for _ in 0..=MAX_INTERIM {
            flooded.read(&headers(1)).unwrap();
        }
        assert!(flooded.read(&headers(3)).is_ok(), "another call");
        assert!(flooded.read(&headers(1)).is_err());
    }
}
