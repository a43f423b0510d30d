//! What the demo says: each step before it is taken, because it takes a while, and the sum at the end.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use countersign::program::{exit, tool};

use super::spec::Spec;

/// What is said, and what it comes to.
pub(super) struct Report<'a> {
    pub(super) out: &'a mut dyn Write,
    in_colour: bool,
    began: Instant,
    done: usize,
    all: usize,
    /// What was not as expected.
    pub(super) surprises: Vec<String>,
    pub(super) allowed: usize,
    pub(super) denied: usize,
    pub(super) refused: usize,
    pub(super) calls_in_rotation: u64,
    pub(super) revoked_after: Option<Duration>,
}

impl<'a> Report<'a> {
    /// Of so many steps, in colour on a terminal, unless <https://no-color.org> asks for none.
    pub(super) fn new(steps: usize, out: &'a mut dyn Write) -> Self {
        let in_colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            out,
            in_colour: in_colour && io::stdout().is_terminal(),
            began: Instant::now(),
            done: 0,
            all: steps,
            surprises: Vec::new(),
            allowed: 0,
            denied: 0,
            refused: 0,
            calls_in_rotation: 0,
            revoked_after: None,
        }
    }

    /// What begins and ends a coloured text.
    pub(super) fn paint(&self, colour: &'static str) -> (&'static str, &'static str) {
        match self.in_colour {
            true => (colour, "\x1b[0m"),
            false => ("", ""),
        }
    }

    pub(super) fn begin(&mut self, what: &str, why: &str) -> io::Result<()> {
        self.done += 1;
        let (bold, plain) = self.paint("\x1b[1m");
        let (done, all) = (self.done, self.all);
        let elapsed = self.began.elapsed().as_secs_f64();
        writeln!(
            self.out,
            "\n{bold}[{done}/{all}] {what}{plain} ({elapsed:.1} s)"
        )?;
        self.say(why)
    }

    pub(super) fn say(&mut self, what: &str) -> io::Result<()> {
        writeln!(self.out, "  {what}")?;
        self.out.flush()
    }

    /// A step that could not be taken is one more surprise, so that those before it are shown too.
    pub(super) fn or_surprise(&mut self, step: Result<()>) {
        self.surprises
            .extend(step.err().map(|error| format!("{error:#}")));
    }

    /// Whether all of it was as expected.
    pub(super) fn sum_up(self, spec: &Spec) -> Result<ExitCode> {
        for surprise in &self.surprises {
            writeln!(self.out, "SURPRISE: {surprise}")?;
        }
        if !self.surprises.is_empty() {
            return Ok(exit::FAILED.into());
        }
        let (allowed, denied, refused) = (self.allowed, self.denied, self.refused);
        let (all, calls) = (allowed + denied + refused, self.calls_in_rotation);
        let took = self.began.elapsed();
        writeln!(
            self.out,
            "
All of it was as expected, in {took:.0?}:
  {all} calls: {allowed} answered, {denied} denied by the policy, {refused} refused for the certificate
  {calls} calls during the rotation, none failed"
        )?;
        if let Some(took) = self.revoked_after {
            writeln!(
                self.out,
                "  a revoked caller's stream ended after {took:.1?}"
            )?;
        }
        let (tool, policy) = (tool(), spec.policy());
        writeln!(
            self.out,
            "
Next:
  edit {}, and run this again: the table follows the policy
  `{tool} pki init` makes certificates for running the programs by hand; README.md has the commands
  `{tool} new NAME` makes a service of your own, with its own demo",
            policy.display()
        )?;
        Ok(exit::OK)
    }
}
