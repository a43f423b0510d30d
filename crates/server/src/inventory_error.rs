//! Every error that this service returns: its code, reason, details and message.
//!
//! An error tells the caller only about its own request: no path, no cause of a failure, no other caller's data.

use std::collections::HashMap;
use std::time::Duration;

use proto::inventory::v1::ReservationFailure;
use thiserror::Error;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt};
use uuid::Uuid;

use crate::codes;
use crate::store::{ImportError, NewReservation, ReserveError, StoreError};

/// The domain of every `google.rpc.ErrorInfo` of this service.
pub const ERROR_DOMAIN: &str = "inventory.countersign";

/// How long a caller should wait after a full queue: this, and up to as long again, so that not all retry at once.
const RETRY_DELAY: Duration = Duration::from_millis(500);

#[derive(Clone, Debug, Error)]
pub(crate) enum InventoryError {
    #[error("the request is invalid: {}", summary(.0))]
    FieldsInvalid(Vec<FieldViolation>),
    #[error("there is no item {sku}")]
    SkuUnknown { sku: String },
    #[error("{requested} units of {sku} were requested, but only {available} are available")]
    InsufficientStock {
        sku: String,
        requested: u32,
        available: u32,
    },
    #[error("reservation_id {id} was used for another item or quantity")]
    ReservationIdReused { id: Uuid },
    #[error("{sku} cannot have {quantity} units: {reserved} are reserved")]
    QuantityBelowReserved {
        sku: String,
        quantity: u32,
        reserved: u32,
    },
    #[error("an import has at most {max_items} items: split this one")]
    ImportTooLarge { max_items: usize },
    #[error("the items did not arrive within {} s", .limit.as_secs())]
    ImportTooSlow { limit: Duration },
    #[error("too many imports are in progress")]
    ImportsBusy,
    #[error("too many operations are waiting")]
    StoreBusy,
    #[error("the data is temporarily unavailable")]
    StoreUnavailable,
    #[error("the data could not be read or written")]
    StoreFailed,
}

impl InventoryError {
    pub(crate) fn of_reservation(error: ReserveError, wanted: &NewReservation) -> Self {
        match error {
            ReserveError::SkuUnknown => Self::SkuUnknown {
                sku: wanted.sku.clone(),
            },
            ReserveError::InsufficientStock { available } => Self::InsufficientStock {
                sku: wanted.sku.clone(),
                requested: wanted.quantity,
                available,
            },
            ReserveError::IdReused => Self::ReservationIdReused { id: wanted.id },
            ReserveError::Store(error) => error.into(),
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::FieldsInvalid(_) => Code::InvalidArgument,
            Self::SkuUnknown { .. } => Code::NotFound,
            Self::InsufficientStock { .. } | Self::QuantityBelowReserved { .. } => {
                Code::FailedPrecondition
            }
            Self::ReservationIdReused { .. } => Code::AlreadyExists,
            Self::ImportTooLarge { .. } | Self::ImportsBusy | Self::StoreBusy => {
                Code::ResourceExhausted
            }
            Self::ImportTooSlow { .. } => Code::DeadlineExceeded,
            Self::StoreUnavailable => Code::Unavailable,
            Self::StoreFailed => Code::Internal,
        }
    }

    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::FieldsInvalid(_) => codes::FIELDS_INVALID,
            Self::SkuUnknown { .. } => codes::SKU_UNKNOWN,
            Self::InsufficientStock { .. } => codes::INSUFFICIENT_STOCK,
            Self::ReservationIdReused { .. } => codes::RESERVATION_ID_REUSED,
            Self::QuantityBelowReserved { .. } => codes::QUANTITY_BELOW_RESERVED,
            Self::ImportTooLarge { .. } => codes::IMPORT_TOO_LARGE,
            Self::ImportTooSlow { .. } => codes::IMPORT_TOO_SLOW,
            Self::ImportsBusy => codes::IMPORTS_BUSY,
            Self::StoreBusy => codes::STORE_BUSY,
            Self::StoreUnavailable => codes::STORE_UNAVAILABLE,
            Self::StoreFailed => codes::STORE_FAILED,
        }
    }

    fn metadata(&self) -> HashMap<String, String> {
        let pairs: Vec<(&str, String)> = match self {
            Self::SkuUnknown { sku } => vec![("sku", sku.clone())],
            Self::InsufficientStock {
                sku,
                requested,
                available,
            } => vec![
                ("sku", sku.clone()),
                ("requested", requested.to_string()),
                ("available", available.to_string()),
            ],
            Self::ReservationIdReused { id } => vec![("reservation_id", id.to_string())],
            Self::QuantityBelowReserved {
                sku,
                quantity,
                reserved,
            } => vec![
                ("sku", sku.clone()),
                ("quantity", quantity.to_string()),
                ("reserved", reserved.to_string()),
            ],
            Self::ImportTooLarge { max_items } => vec![("max_items", max_items.to_string())],
            Self::FieldsInvalid(_)
            | Self::ImportTooSlow { .. }
            | Self::ImportsBusy
            | Self::StoreBusy
            | Self::StoreUnavailable
            | Self::StoreFailed => Vec::new(),
        };
        pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }
}

impl From<InventoryError> for Status {
    fn from(refusal: InventoryError) -> Self {
        let mut details =
            ErrorDetails::with_error_info(refusal.reason(), ERROR_DOMAIN, refusal.metadata());
        match &refusal {
            InventoryError::FieldsInvalid(violations) => {
                details.set_bad_request(violations.clone());
            }
            InventoryError::ImportsBusy | InventoryError::StoreBusy => {
                let jitter = RETRY_DELAY.mul_f64(fastrand::f64());
                details.set_retry_info(Some(RETRY_DELAY + jitter));
            }
            _ => {}
        }
        Self::with_error_details(refusal.code(), refusal.to_string(), details)
    }
}

impl From<InventoryError> for ReservationFailure {
    fn from(refusal: InventoryError) -> Self {
        Self {
            code: refusal.code().into(),
            reason: refusal.reason().to_owned(),
            message: refusal.to_string(),
            metadata: refusal.metadata(),
        }
    }
}

impl From<StoreError> for InventoryError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => Self::StoreBusy,
            StoreError::Unavailable => Self::StoreUnavailable,
            StoreError::Failed => Self::StoreFailed,
        }
    }
}

impl From<ImportError> for InventoryError {
    fn from(error: ImportError) -> Self {
        match error {
            ImportError::BelowReserved {
                sku,
                quantity,
                reserved,
            } => Self::QuantityBelowReserved {
                sku,
                quantity,
                reserved,
            },
            ImportError::Store(error) => error.into(),
        }
    }
}

fn summary(violations: &[FieldViolation]) -> String {
    let each: Vec<String> = violations
        .iter()
        .map(|violation| format!("{} {}", violation.field, violation.description))
        .collect();
    each.join("; ")
}
