//! The handlers: one function per RPC of the contract, from a checked request to the store and back.
//!
//! They do no authorization and start no task: the work of a call ends with the call.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use countersign::server::peer;
use futures_util::stream::{self, Stream, StreamExt};
use proto::inventory::v1::inventory_service_server::{InventoryService, InventoryServiceServer};
use proto::inventory::v1::reserve_many_response::Result as ReserveManyResult;
use proto::inventory::v1::{
    GetItemRequest, GetItemResponse, ImportItemsRequest, ImportItemsResponse, Item, Reservation,
    ReserveManyRequest, ReserveManyResponse, ReserveStockRequest, ReserveStockResponse, UpdateKind,
    WatchStockRequest, WatchStockResponse,
};
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::fair_slots::FairSlots;
pub use crate::inventory_error::ERROR_DOMAIN;
use crate::inventory_error::InventoryError;
use crate::request::{self, Import};
use crate::store::{self, NewReservation, Store};
use crate::watch::Level;

/// How much one caller, and all callers together, can make the handlers hold.
#[derive(Clone, Copy, Debug)]
pub struct InventoryLimits {
    /// Items in one import.
    pub import_items: usize,
    /// Imports under way at once; one caller may have half of them.
    pub imports: usize,
    /// How long the items of one import may take to arrive.
    pub import_time: Duration,
    /// Reservations of one `ReserveMany` that are read ahead of its answers.
    pub reserve_many_ahead: usize,
    /// Bytes of one request message.
    pub message_bytes: usize,
}

impl Default for InventoryLimits {
    fn default() -> Self {
        Self {
            import_items: 10_000,
            imports: 4,
            import_time: Duration::from_secs(60),
            reserve_many_ahead: 64,
            message_bytes: 16 << 10,
        }
    }
}

/// The inventory service over `store`, to be put behind the transport and the policy.
///
/// The transport inserts an `Arc<Peer>` into the extensions of each request; a reservation belongs to that peer.
pub fn inventory(
    store: Store,
    limits: InventoryLimits,
) -> InventoryServiceServer<impl InventoryService> {
    let inventory = Inventory {
        store,
        limits,
        imports: FairSlots::new(limits.imports),
        writes: FairSlots::new(store::QUEUED_WRITES),
    };
    InventoryServiceServer::new(inventory).max_decoding_message_size(limits.message_bytes)
}

struct Inventory {
    store: Store,
    limits: InventoryLimits,
    imports: FairSlots,
    writes: FairSlots,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl InventoryService for Inventory {
    async fn get_item(
        &self,
        request: Request<GetItemRequest>,
    ) -> Result<Response<GetItemResponse>, Status> {
        let GetItemRequest { sku } = request.into_inner();
        let item = self.existing(request::sku(sku)?).await?;
        Ok(Response::new(GetItemResponse {
            item: Some(item.into()),
        }))
    }

    async fn reserve_stock(
        &self,
        request: Request<ReserveStockRequest>,
    ) -> Result<Response<ReserveStockResponse>, Status> {
        let reserving = self.reserving(&request)?;
        let ReserveStockRequest {
            reservation_id,
            sku,
            quantity,
        } = request.into_inner();
        let wanted = request::reservation(&reservation_id, sku, quantity)?;
        let made = reserving.one(wanted).await?;
        Ok(Response::new(ReserveStockResponse {
            reservation: Some(made.into()),
        }))
    }

    type WatchStockStream = Answers<WatchStockResponse>;

    async fn watch_stock(
        &self,
        request: Request<WatchStockRequest>,
    ) -> Result<Response<Self::WatchStockStream>, Status> {
        let WatchStockRequest { sku } = request.into_inner();
        let only = request::watched_sku(sku)?;
        if let Some(sku) = &only {
            self.existing(sku.clone()).await?;
        }
        let watch = self.store.watch(only).map_err(InventoryError::from)?;
        let levels = stream::try_unfold(watch, |mut watch| async move {
            let level = watch.next().await.map_err(InventoryError::from)?;
            Ok(Some((level.into(), watch)))
        });
        Ok(Response::new(Box::pin(levels)))
    }

    async fn import_items(
        &self,
        request: Request<Streaming<ImportItemsRequest>>,
    ) -> Result<Response<ImportItemsResponse>, Status> {
        let slot = self.imports.take(&caller(&request)?);
        let slot = slot.ok_or(InventoryError::ImportsBusy)?;
        let limit = self.limits.import_time;
        let items = timeout(limit, self.received(request.into_inner()))
            .await
            .map_err(|_elapsed| InventoryError::ImportTooSlow { limit })??;
        let store::Imported {
            created,
            updated,
            unchanged,
        } = self
            .store
            .import_within(Some(slot), items)
            .await
            .map_err(InventoryError::from)?;
        Ok(Response::new(ImportItemsResponse {
            created,
            updated,
            unchanged,
        }))
    }

    type ReserveManyStream = Answers<ReserveManyResponse>;

    async fn reserve_many(
        &self,
        request: Request<Streaming<ReserveManyRequest>>,
    ) -> Result<Response<Self::ReserveManyStream>, Status> {
        let reserving = self.reserving(&request)?;
        let answers = request
            .into_inner()
            .map(move |request| {
                let reserving = reserving.clone();
                async move { Ok(reserving.one_of_many(request?).await) }
            })
            .buffered(self.limits.reserve_many_ahead);
        Ok(Response::new(Box::pin(answers)))
    }
}

impl Inventory {
    fn reserving<T>(&self, request: &Request<T>) -> Result<Reserving, Status> {
        Ok(Reserving {
            store: self.store.clone(),
            writes: self.writes.clone(),
            caller: caller(request)?,
        })
    }

