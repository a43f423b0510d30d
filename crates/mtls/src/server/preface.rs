//! A stream that signals when the whole HTTP/2 preface has been read from it. hyper waits for the preface without a
//! deadline.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// The bytes of the preface (RFC 9113 §3.4), whatever they are: hyper looks at them.
const LENGTH: usize = 24;

/// Passes everything through. Its receiver resolves at the last byte of the preface, or fails when the stream is dropped
/// without.
pub(crate) struct Preface<S> {
    stream: S,
    left: usize,
    seen: Option<oneshot::Sender<()>>,
}

impl<S> Preface<S> {
    pub(crate) fn new(stream: S) -> (Self, oneshot::Receiver<()>) {
        let (seen, whole) = oneshot::channel();
        (
            Self {
                stream,
                left: LENGTH,
                seen: Some(seen),
            },
            whole,
        )
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Preface<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.left = self.left.saturating_sub(buf.filled().len() - before);
        if self.left == 0
            && let Some(seen) = self.seen.take()
        {
            // Nobody waits for it any more once the connection is under way.
            seen.send(()).ok();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Preface<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
