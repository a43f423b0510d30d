//! The calls of a connection run in its task. So a handler that does not give way holds up its own connection, and no other.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, mpsc};

use http::{Request, Response};
use identity::{Peer, Role};
use mtls::Limits;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{ServiceExt, service_fn};

use crate::world::{PATIENCE, Pki};

async fn call(channel: mtls::Channel, path: &str) -> Code {
    let request = Request::post(path)
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(Body::empty())
        .unwrap();
    let answer = channel.oneshot(request).await.unwrap();
    Status::from_header_map(answer.headers()).unwrap().code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_handler_that_hogs_its_connection_leaves_the_others_undisturbed() {
    let pki = Pki::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (began, hogging) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Arc::new(Mutex::new(released));
    let service_for = move |_: &Arc<Peer>, _: mtls::Lease| {
        let (began, released) = (began.clone(), released.clone());
        service_fn(move |request: Request<Body>| {
            let (began, released) = (began.clone(), released.clone());
            async move {
                if request.uri().path() == "/t.S/Hog" {
                    began.send(()).unwrap();
                    // Blocks its thread, as no handler should.
                    released.lock().unwrap().recv().unwrap();
                }
                let answer: Response<Body> = Status::already_exists("").into_http();
                Ok::<_, Infallible>(answer)
            }
        })
    };
    tokio::spawn(mtls::serve(
        listener,
        pki.trust("echo", Role::Server),
        Limits::default(),
        service_for,
        std::future::pending(),
    ));
    let hog = tokio::spawn(call(pki.channel("orders", address), "/t.S/Hog"));
    tokio::task::spawn_blocking(move || hogging.recv_timeout(PATIENCE).unwrap())
        .await
        .unwrap();
    for name in ["orders", "catalog", "orders"] {
        let other = call(pki.channel(name, address), "/t.S/Get");
        let answered = tokio::time::timeout(PATIENCE, other).await;
        assert_eq!(answered.unwrap(), Code::AlreadyExists, "{name}");
    }
    assert!(!hog.is_finished());
    release.send(()).unwrap();
    assert_eq!(hog.await.unwrap(), Code::AlreadyExists);
}
