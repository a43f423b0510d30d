//! What happens to connections that are open: a rotation that loses no call, and a revocation that ends one caller's.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::programs::{Programs, Server};
use super::table::PLENTY;
use super::{DemoError, Steps, Surprises};

const ROTATIONS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(700);

/// Renews the certificates of the server and of orders while orders calls, and counts what fails.
pub(super) async fn rotate(
    programs: &Programs,
    server: &mut Server,
    pki: &Path,
    steps: &mut Steps<'_, impl Write>,
) -> Result<Surprises, DemoError> {
    let run = ["--output", "json", "run", "--rate", "200", "--for", "4s"];
    let arguments = [&run[..], &["--sku", PLENTY]].concat();
    let worker = programs.start_client(server, &pki.join("orders"), &arguments)?;
    for _ in 0..ROTATIONS {
        tokio::time::sleep(BETWEEN).await;
        programs.pki(pki, &["renew", "inventory", "orders"]).await?;
        server
            .wait_for(|line| line["message"] == "credentials in use")
            .await?;
    }
    let done = worker.end().await?;
    let summary: Value = serde_json::from_str(done.stdout.trim()).map_err(super::data)?;
    let (calls, ok) = (summary["calls"].as_u64(), summary["ok"].as_u64());
    let (Some(calls), Some(ok)) = (calls, ok) else {
        return Err(DemoError::Program(format!(
            "the client's summary is {summary}"
        )));
    };
    steps.say(&format!(
        "{calls} calls in 4 s while both certificates changed {ROTATIONS} times: {} failed",
        calls - ok
    ))?;
    let mut surprises = Vec::new();
    if calls != ok || calls == 0 {
        surprises.push(format!("calls failed during the rotation: {summary}"));
    }
    Ok(surprises)
}

/// Revokes auditor while auditor and orders watch, and looks at whose stream ends.
pub(super) async fn revoke(
    programs: &Programs,
    server: &mut Server,
    pki: &Path,
    steps: &mut Steps<'_, impl Write>,
) -> Result<Surprises, DemoError> {
    let watch = ["--output", "json", "watch", PLENTY];
    let mut auditor = programs.start_client(server, &pki.join("auditor"), &watch)?;
    let mut orders = programs.start_client(server, &pki.join("orders"), &watch)?;
    for stream in [&mut auditor, &mut orders] {
        if stream.line().await?.is_none() {
            return Err(DemoError::Program("a watch ended by itself".to_owned()));
        }
    }

    let began = Instant::now();
    programs.pki(pki, &["revoke", "auditor"]).await?;
    let mut surprises = Vec::new();
    let ended = auditor.end().await?;
    let took = began.elapsed();
    let error = ended.error().unwrap_or_default();
    let reason = error["reason"].as_str().unwrap_or("no reason");
    steps.say(&format!(
        "auditor's stream ended {took:.1?} after the command began: {reason}"
    ))?;
    if ended.code != Some(77) || reason != "CERTIFICATE_REVOKED" {
        surprises.push(format!(
            "auditor's stream ended otherwise: {}",
            ended.stderr.trim()
        ));
    }

    let again = programs
        .client(
            server,
            &pki.join("auditor"),
            &["--output", "json", "get-item", PLENTY],
        )
        .await?;
    let error = again.error().unwrap_or_default();
    steps.say(&format!(
        "auditor's next call: {}",
        error["message"].as_str().unwrap_or("answered")
    ))?;
    if again.code != Some(77) || error["reason"] != "REFUSED_BY_PEER" {
        surprises.push("auditor can still call".to_owned());
    }

    let reserved = programs
        .client(server, &pki.join("orders"), &["reserve", PLENTY, "1"])
        .await?;
    let change = orders.line().await?;
    if reserved.code != Some(0) || change.is_none() || orders.has_ended()? {
        surprises.push("orders lost its stream too".to_owned());
    } else {
        steps.say("orders' stream goes on, and has just shown the next change")?;
    }
    Ok(surprises)
}
