//! What each command does, with its results on an [`Output`].
//!
//! The whole input is checked before anything is sent.

use countersign::program;
use std::future::{Future, pending};
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use countersign::admin::{self, Pages, Readiness};
use countersign::telemetry::Traces;
use proto::inventory::v1::reserve_many_response::Result as Answer;
use proto::inventory::v1::{
    GetItemRequest, ImportItemsRequest, ReserveManyRequest, ReserveManyResponse,
    ReserveStockRequest, WatchStockRequest,
};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::service::Routes;
use tonic_health::pb::health_check_response::ServingStatus;
use tracing::info;
use uuid::Uuid;

use crate::calls::{Client, connect};
use crate::events;
use crate::failure::Failure;
use crate::items::{read_items, read_reservations};
use crate::output::{Output, ProgressLine};
use crate::settings::{ClientArgs, Command, WorkSettings};
use crate::worker::{self, Done};

/// The name of this program in traces, unless `OTEL_SERVICE_NAME` gives another.
const SERVICE: &str = "inventory-client";

/// Runs the command of `settings`. Call it within a tokio runtime.
///
/// # Errors
/// Why it failed, with its exit code.
pub async fn run<O: Write, E: Write>(
    settings: &ClientArgs,
    output: &mut Output<O, E>,
) -> Result<(), Failure> {
    let traces = settings.connection.traces(SERVICE)?;
    let done = observed(settings, &traces, output).await;
    // It logs what it could not send.
    drop(tokio::task::spawn_blocking(move || traces.flush()).await);
    done
}

async fn observed<O: Write, E: Write>(
    settings: &ClientArgs,
    traces: &Traces,
    output: &mut Output<O, E>,
) -> Result<(), Failure> {
    let deadline = settings.connection.deadline();
    let client = || connect(settings.connection.connection(traces.clone()));
    match &settings.command {
        Command::GetItem { sku } => get_item(&client()?, sku, deadline, output).await,
        Command::Reserve { sku, quantity, id } => {
            reserve(&client()?, sku, *quantity, *id, deadline, output).await
        }
        Command::ReserveMany { file } => {
            let requests = read_reservations(file)?;
            reserve_many(&client()?, &requests, deadline, output).await
        }
        Command::Watch {
            sku,
            duration,
            count,
        } => {
            let mut stop = program::stop_signal().map_err(Failure::System)?;
            let client = client()?;
            let sku = sku.as_deref().unwrap_or_default();
            let deadline = settings
                .connection
                .deadline
                .map(|program::Duration(deadline)| deadline);
            tokio::select! {
                watched = watch(&client, sku, deadline, *count, output) => watched,
                () = after(duration.map(|program::Duration(duration)| duration)) => Ok(()),
                () = stop.requested() => Ok(()),
            }
        }
        Command::Import { file } => {
            let items = read_items(file)?;
            import(&client()?, items, deadline, output).await
        }
        Command::Health { service } => {
            let service = service.as_deref().unwrap_or_default();
            health(&client()?, service, deadline, output).await
        }
        Command::Probe { admin_listen } => output.probed(&admin::probe(*admin_listen).await?),
        Command::Run(work) => {
            let mut stop = program::stop_signal().map_err(Failure::System)?;
            let client = client()?;
            let _admin = admin_port(work.admin_listen, &client).await?;
            run_worker(client, work, deadline, stop.requested(), output).await
        }
    }
}

async fn get_item<O: Write, E: Write>(
    client: &Client,
    sku: &str,
    deadline: Duration,
    output: &mut Output<O, E>,
) -> Result<(), Failure> {
    let request = GetItemRequest {
        sku: sku.to_owned(),
    };
    output.item(&client.get_item(request, Some(deadline)).await?)
}

async fn reserve<O: Write, E: Write>(
    client: &Client,
    sku: &str,
    quantity: u32,
    id: Option<Uuid>,
    deadline: Duration,
    output: &mut Output<O, E>,
) -> Result<(), Failure> {
    let request = ReserveStockRequest {
        reservation_id: id.unwrap_or_else(Uuid::now_v7).to_string(),
        sku: sku.to_owned(),
        quantity,
    };
    if id.is_none() {
        output.identifier(&request.reservation_id);
    }
    output.reservation(&client.reserve_stock(request, Some(deadline)).await?)
}

