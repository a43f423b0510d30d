//! A wall clock that is set while connections are open: what they rest on is looked at again, whatever the sleeps say.
//!
//! libfaketime sets the clock of the server's process alone; without it this is skipped.

use std::fs;
use std::path::Path;
use std::time::Duration;

use identity::Role;
use tokio::time::timeout;
use tonic_types::StatusExt;

use crate::authority::{end, watch};
use crate::scrape::get;
use crate::world::{Pki, Server, channel, command, eventually, skipped};

const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn streams_end_and_the_server_is_not_ready_when_the_clock_leaves_the_validity_of_a_certificate()
 {
    if !Path::new(LIBRARY).exists() {
        return skipped("libfaketime: a clock that is set while connections are open");
    }
    for (set, why) in [
        ("+2d", "CERTIFICATE_EXPIRED"),
        ("-2d", "CERTIFICATE_NOT_YET_VALID"),
    ] {
        let pki = Pki::new();
        let clock = pki.dir.path().join("clock");
        fs::write(&clock, "+0").unwrap();
        let mut program = command("echo-server");
        program
            .env("LD_PRELOAD", LIBRARY)
            .env("FAKETIME_TIMESTAMP_FILE", &clock)
            .env("FAKETIME_CACHE_DURATION", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
        let server = Server::start_as(program, &pki, &[]);
        let levels = watch(&channel(pki.trust("orders", Role::Client), server.address)).await;
        assert!(get(server.admin, "/readyz").0.contains("200"));

        fs::write(&clock, set).unwrap();
        let status = timeout(PATIENCE, end(levels)).await.unwrap();
        let reason = status.get_details_error_info().unwrap().reason;
        assert_eq!(reason, why, "{set}: {status}");
        eventually("the server is not ready", || {
            let (head, _body) = get(server.admin, "/readyz");
            head.contains("503").then_some(())
        });
    }
}
