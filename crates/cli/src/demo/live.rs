//! What happens to connections that are open: a rotation that loses no call, and a revocation that ends one caller's.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use super::programs::{Finished, Programs, ServerProcess};
use super::report::Report;
use super::spec::{CallAs, RevocationSpec};

const ROTATIONS: usize = 3;
const BETWEEN: Duration = Duration::from_millis(700);

/// Renews the certificates of the server and of a caller while it calls, and counts what fails.
pub(super) async fn rotate(
    programs: &Programs<'_>,
    server: &mut ServerProcess,
    report: &mut Report<'_>,
) -> Result<()> {
    let CallAs {
        identity,
        arguments,
    } = &programs.spec.rotation;
    let own = &programs.spec.server.identity;
    let worker = programs.start_client(server, identity, arguments)?;
    for turn in 1..=ROTATIONS {
        tokio::time::sleep(BETWEEN).await;
        programs.pki(&["renew", own, identity]).await?;
        server
            .wait_for(|line| line["message"] == "credentials in use")
            .await?;
        report.say(&format!(
            "rotation {turn} of {ROTATIONS}: the server uses its new certificate"
        ))?;
    }
    report.say("waiting for the caller to end and to count")?;
    let done = worker.end().await?;
    let summary: Value = done
        .stdout
        .lines()
        .next_back()
        .and_then(|line| serde_json::from_str(line).ok())
        .unwrap_or_default();
    let (calls, ok) = (summary["calls"].as_u64(), summary["ok"].as_u64());
    let (Some(calls), Some(ok)) = (calls, ok) else {
        bail!(
            "the client's last line is {summary}, and not {{\"calls\": N, \"ok\": N}}: {}",
            done.stderr.trim()
        );
    };
    let failed = calls.saturating_sub(ok);
    report.calls_in_rotation = calls;
    report.say(&format!(
        "{calls} calls while both certificates changed {ROTATIONS} times: {failed} failed"
    ))?;
    ensure!(
        calls == ok && calls != 0,
        "calls failed during the rotation: {summary} {}",
        done.stderr.lines().next_back().unwrap_or_default()
    );
    Ok(())
}

/// Revokes one caller while it and another have a stream open, and looks at whose stream ends.
pub(super) async fn revoke(
    programs: &Programs<'_>,
    server: &ServerProcess,
    revocation: &RevocationSpec,
    report: &mut Report<'_>,
) -> Result<()> {
    let RevocationSpec {
        identity,
        witness,
        stream,
        change,
    } = revocation;
    let open = async |name: &String| {
        let mut client = programs.start_client(server, name, stream)?;
        if client.line().await?.is_some() {
            return Ok(client);
        }
        let Finished { code, stderr, .. } = client.end().await?;
        let code = code.map_or_else(String::new, |code| format!(" with exit code {code}"));
        bail!(
            "the stream of {name} ended by itself{code} and without a message; the demo needs one that stays open: {}",
            stderr.trim()
        )
    };
    let revoked = open(identity).await?;
    let mut other = open(witness).await?.follow();

    let began = Instant::now();
    programs.pki(&["revoke", identity]).await?;
    let ended = revoked.end().await?;
    let took = began.elapsed();
    report.revoked_after = Some(took);
    let error = ended.error().unwrap_or_default();
    let reason = error["reason"].as_str().unwrap_or("no reason");
    report.say(&format!(
        "the stream of {identity} ended {took:.1?} after the command began: {reason}"
    ))?;
    if ended.code != Some(77) || reason != "CERTIFICATE_REVOKED" {
        report.surprises.push(format!(
            "{identity}'s stream ended otherwise: {}",
            ended.stderr.trim()
        ));
    }

    let credentials = programs.certs.join(identity);
    let again = programs.client(server, &credentials, stream).await?;
    let error = again.error().unwrap_or_default();
    let reason = error["reason"].as_str().unwrap_or("answered");
    report.say(&format!("the next call of {identity}: {reason}"))?;
    if again.code != Some(77) || reason != "REFUSED_BY_PEER" {
        report.surprises.push(format!("{identity} can still call"));
    }

    other.forget();
    if let Some(change) = change {
        programs.must_answer(server, change).await?;
    }
    if other.goes_on().await {
        report.say(&format!(
            "the stream of {witness} continues: it received its next message"
        ))?;
    } else {
        report.surprises.push(format!(
            "{witness} lost its stream too, or nothing gave it another message; see `change`"
        ));
    }
    Ok(())
}
