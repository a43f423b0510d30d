//! The service of the examples: yours has handlers like these.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign::server;
use test_contract::v1::echo_service_server::EchoService;
use test_contract::v1::{
    ChatRequest, ChatResponse, CollectRequest, CollectResponse, EchoRequest, EchoResponse,
    RecordRequest, RecordResponse, WatchRequest, WatchResponse,
};
use tokio_stream::{Stream, StreamExt, once, pending};
use tonic::{Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers with what it was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Echo {
    recorded: Arc<AtomicU64>,
}

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        // Who calls, as TLS verified it.
        let peer = server::peer(&request)?.to_string();
        let text = format!("{peer} says {}", request.into_inner().text);
        let recorded = self.recorded.load(Ordering::Relaxed);
        Ok(Response::new(EchoResponse { text, recorded }))
    }

    async fn record(
        &self,
        _request: Request<RecordRequest>,
    ) -> Result<Response<RecordResponse>, Status> {
        let count = self.recorded.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(Response::new(RecordResponse { count }))
    }

    type WatchStream = Answers<WatchResponse>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let text = request.into_inner().text;
        let first = once(Ok(WatchResponse { text }));
        Ok(Response::new(Box::pin(first.chain(pending()))))
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
