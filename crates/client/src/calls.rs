//! The calls, each with its deadline. The channel repeats those with one request; those that send a stream are repeated
//! here, since only this module can build the stream again.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use countersign::client::{ClientChannel, Connection, RpcError, SetupError};
use proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use proto::inventory::v1::{
    GetItemRequest, ImportItemsRequest, ImportItemsResponse, Item, Reservation, ReserveManyRequest,
    ReserveManyResponse, ReserveStockRequest, WatchStockRequest, WatchStockResponse,
};
use tonic::{Code, IntoStreamingRequest, Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::method::Method;

/// A client of the inventory. Clones share its connections, credentials and retry budget.
#[derive(Clone, Debug)]
pub struct Client(countersign::client::Client);

/// Reads our credentials and gives a client. A server is dialled by the first call. Call it within a tokio runtime.
///
/// # Errors
/// Our credentials cannot be used.
pub fn connect(connection: Connection) -> Result<Client, SetupError> {
    countersign::client::connect(connection, proto::FILE_DESCRIPTOR_SET).map(Client)
}

/// In each of these, `timeout` is for the whole call, repetitions and streams included; none is no limit.
impl Client {
    /// The generated client.
    pub fn inventory(&self) -> InventoryServiceClient<ClientChannel> {
        InventoryServiceClient::new(self.0.channel())
    }

    /// The underlying client: its credentials, servers, retries and metrics.
    pub fn transport(&self) -> &countersign::client::Client {
        &self.0
    }

    /// Reads one item.
    ///
    /// # Errors
    /// As the contract says.
    pub async fn get_item(
        &self,
        request: GetItemRequest,
        timeout: Option<Duration>,
    ) -> Result<Item, RpcError> {
        let request = request_within(timeout, request);
        let answer = self.inventory().get_item(request).await;
        let item = answer.and_then(|answer| {
            let item = answer.into_inner().item;
            item.ok_or_else(|| broken("it answered without an item"))
        });
        item.map_err(|status| self.error(Method::GetItem, status))
    }

    /// Reserves units of one item.
    ///
    /// # Errors
    /// As the contract says. After one that leaves open whether the reservation was made, as UNAVAILABLE and
    /// DEADLINE_EXCEEDED do, the same request can be made again.
    pub async fn reserve_stock(
        &self,
        request: ReserveStockRequest,
        timeout: Option<Duration>,
    ) -> Result<Reservation, RpcError> {
        let request = request_within(timeout, request);
        let answer = self.inventory().reserve_stock(request).await;
        let made = answer.and_then(|answer| {
            let made = answer.into_inner().reservation;
            made.ok_or_else(|| broken("it answered without a reservation"))
        });
        made.map_err(|status| self.error(Method::ReserveStock, status))
    }

    /// Opens a stream of levels. It is opened again by policy until it is open, and not when it breaks.
    ///
    /// # Errors
    /// As the contract says.
    pub async fn watch_stock(
        &self,
        request: WatchStockRequest,
        timeout: Option<Duration>,
    ) -> Result<Levels, RpcError> {
        let request = request_within(timeout, request);
        let open = self.inventory().watch_stock(request).await;
        let open = open.map_err(|status| self.error(Method::WatchStock, status));
        Ok(Levels {
            stream: open?.into_inner(),
            client: self.clone(),
        })
    }

    /// Creates or sets items, all or none. `sent` is called with how many are on their way, from the beginning again
    /// when the call is repeated.
    ///
    /// # Errors
    /// As the contract says.
    pub async fn import_items(
        &self,
        items: Arc<[ImportItemsRequest]>,
        timeout: Option<Duration>,
        sent: impl Fn(usize) + Clone + Send + Sync + 'static,
    ) -> Result<ImportItemsResponse, RpcError> {
        let imported = self.0.retry().call(timeout, |attempt| {
            let (items, sent) = (items.clone(), sent.clone());
            let stream = (0..items.len()).map_while(move |at| {
                sent(at + 1);
                items.get(at).cloned()
            });
            let (mut inventory, request) = (
                self.inventory(),
                attempt.request(tokio_stream::iter(stream)),
            );
            async move { Ok(inventory.import_items(request).await?.into_inner()) }
        });
        let imported = imported.await;
        imported.map_err(|status| self.error(Method::ImportItems, status))
    }

    /// Makes reservations over one stream. When it breaks, those without an answer are sent again, by policy.
    ///
    /// `answered` is given one answer for each request, in their order, and can end the call before the last one.
    ///
    /// # Errors
    /// The call failed; the answers that were given count.
    pub async fn reserve_many(
        &self,
        requests: &[ReserveManyRequest],
        timeout: Option<Duration>,
        mut answered: impl FnMut(&ReserveManyRequest, ReserveManyResponse) -> ControlFlow<()>,
    ) -> Result<(), RpcError> {
        let mut open = requests;
        let mut attempt = self.0.retry().begin(timeout);
        while !open.is_empty() {
            let request = attempt.request(tokio_stream::iter(open.to_vec()));
            match self.reserve_open(request, &mut open, &mut answered).await {
                Ok(()) => {
                    attempt.succeeded();
                    break;
                }
                Err(status) => {
                    let again = attempt.failed(status).await;
                    again.map_err(|status| self.error(Method::ReserveMany, status))?;
                }
            }
        }
        Ok(())
    }

    /// One stream of [`Client::reserve_many`]; what has its answer is not `open` any more.
    async fn reserve_open(
        &self,
        request: impl IntoStreamingRequest<Message = ReserveManyRequest>,
        open: &mut &[ReserveManyRequest],
        answered: &mut impl FnMut(&ReserveManyRequest, ReserveManyResponse) -> ControlFlow<()>,
    ) -> Result<(), Status> {
        let mut stream = self.inventory().reserve_many(request).await?.into_inner();
        while let Some(answer) = stream.message().await? {
            let Some((asked, rest)) = open.split_first() else {
                return Err(broken("it sent more responses than requests"));
            };
            if answer.reservation_id != asked.reservation_id || answer.result.is_none() {
                return Err(broken("its response does not match the next request"));
            }
            *open = rest;
            if answered(asked, answer).is_break() {
                return Ok(());
            }
        }
        if open.is_empty() {
            Ok(())
        } else {
            Err(broken("it ended the stream before the last response"))
        }
    }

    /// Asks, without a retry, whether a service is serving now; the server as a whole is `""`.
    ///
    /// # Errors
    /// NOT_FOUND when the server knows no such service, and the transport's and the policy's.
    pub async fn check_health(
        &self,
        service: &str,
        timeout: Duration,
    ) -> Result<ServingStatus, RpcError> {
        let service = service.to_owned();
        let request = request_within(Some(timeout), HealthCheckRequest { service });
        let answer = self.0.health().check(request).await;
        answer
            .map(|answer| answer.into_inner().status())
            .map_err(|status| self.error(Method::HealthCheck, status))
    }

    fn error(&self, method: Method, status: Status) -> RpcError {
        self.0.error(method.path(), status)
    }
}

fn request_within<M>(timeout: Option<Duration>, message: M) -> Request<M> {
    let mut request = Request::new(message);
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    request
}

/// An open watch. The call ends when it is dropped.
#[derive(Debug)]
pub struct Levels {
    stream: Streaming<WatchStockResponse>,
    client: Client,
}

impl Levels {
    /// The next level, or `None` when the server has ended the stream.
    ///
    /// # Errors
    /// The call failed; a new watch begins with the levels as they are then.
    pub async fn next(&mut self) -> Result<Option<WatchStockResponse>, RpcError> {
        let level = self.stream.message().await;
        level.map_err(|status| self.client.error(Method::WatchStock, status))
    }
}

/// The server's answer is not one that the contract has.
fn broken(how: &str) -> Status {
    Status::new(
        Code::Internal,
        format!("the server broke the contract: {how}"),
    )
}
