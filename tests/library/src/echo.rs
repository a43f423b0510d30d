//! The service that the library is tested by: it answers with what it was sent, and knows nothing else.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use test_contract::v1::echo_service_server::EchoService;
use test_contract::v1::{
    ChatRequest, ChatResponse, CollectRequest, CollectResponse, EchoRequest, EchoResponse,
    RecordRequest, RecordResponse, WatchRequest, WatchResponse,
};
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt, once};
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// More than any watcher of these tests falls behind.
const BEHIND: usize = 1 << 16;

/// Answers with what it was sent. The text `NOT_FOUND` is answered by that status, as an error of the service's own, and
/// `PANIC` by a panic.
#[derive(Clone)]
pub struct Echo {
    count: Arc<AtomicU64>,
    texts: broadcast::Sender<String>,
}

impl Default for Echo {
    fn default() -> Self {
        Self {
            count: Arc::default(),
            texts: broadcast::Sender::new(BEHIND),
        }
    }
}

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let EchoRequest { text } = request.into_inner();
        match text.as_str() {
            "NOT_FOUND" => Err(Status::not_found("there is no such text")),
            "PANIC" => panic!("as the caller wished"),
            _ => {
                let recorded = self.count.load(Ordering::Relaxed);
                Ok(Response::new(EchoResponse { text, recorded }))
            }
        }
    }

    async fn record(
        &self,
        request: Request<RecordRequest>,
    ) -> Result<Response<RecordResponse>, Status> {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        // Nobody may be watching.
        self.texts.send(request.into_inner().text).ok();
        Ok(Response::new(RecordResponse { count }))
    }

    type WatchStream = Answers<WatchResponse>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let texts = BroadcastStream::new(self.texts.subscribe());
        let texts = texts.map(|text| text.map_err(|missed| Status::data_loss(missed.to_string())));
        let first = once(Ok(request.into_inner().text));
        let answers = first
            .chain(texts)
            .map(|text| Ok(WatchResponse { text: text? }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn collect(
        &self,
        request: Request<Streaming<CollectRequest>>,
    ) -> Result<Response<CollectResponse>, Status> {
        let mut texts = request.into_inner();
        let mut count = 0;
        while texts.message().await?.is_some() {
            count += 1;
        }
        Ok(Response::new(CollectResponse { count }))
    }

    type ChatStream = Answers<ChatResponse>;

    async fn chat(
        &self,
        request: Request<Streaming<ChatRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        let texts = request.into_inner();
        let answers = texts.map(|asked| asked.map(|ChatRequest { text }| ChatResponse { text }));
        Ok(Response::new(Box::pin(answers)))
    }
}
