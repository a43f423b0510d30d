//! Calls a server for a while, 16 calls at once on one connection, and prints the processor time of one in microseconds.
//! Arguments: ours|stock ADDRESS TLS-DIR SECONDS.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use countersign::client::{self, Connection};
use countersign::mtls::{Source, Target};
use tokio::task::JoinSet;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{FILE_DESCRIPTOR_SET, HealthCheckRequest};

const AT_ONCE: usize = 16;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let mut next = |what| args.next().context(what);
    let (kind, address) = (next("ours|stock")?, next("ADDRESS")?);
    let (dir, seconds) = (next("TLS-DIR")?, next("SECONDS")?);
    let (target, dir) = (format!("https://{address}"), Path::new(&dir));
    let time = Duration::from_secs_f64(seconds.parse()?);
    let cost = match &*kind {
        "ours" => {
            let connection = Connection::new(Target::parse(&target)?, Source::directory(dir));
            let client = client::connect(connection, FILE_DESCRIPTOR_SET)?;
            cost(HealthClient::new(client.channel()), time).await?
        }
        "stock" => {
            let read = |name: &str| std::fs::read(dir.join(name)).context(name.to_owned());
            let tls = ClientTlsConfig::new()
                .identity(Identity::from_pem(read("tls.crt")?, read("tls.key")?))
                .ca_certificate(Certificate::from_pem(read("ca.crt")?))
                .domain_name("localhost");
            let channel = Endpoint::from_shared(target)?
                .tls_config(tls)?
                .connect_lazy();
            cost(HealthClient::new(channel), time).await?
        }
        other => bail!("no such client: {other}"),
    };
    println!("{cost}");
    Ok(())
}

async fn cost<S>(client: HealthClient<S>, time: Duration) -> Result<f64>
where
    S: tonic::client::GrpcService<tonic::body::Body, Future: Send> + Clone + Send + 'static,
    S::Error: Into<tonic::codegen::StdError>,
    S::ResponseBody: tonic::codegen::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as tonic::codegen::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    // The connection first.
    client.clone().check(HealthCheckRequest::default()).await?;
    let before = cpu_micros()?;
    let end = Instant::now() + time;
    let mut callers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let mut client = client.clone();
        callers.spawn(async move {
            let mut done = 0_u64;
            while Instant::now() < end {
                client.check(HealthCheckRequest::default()).await?;
                done += 1;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(caller) = callers.join_next().await {
        done += caller??;
    }
    Ok((cpu_micros()? - before) / done as f64)
}

/// Processor time of all threads so far.
fn cpu_micros() -> Result<f64> {
    let mut nanos = 0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(nanos as f64 / 1e3)
}
