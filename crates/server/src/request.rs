//! Validates requests and converts them for the store. A refusal names every invalid field.
//!
//! Invalid input is never corrected.

use std::collections::BTreeMap;

use proto::inventory::v1::ImportItemsRequest;
use tonic_types::FieldViolation;
use uuid::Uuid;

use crate::inventory_error::InventoryError;
use crate::store::{NewItem, NewReservation};

const MAX_SKU_BYTES: usize = 64;
const MAX_NAME_CHARS: usize = 200;
const MAX_QUANTITY: u32 = 1_000_000_000;
const MAX_RESERVED_AT_ONCE: u32 = 1_000_000;
/// The length of the hyphenated form (RFC 9562 §4).
const UUID_CHARS: usize = 36;

pub(crate) fn sku(sku: String) -> Result<String, InventoryError> {
    let mut fields = FieldErrors::default();
    fields.sku("", &sku);
    fields.hold(sku)
}

/// An empty SKU asks for all items.
pub(crate) fn watched_sku(watched: String) -> Result<Option<String>, InventoryError> {
    if watched.is_empty() {
        return Ok(None);
    }
    sku(watched).map(Some)
}

pub(crate) fn reservation(
    id: &str,
    sku: String,
    quantity: u32,
) -> Result<NewReservation, InventoryError> {
    let mut fields = FieldErrors::default();
    let parsed = Uuid::try_parse(id).ok().filter(|_| id.len() == UUID_CHARS);
    fields.require(
        parsed.is_some(),
        "reservation_id",
        "must be a UUID of 36 characters, with hyphens",
    );
    fields.sku("", &sku);
    fields.require(
        (1..=MAX_RESERVED_AT_ONCE).contains(&quantity),
        "quantity",
        "must be 1 to 1,000,000",
    );
    fields.hold(NewReservation {
        id: parsed.unwrap_or_default(),
        sku,
        quantity,
    })
}

/// The items of one import, as they arrive.
#[derive(Debug)]
pub(crate) struct Import {
    max_items: usize,
    items: BTreeMap<String, NewItem>,
}

impl Import {
    pub(crate) fn new(max_items: usize) -> Self {
        Self {
            max_items,
            items: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, request: ImportItemsRequest) -> Result<(), InventoryError> {
        let ImportItemsRequest {
            sku,
            name,
            quantity,
        } = request;
        let position = self.items.len();
        if position >= self.max_items {
            return Err(InventoryError::ImportTooLarge {
                max_items: self.max_items,
            });
        }
        let item = format!("items[{position}].");
        let mut fields = FieldErrors::default();
        fields.sku(&item, &sku);
        fields.require(
            !self.items.contains_key(&sku),
            format!("{item}sku"),
            "must not come twice",
        );
        fields.require(
            is_name(&name),
            format!("{item}name"),
            "must be 1 to 200 characters, none of them a control character",
        );
        fields.require(
            quantity <= MAX_QUANTITY,
            format!("{item}quantity"),
            "must be 0 to 1,000,000,000",
        );
        let item = fields.hold(NewItem {
            sku,
            name,
            quantity,
        })?;
        self.items.insert(item.sku.clone(), item);
        Ok(())
    }

    pub(crate) fn finish(self) -> Result<Vec<NewItem>, InventoryError> {
        let mut fields = FieldErrors::default();
        fields.require(!self.items.is_empty(), "items", "must not be empty");
        fields.hold(self.items.into_values().collect())
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_CHARS).contains(&name.chars().take(MAX_NAME_CHARS + 1).count())
        && !name.chars().any(char::is_control)
}

/// What is wrong with a request, field by field.
#[derive(Default)]
struct FieldErrors {
    violations: Vec<FieldViolation>,
}

impl FieldErrors {
    fn sku(&mut self, within: &str, sku: &str) {
        self.require(
            (1..=MAX_SKU_BYTES).contains(&sku.len())
                && sku.bytes().all(|byte| byte.is_ascii_graphic()),
            format!("{within}sku"),
            "must be 1 to 64 visible ASCII characters",
        );
    }

    fn require(&mut self, holds: bool, field: impl Into<String>, description: &str) {
        if !holds {
            self.violations
                .push(FieldViolation::new(field, description));
        }
    }

    fn hold<T>(self, checked: T) -> Result<T, InventoryError> {
        if self.violations.is_empty() {
            Ok(checked)
        } else {
            Err(InventoryError::FieldsInvalid(self.violations))
        }
    }
}
