//! A network between the store and the database that is slow, mute or cut.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

/// Between the store and the database: passes everything on, late, or in one direction only, until it cuts.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    pub(crate) delay: watch::Sender<Duration>,
    /// Whether answers are held back.
    pub(crate) mute: watch::Sender<bool>,
    /// Each change cuts all connections.
    pub(crate) cut: watch::Sender<u32>,
}

impl Proxy {
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (delay, delays) = watch::channel(Duration::ZERO);
        let (mute, muted) = watch::channel(false);
        let (cut, cuts) = watch::channel(0);
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let (delays, muted, mut cuts) = (delays.clone(), muted.clone(), cuts.clone());
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let far = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await.unwrap();
                    let ((near_in, near_out), (far_in, far_out)) =
                        (near.into_split(), far.into_split());
                    tokio::select! {
                        () = pass(near_in, far_out, delays.clone(), watch::channel(false).1) => {}
                        () = pass(far_in, near_out, delays, muted) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self {
            port,
            delay,
            mute,
            cut,
        }
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    delay: watch::Receiver<Duration>,
    mut muted: watch::Receiver<bool>,
) {
    let (send, mut waiting) = mpsc::unbounded_channel();
    let reading = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            send.send((Instant::now() + *delay.borrow(), buffer[..read].to_vec()))
                .unwrap();
        }
    };
    let writing = async {
        while let Some((at, bytes)) = waiting.recv().await {
            sleep_until(at).await;
            while *muted.borrow_and_update() {
                if muted.changed().await.is_err() {
                    return;
                }
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
}
