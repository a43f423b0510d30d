//! The command line of the tool.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{cert, demo, doctor, new, pki, policy};

/// Certificates and policies for mutual TLS: makes them, shows them, and tries them out.
#[derive(Debug, Parser)]
#[command(name = "countersign", version)]
struct Countersign {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Pki(pki::command::Pki),
    Cert(cert::Cert),
    Policy(policy::PolicyCommand),
    Demo(demo::Demo),
    New(new::New),
    Doctor(doctor::Doctor),
}

/// Does what the command line says: the whole of the tool's `main`.
pub fn main() -> ExitCode {
    let Countersign { command } = countersign::program::parse();
    let mut out = io::stdout().lock();
    let done: Result<ExitCode, anyhow::Error> = match command {
        Command::Pki(pki) => pki::command::run(pki, &mut out).map_err(Into::into),
        Command::Cert(cert) => cert::run(cert, &mut out).map_err(Into::into),
        Command::Policy(policy) => policy::run(policy, &mut out).map_err(Into::into),
        Command::Demo(demo) => demo::run(&demo, &mut out).map_err(Into::into),
        Command::New(new) => new::run(&new, &mut out).map_err(Into::into),
        Command::Doctor(doctor) => doctor::run(doctor, &mut out).map_err(Into::into),
    };
    done.unwrap_or_else(
        |error| match error.root_cause().downcast_ref::<io::Error>() {
            // The reader has seen enough, as `head` has.
            Some(closed) if closed.kind() == io::ErrorKind::BrokenPipe => {
                countersign::program::exit::OK
            }
            Some(_) | None => {
                countersign::program::exit::with(countersign::program::exit::USAGE, &*error)
            }
        },
    )
}
