//! What can go wrong with a database, and whether waiting may help.

use std::error::Error as _;
use std::io;

use countersign::mtls;
use countersign::mtls::rustls;
use thiserror::Error;

/// Why a connection failed or ended, or why a statement got no response.
#[derive(Debug, Error)]
pub(crate) enum DatabaseFault {
    #[error("there is no connection")]
    Away,
    #[error("no answer in time")]
    TimedOut,
    #[error("our certificate would be refused")]
    OurCertificate(#[source] mtls::Refusal),
    #[error("the response does not match this program's schema")]
    Meaningless,
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error(transparent)]
    Database(#[from] tokio_postgres::Error),
}

impl DatabaseFault {
    pub(crate) fn of_migration(to: i32, source: tokio_postgres::Error) -> Self {
        if may_pass(&source) {
            return Self::Database(source);
        }
        Unfit::Migration { to, source }.into()
    }

    /// Whether waiting may help, because nothing has to be changed.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Away | Self::TimedOut => true,
            Self::OurCertificate(_) | Self::Meaningless | Self::Unfit(_) => false,
            Self::Database(error) => may_pass(error),
        }
    }

    /// The reason under which it is counted.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Away => "AWAY",
            Self::TimedOut => "TIMED_OUT",
            Self::OurCertificate(_) | Self::Meaningless | Self::Unfit(_) => "UNFIT",
            Self::Database(error) if error.code().is_some() => "REFUSED",
            Self::Database(_) => "LOST",
        }
    }
}

fn may_pass(error: &tokio_postgres::Error) -> bool {
    if let Some(code) = error.code() {
        // Connection exceptions, too few resources, and an operator's intervention such as a restart.
        return ["08", "53", "57"].contains(&&code.code()[..2]);
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            let inner = io.get_ref();
            return !inner.is_some_and(|inner| inner.is::<rustls::Error>());
        }
        source = cause.source();
    }
    error.is_closed()
}

/// Why a database must not be used.
#[derive(Debug, Error)]
pub(crate) enum Unfit {
    #[error("it has fsync off, and so acknowledges what is not on disk: turn it on")]
    NotDurable,
    #[error("its encoding is {0}: make a database with the encoding UTF8")]
    Encoding(String),
    #[error("the role {role} lacks {lacking}: grant it")]
    Lacks { role: String, lacking: String },
    #[error(
        "it has schema {found} and this program knows schema {known}: run a version as new as the one that changed it"
    )]
    Newer { found: i32, known: i32 },
    #[error(
        "cannot migrate it to schema {to}; if the role lacks a permission, the owner of the database can run the file with that number in crates/server/migrations"
    )]
    Migration {
        to: i32,
        source: tokio_postgres::Error,
    },
}
