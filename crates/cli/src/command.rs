//! The command line of the tool.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{cert, demo, doctor, new, pki, policy};
use countersign::program::{exit, tool};

/// Create, show and check certificates and policies for mutual TLS.
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
    let Countersign { command } =
        countersign::program::parse_with(|command| command.bin_name(tool()));
    let mut out = io::stdout().lock();
    let done = match command {
        Command::Pki(pki) => pki::command::run(pki, &mut out),
        Command::Cert(cert) => cert::run(cert, &mut out),
        Command::Policy(policy) => policy::run(policy, &mut out),
        Command::Demo(demo) => demo::run(&demo, &mut out),
        Command::New(new) => new::run(&new, &mut out),
        Command::Doctor(doctor) => doctor::run(&doctor, &mut out),
    };
    done.unwrap_or_else(
        |error| match error.root_cause().downcast_ref::<io::Error>() {
            // The reader has seen enough, as `head` has.
            Some(closed) if closed.kind() == io::ErrorKind::BrokenPipe => exit::OK,
            Some(_) | None => exit::with(exit::USAGE, &*error),
        },
    )
}
