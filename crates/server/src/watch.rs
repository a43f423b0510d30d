//! The stream of one watcher: current levels first, then each change, and current levels again for changes it missed.
//!
//! A watcher never costs more than one page of items, however slowly it reads: changes wait in one ring that all
//! watchers share, and a watcher that falls behind it lists the items again. It never sees a level older than one it saw.

use std::vec;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::stock::{Change, Event, Item, ItemPage, StoreError};
use crate::store::Store;

/// Items read at a time.
const PAGE_ITEMS: usize = 256;

/// A level, and why it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// The level as it is, at the start or after changes that were missed.
    Current(Item),
    /// The level after one change.
    Changed(Item),
}

/// The levels of one item or of all, as they change.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    only: Option<String>,
    changes: broadcast::Receiver<Event>,
    listing: Listing,
    /// Items that were read and not yet sent.
    page: vec::IntoIter<Item>,
    /// Which revision was read of which items, to tell the changes after it from those before.
    listed: Vec<Listed>,
}

#[derive(Debug)]
enum Listing {
    /// The items after this SKU are still to be listed.
    After(String),
    Done,
}

#[derive(Debug)]
struct Listed {
    /// The last SKU of the page, or `None` for all that come after the pages before.
    up_to: Option<String>,
    revision: u64,
}

impl Store {
    /// The current levels of one item or of all, then their changes.
    ///
    /// # Errors
    /// [`StoreError::Failed`].
    pub fn watch(&self, only: Option<String>) -> Result<Watch, StoreError> {
        let changes = self.changes().ok_or(StoreError::Failed)?;
        Ok(Watch::new(self.clone(), only, changes))
    }
}

impl Watch {
    fn new(store: Store, only: Option<String>, changes: broadcast::Receiver<Event>) -> Self {
        Self {
            store,
            only,
            changes,
            listing: Listing::After(String::new()),
            page: Vec::new().into_iter(),
            listed: Vec::new(),
        }
    }

    /// The next level; waits until there is one.
    ///
    /// # Errors
    /// [`StoreError`], when the data cannot be read, or can no longer be written.
    pub async fn next(&mut self) -> Result<Level, StoreError> {
        loop {
            if let Some(item) = self.page.next() {
                return Ok(Level::Current(item));
            }
            if let Listing::After(after) = &self.listing {
                let after = after.clone();
                self.list(after).await?;
                continue;
            }
            match self.changes.recv().await {
                Ok(Event::Changed(change)) => {
                    if self.is_news(&change) {
                        return Ok(Level::Changed(change.item.clone()));
                    }
                }
                Ok(Event::Missed) | Err(RecvError::Lagged(_)) => self.start_over(),
                Err(RecvError::Closed) => return Err(StoreError::Failed),
            }
        }
    }

    async fn list(&mut self, after: String) -> Result<(), StoreError> {
        let ItemPage { revision, items } = match &self.only {
            Some(sku) => self.store.page_of(sku).await?,
            None => self.store.page(after, PAGE_ITEMS).await?,
        };
        let up_to = match (&self.only, items.last()) {
            (None, Some(last)) if items.len() == PAGE_ITEMS => Some(last.sku.clone()),
            (None | Some(_), Some(_) | None) => None,
        };
        self.listing = up_to.clone().map_or(Listing::Done, Listing::After);
        self.listed.push(Listed { up_to, revision });
        self.page = items.into_iter();
        Ok(())
    }

    fn is_news(&mut self, change: &Change) -> bool {
        let sku = &change.item.sku;
        if self.only.as_ref().is_some_and(|only| only != sku) {
            return false;
        }
        // Revisions only grow, from page to page and from change to change.
        if self
            .listed
            .last()
            .is_some_and(|last| change.revision > last.revision)
        {
            self.listed.clear();
        }
        let page = self
            .listed
            .partition_point(|page| page.up_to.as_ref().is_some_and(|up_to| up_to < sku));
        self.listed
            .get(page)
            .is_none_or(|page| change.revision > page.revision)
    }

    /// A listing is finished before changes are looked at again, so that even the slowest watcher sees every item.
    fn start_over(&mut self) {
        self.changes = self.changes.resubscribe();
        self.listing = Listing::After(String::new());
        self.listed.clear();
    }
}
