//! The calls that this client makes.

/// The calls that this client makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Reads one item.
    GetItem,
    /// Reserves units of one item.
    ReserveStock,
    /// Streams levels and their changes.
    WatchStock,
    /// Creates or sets items.
    ImportItems,
    /// Makes many reservations over one stream.
    ReserveMany,
    /// Asks whether a service is serving.
    HealthCheck,
}

impl Method {
    /// All of them.
    pub(crate) const ALL: [Self; 6] = [
        Self::GetItem,
        Self::ReserveStock,
        Self::WatchStock,
        Self::ImportItems,
        Self::ReserveMany,
        Self::HealthCheck,
    ];

    /// The path by which policies name it.
    pub fn path(self) -> &'static str {
        match self {
            Self::GetItem => "/inventory.v1.InventoryService/GetItem",
            Self::ReserveStock => "/inventory.v1.InventoryService/ReserveStock",
            Self::WatchStock => "/inventory.v1.InventoryService/WatchStock",
            Self::ImportItems => "/inventory.v1.InventoryService/ImportItems",
            Self::ReserveMany => "/inventory.v1.InventoryService/ReserveMany",
            Self::HealthCheck => "/grpc.health.v1.Health/Check",
        }
    }

    /// Its name without that of its service.
    pub fn name(self) -> &'static str {
        let path = self.path();
        path.rsplit_once('/').map_or(path, |(_service, name)| name)
    }

    /// The call with this path.
    pub(crate) fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.path() == path)
    }
}
