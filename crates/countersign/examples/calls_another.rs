//! A server that calls another to answer. Run it with `cargo run -p countersign --example calls_another -- --tls-dir DIR
//! --policy FILE --listen 127.0.0.1:50052 --backend https://localhost:50051`.

use std::process::ExitCode;

use clap::Parser;
use countersign::client::{Client, connect};
use countersign::mtls::Target;
use countersign::server::{Service, Services, Settings, child_request, peer};
use test_contract::v1::echo_service_client::EchoServiceClient;
use test_contract::v1::echo_service_server::{EchoService, EchoServiceServer};
use test_contract::v1::{
    ChatRequest, CollectRequest, CollectResponse, EchoRequest, EchoResponse, RecordRequest,
    RecordResponse, WatchRequest,
};
use tonic::{Code, Request, Response, Status, Streaming};

#[path = "support/echo.rs"]
mod echo;

const SERVICE: Service = Service {
    name: "front",
    descriptors: test_contract::FILE_DESCRIPTOR_SET,
    tls_dir: "certs/front",
    policy: "policy.json",
};
const ECHO: &str = "/countersign.test.v1.EchoService/Echo";

/// Echoes what another server answers
#[derive(Debug, Parser)]
struct Front {
    #[command(flatten)]
    server: Settings,

    /// The server that is called
    #[arg(long, env = "APP_BACKEND", value_name = "https://HOST:PORT", value_parser = Target::parse)]
    backend: Target,
}

fn main() -> ExitCode {
    let Front { server, backend } = SERVICE.parse();
    // One identity for both sides: its certificate is for servers and for clients.
    let connection = server.credentials.connection(backend);
    let ours = connection.clone();
    let server = SERVICE.server(server).check(move || ours.check());
    server.run(async move || {
        let backend = connect(connection, test_contract::FILE_DESCRIPTOR_SET)?;
        let metrics = backend.clone();
        let handlers = Handlers {
            backend,
            others: echo::Echo::default(),
        };
        Ok(Services::new()
            .add_service(EchoServiceServer::new(handlers))
            .with_metrics(move |registry| metrics.register(registry)))
    })
}

struct Handlers {
    backend: Client,
    others: echo::Echo,
}

#[tonic::async_trait]
impl EchoService for Handlers {
    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        // The backend authorizes this server. It learns of the caller only what the message says.
        let text = format!("{} says {}", peer(&request)?, request.get_ref().text);
        let ask = child_request(&request, EchoRequest { text });
        let answer = EchoServiceClient::new(self.backend.channel())
            .echo(ask)
            .await;
        answer.map_err(|status| {
            let code = match status.code() {
                passing @ (Code::Unavailable | Code::DeadlineExceeded) => passing,
                // The caller is not at fault.
                _ => Code::Internal,
            };
            tracing::error!(reason = %self.backend.error(ECHO, status), "the backend failed");
            Status::new(code, "the server behind this one did not answer")
        })
    }

    async fn record(
        &self,
        request: Request<RecordRequest>,
    ) -> Result<Response<RecordResponse>, Status> {
        self.others.record(request).await
    }

    type WatchStream = <echo::Echo as EchoService>::WatchStream;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.others.watch(request).await
    }

    async fn collect(
        &self,
        request: Request<Streaming<CollectRequest>>,
    ) -> Result<Response<CollectResponse>, Status> {
        self.others.collect(request).await
    }

    type ChatStream = <echo::Echo as EchoService>::ChatStream;

    async fn chat(
        &self,
        request: Request<Streaming<ChatRequest>>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        self.others.chat(request).await
    }
}
