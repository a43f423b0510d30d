//! The server: the handlers, and a `main` that serves them over mutual TLS under policy.json.

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use countersign::server::{Service, Services, Settings, peer};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use crate::api::template_service_server::{TemplateService, TemplateServiceServer};
use crate::api::{GreetRequest, GreetResponse, WatchRequest, WatchResponse};

mod generated {
    include!(concat!(env!("OUT_DIR"), "/mod.rs"));
}
use generated::template::v1 as api;

/// What is served, and where its files are unless a setting says otherwise.
const SERVICE: Service = Service {
    name: "template",
    descriptors: include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")),
    tls_dir: "certs/template",
    policy: "policy.json",
};

/// Serves template.v1.TemplateService over mutual TLS, for the callers that the policy allows.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Program {
    #[command(flatten)]
    server: Settings,
}

fn main() -> ExitCode {
    let Program { server } = SERVICE.parse();
    SERVICE
        .server(server)
        .run(async || Ok(Services::new().add_service(TemplateServiceServer::new(Handlers))))
}

/// One function for each RPC. Who may call was decided before.
struct Handlers;

#[tonic::async_trait]
impl TemplateService for Handlers {
    async fn greet(
        &self,
        request: Request<GreetRequest>,
    ) -> Result<Response<GreetResponse>, Status> {
        let caller = peer(&request)?.to_string();
        let GreetRequest { name } = request.into_inner();
        if name.is_empty() || name.len() > 100 {
            return Err(Status::invalid_argument("name must have 1 to 100 bytes"));
        }
        let text = format!("Hello {name}, from {caller}");
        Ok(Response::new(GreetResponse { text }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let counts = tokio_stream::iter(1..).throttle(Duration::from_millis(200));
        let counts = counts.map(|count| Ok(WatchResponse { count }));
        Ok(Response::new(Box::pin(counts)))
    }
}

#[cfg(test)]
mod tests {
    use countersign_cli::rights::{Rights, RightsError};
    use tonic::Code;

    use super::*;

    /// Who may call what. Every RPC has its row, and a caller that is not in it is denied.
    #[rustfmt::skip]
    const RIGHTS: &[(&str, &[&str])] = &[
        ("/grpc.health.v1.Health/Check", &["frontend", "auditor"]),
        ("/grpc.health.v1.Health/Watch", &["frontend", "auditor"]),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &["auditor"]),
        ("/template.v1.TemplateService/Greet", &["frontend"]),
        ("/template.v1.TemplateService/Watch", &["frontend", "auditor"]),
    ];

    fn rights() -> Result<Rights, RightsError> {
        Rights::read("policy.json", SERVICE.descriptors, "certs/dev.toml")
    }

    #[test]
    fn every_rpc_has_a_rule_and_every_rule_an_rpc() -> Result<(), RightsError> {
        rights()?.check_policy()
    }

    #[test]
    fn every_identity_may_call_what_the_table_says_and_nothing_else() -> Result<(), RightsError> {
        rights()?.check_table(RIGHTS)
    }

    #[tokio::test]
    async fn a_caller_is_greeted_by_name_and_an_empty_name_is_refused() -> Result<(), RightsError> {
        let frontend = rights()?.peer("frontend")?;
        let greet = async |name: &str| {
            let mut request = Request::new(GreetRequest {
                name: name.to_owned(),
            });
            request.extensions_mut().insert(frontend.clone());
            let answer = Handlers.greet(request).await;
            answer
                .map_err(|status| status.code())
                .map(|answer| answer.into_inner().text)
        };
        let text = "Hello Ada, from spiffe://acme.test/frontend";
        assert_eq!(greet("Ada").await, Ok(text.to_owned()));
        assert_eq!(greet("").await, Err(Code::InvalidArgument));
        Ok(())
    }
}
