//! HTTP/2 frame by frame (RFC 9113 §6), for peers that break its rules.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface and our SETTINGS, with this window for each stream.
pub fn opening(window: u32) -> Vec<u8> {
    let mut setting = vec![0, 4];
    setting.extend(window.to_be_bytes());
    [PREFACE, &frame(SETTINGS, 0, 0, &setting)].concat()
}

/// The headers of a gRPC call (HPACK, RFC 7541, without tables and Huffman codes).
pub fn call(path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [
        vec![0x83, 0x87, 0x04],
        text(path),
        vec![0x01],
        text("localhost"),
        vec![0x0f, 0x10],
        text("application/grpc"),
        vec![0x00],
        text("te"),
        text("trailers"),
    ]
    .concat()
}

/// The headers of a gRPC call that has this long ("1S").
pub fn call_within(path: &str, timeout: &str) -> Vec<u8> {
    let name = "grpc-timeout";
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    let header = [&[0, length(name)], name.as_bytes(), &[length(timeout)]].concat();
    [call(path), header, timeout.as_bytes().to_vec()].concat()
}

/// One header of `size` bytes.
pub fn large_header(size: usize) -> Vec<u8> {
    let mut header = vec![0x00, 1, b'x', 0x7f];
    let mut rest = size - 127;
    while rest >= 128 {
        header.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    header.push(u8::try_from(rest).unwrap());
    header.extend(std::iter::repeat_n(b'a', size));
    header
}

/// How a connection ended for a peer that reads on.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// By a GOAWAY with this error code (RFC 9113 §7).
    GoAway(u32),
    /// Without one.
    Closed,
}

/// The error codes of a GOAWAY.
pub const PROTOCOL_ERROR: u32 = 1;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// Reads frames until the connection ends.
pub async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> End {
    let mut end = End::Closed;
    while let Ok((kind, _, payload)) = read(stream).await {
        if kind == GOAWAY {
            let code = payload.get(4..8).unwrap().try_into().unwrap();
            end = End::GoAway(u32::from_be_bytes(code));
        }
    }
    end
}

/// The kind, the stream and the payload of the next frame.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u8, u32, Vec<u8>)> {
    let (kind, _, id, payload) = read_frame(stream).await?;
    Ok((kind, id, payload))
}

/// The kind, the flags, the stream and the payload of the next frame.
pub async fn read_frame(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, id @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]).try_into().unwrap()];
    stream.read_exact(&mut payload).await?;
    Ok((kind, flags, u32::from_be_bytes(id), payload))
}