    async fn existing(&self, sku: String) -> Result<store::Item, InventoryError> {
        self.store
            .item(&sku)
            .await?
            .ok_or(InventoryError::SkuUnknown { sku })
    }

    async fn received(
        &self,
        mut requests: Streaming<ImportItemsRequest>,
    ) -> Result<Vec<store::NewItem>, Status> {
        let mut import = Import::new(self.limits.import_items);
        while let Some(request) = requests.message().await? {
            import.add(request)?;
        }
        Ok(import.finish()?)
    }
}

/// The principal that the caller proved, by which its reservations are kept apart from those of others.
fn caller<T>(request: &Request<T>) -> Result<Arc<str>, Status> {
    // As text, because data files have it so: no two names of different kinds are one.
    Ok(peer(request)?.principal().to_string().into())
}

/// Makes reservations for one caller, no more at once than its share of the queue of writes.
#[derive(Clone)]
struct Reserving {
    store: Store,
    writes: FairSlots,
    caller: Arc<str>,
}

impl Reserving {
    async fn one(&self, wanted: NewReservation) -> Result<store::Reservation, InventoryError> {
        let slot = self.writes.take(&self.caller);
        let slot = slot.ok_or(InventoryError::StoreBusy)?;
        self.store
            .reserve_within(Some(slot), &self.caller, wanted.clone())
            .await
            .map_err(|error| InventoryError::of_reservation(error, &wanted))
    }

    async fn one_of_many(&self, request: ReserveManyRequest) -> ReserveManyResponse {
        let ReserveManyRequest {
            reservation_id,
            sku,
            quantity,
        } = request;
        let made = match request::reservation(&reservation_id, sku, quantity) {
            Ok(wanted) => self.one(wanted).await,
            Err(refusal) => Err(refusal),
        };
        ReserveManyResponse {
            reservation_id,
            result: Some(match made {
                Ok(made) => ReserveManyResult::Reservation(made.into()),
                Err(refusal) => ReserveManyResult::Failure(refusal.into()),
            }),
        }
    }
}

impl From<store::Item> for Item {
    fn from(item: store::Item) -> Self {
        let available = item.available();
        let store::Item {
            sku,
            name,
            quantity,
            reserved,
        } = item;
        Self {
            sku,
            name,
            quantity,
            reserved,
            available,
        }
    }
}

impl From<store::Reservation> for Reservation {
    fn from(made: store::Reservation) -> Self {
        let store::Reservation {
            id,
            sku,
            quantity,
            available,
        } = made;
        Self {
            reservation_id: id.to_string(),
            sku,
            quantity,
            available,
        }
    }
}

impl From<Level> for WatchStockResponse {
    fn from(level: Level) -> Self {
        let (kind, item) = match level {
            Level::Current(item) => (UpdateKind::Current, item),
            Level::Changed(item) => (UpdateKind::Changed, item),
        };
        Self {
            kind: kind.into(),
            item: Some(item.into()),
        }
    }
}
