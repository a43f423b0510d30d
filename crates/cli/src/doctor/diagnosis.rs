//! What the doctor found: one cause, one remedy, one command that shows the same.

use std::io::{self, Write};

use serde::Serialize;

use crate::catalogue;
use crate::codes::HEALTHY;
use crate::text::Printable;

/// What was found. As JSON its fields are stable.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Diagnosis {
    /// A code of docs/errors.md, or a gRPC code when the server gave no reason.
    pub(super) code: String,
    /// Where the fault is.
    pub(super) whose: Whose,
    /// What is wrong, with names and times.
    pub(super) cause: String,
    /// What to do.
    pub(super) remedy: String,
    /// The `openssl` command that shows the same.
    pub(super) openssl: String,
}

/// Where a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Whose {
    /// There is none.
    Nobodys,
    /// In our files, or in what they say of us.
    Ours,
    /// At the server, or in what it says of itself.
    TheServers,
    /// Between the two: no connection, or clocks that differ.
    Between,
    /// In the policy, or in what is asked of it.
    ThePolicys,
}

impl Diagnosis {
    pub(super) fn new(
        code: impl Into<String>,
        whose: Whose,
        cause: impl Into<String>,
        openssl: String,
    ) -> Self {
        let code = code.into();
        let remedy = catalogue::remedy(&code)
            .unwrap_or("the server's log has the cause")
            .to_owned();
        Self {
            code,
            whose,
            cause: cause.into(),
            remedy,
            openssl,
        }
    }

    /// Whether nothing is wrong.
    pub(super) fn is_healthy(&self) -> bool {
        self.code == HEALTHY
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self {
            code,
            whose: _,
            cause,
            remedy,
            openssl,
        } = self;
        writeln!(out, "{}: {}", Printable(code), Printable(cause))?;
        writeln!(out, "  remedy   {}", Printable(remedy))?;
        writeln!(out, "  see      {}", Printable(openssl))
    }
}