async fn reserve_many<O: Write, E: Write>(
    client: &Client,
    requests: &[ReserveManyRequest],
    deadline: Duration,
    output: &mut Output<O, E>,
) -> Result<(), Failure> {
    let (mut answered, mut failed) = (0, 0);
    let mut written = Ok(());
    let called = client
        .reserve_many(
            requests,
            Some(deadline),
            |request, answer: ReserveManyResponse| {
                answered += 1;
                failed += usize::from(matches!(answer.result, Some(Answer::Failure(_))));
                written = output.answer(request, &answer);
                if written.is_ok() {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            },
        )
        .await;
    written?;
    for request in requests.iter().skip(answered) {
        output.unanswered(request)?;
    }
    called?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::NotReserved {
            failed,
            all: requests.len(),
        }),
    }
}

async fn watch<O: Write, E: Write>(
    client: &Client,
    sku: &str,
    deadline: Option<Duration>,
    count: Option<u64>,
    output: &mut Output<O, E>,
) -> Result<(), Failure> {
    let request = WatchStockRequest {
        sku: sku.to_owned(),
    };
    let mut levels = client.watch_stock(request, deadline).await?;
    let mut left = count.unwrap_or(u64::MAX);
    while let Some(level) = levels.next().await? {
        match output.level(&level) {
            // A reader that has seen enough closes the pipe, as `head` does.
            Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
        left -= 1;
        if left == 0 {
            break;
        }
    }
    Ok(())
}

async fn import<O: Write, E: Write>(
    client: &Client,
    items: Vec<ImportItemsRequest>,
    deadline: Duration,
    output: &mut Output<O, E>,
) -> Result<(), Failure> {
    let progress = ProgressLine::new("items sent", items.len());
    let sent = progress.clone();
    let imported = client.import_items(items.into(), Some(deadline), move |count| sent.at(count));
    let imported = imported.await;
    progress.end();
    output.imported(&imported?)
}

async fn health<O: Write, E: Write>(
    client: &Client,
    service: &str,
    deadline: Duration,
    output: &mut Output<O, E>,
) -> Result<(), Failure> {
    let status = client.check_health(service, deadline).await?;
    output.health(service, status)?;
    match status {
        ServingStatus::Serving => Ok(()),
        ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
            Err(Failure::NotServing(status.as_str_name()))
        }
    }
}

/// Starts the admin port, if there is to be one. It ends with what is returned.
async fn admin_port(address: admin::Address, client: &Client) -> Result<JoinSet<()>, Failure> {
    let mut port = JoinSet::new();
    if let admin::Address::At(address) = address {
        let listener = countersign::mtls::bind(address).await?;
        let address = listener.local_addr().map_err(Failure::System)?;
        info!(%address, "{}", events::ADMIN_LISTENING);
        let pages = Pages::new(|| Readiness::Ready, client.transport().metrics());
        port.spawn(admin::serve(listener, pages, Routes::default(), pending()));
    }
    Ok(port)
}

async fn run_worker<O: Write, E: Write>(
    client: Client,
    settings: &WorkSettings,
    deadline: Duration,
    stop: impl Future<Output = ()>,
    output: &mut Output<O, E>,
) -> Result<(), Failure> {
    let Done {
        tally,
        elapsed,
        last_error,
    } = worker::work(client, settings, deadline, stop).await?;
    output.summary(&tally, elapsed)?;
    let (_, ok) = tally.totals();
    match last_error {
        // A worker that nothing ever worked for is set up wrongly; any other one did its work.
        Some(error) if ok == 0 => Err(error.into()),
        Some(_) | None => Ok(()),
    }
}

async fn after(duration: Option<Duration>) {
    match duration {
        Some(duration) => sleep(duration).await,
        None => pending().await,
    }
}
