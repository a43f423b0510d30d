//! Items and reservations for tests of the store.

use server::store::{Item, NewItem, NewReservation};
use uuid::Uuid;

/// An item to import.
pub(crate) fn item(sku: &str, quantity: u32) -> NewItem {
    NewItem {
        sku: sku.to_owned(),
        name: format!("One {sku}"),
        quantity,
    }
}

/// That item as it is read.
pub(crate) fn level(sku: &str, quantity: u32, reserved: u32) -> Item {
    let NewItem {
        sku,
        name,
        quantity,
    } = item(sku, quantity);
    Item {
        sku,
        name,
        quantity,
        reserved,
    }
}

/// A reservation with this number as its id.
pub(crate) fn reservation(id: u128, sku: &str, quantity: u32) -> NewReservation {
    NewReservation {
        id: Uuid::from_u128(id),
        sku: sku.to_owned(),
        quantity,
    }
}
