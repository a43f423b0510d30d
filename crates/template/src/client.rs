//! The caller: one call for each command. Results and errors are JSON, one a line.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use countersign::client::{Client, ClientChannel, ConnectionSettings, connect};
use countersign::program::{self, exit};
use serde_json::json;
use tonic::Status;

use crate::api::template_service_client::TemplateServiceClient;
use crate::api::{GreetRequest, WatchRequest};

mod generated {
    include!(concat!(env!("OUT_DIR"), "/mod.rs"));
}
use generated::template::v1 as api;

const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
const GREET: &str = "/template.v1.TemplateService/Greet";
const WATCH: &str = "/template.v1.TemplateService/Watch";

/// Calls template.v1.TemplateService over mutual TLS.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Program {
    #[command(flatten)]
    connection: ConnectionSettings,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Greet once
    Greet { name: String },
    /// Print each message of the stream
    Watch {
        /// End after this many
        #[arg(long, default_value_t = usize::MAX)]
        count: usize,
    },
    /// Greet 200 times a second for 4 seconds, and count
    Load,
}

#[tokio::main]
async fn main() -> ExitCode {
    let Program {
        connection,
        command,
    } = program::parse_with(|command| {
        command.mut_arg("tls_dir", |arg| arg.default_value("certs/frontend"))
    });
    let client = match connect(connection.connection(Default::default()), DESCRIPTORS) {
        Ok(client) => client,
        Err(error) => return exit::with_next_step(exit::USAGE, &error, error.next_step()),
    };
    match run(&client, command).await {
        Ok(()) => exit::OK,
        Err((method, status)) => {
            let error = client.error(method, status);
            eprintln!("{}", json!({ "error": error.to_json() }));
            error.exit_code().into()
        }
    }
}

async fn run(client: &Client, command: Command) -> Result<(), (&'static str, Status)> {
    let mut api = TemplateServiceClient::new(client.channel());
    match command {
        Command::Greet { name } => {
            let text = greet(&mut api, name)
                .await
                .map_err(|status| (GREET, status))?;
            println!("{}", json!({ "text": text }));
        }
        Command::Watch { count } => {
            let failed = |status| (WATCH, status);
            let stream = api.watch(WatchRequest {}).await.map_err(failed)?;
            let mut stream = stream.into_inner();
            for _ in 0..count {
                let Some(message) = stream.message().await.map_err(failed)? else {
                    break;
                };
                println!("{}", json!({ "count": message.count }));
            }
        }
        Command::Load => {
            let (begin, mut calls, mut ok) = (Instant::now(), 0, 0);
            let mut pace = tokio::time::interval(Duration::from_millis(5));
            while begin.elapsed() < Duration::from_secs(4) {
                pace.tick().await;
                calls += 1;
                ok += u32::from(greet(&mut api, "load".to_owned()).await.is_ok());
            }
            println!("{}", json!({ "calls": calls, "ok": ok }));
        }
    }
    Ok(())
}

async fn greet(
    api: &mut TemplateServiceClient<ClientChannel>,
    name: String,
) -> Result<String, Status> {
    Ok(api.greet(GreetRequest { name }).await?.into_inner().text)
}
