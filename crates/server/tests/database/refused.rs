//! A database that is refused at the start, with the reason.

use countersign::base::text::in_one_line;
use server::store::Store;

use crate::support::{Cluster, Pki};
use crate::{bolt, bolts, connect};

async fn refused(pki: &Pki, url: &str) -> String {
    match connect(pki, url).await {
        Ok(_) => panic!("{url}: was taken"),
        Err(error) => in_one_line(&error),
    }
}

#[tokio::test]
async fn a_url_that_asks_for_less_than_mutual_tls_is_refused() {
    for (url, why) in [
        (
            "postgres://inventory:secret@localhost/x",
            "it has a password",
        ),
        ("postgres://localhost/x", "it has no user"),
        ("postgres://inventory@/x", "it needs the name of a host"),
        (
            "postgres://inventory@%2Frun%2Fpostgresql/x",
            "it needs the name of a host",
        ),
        (
            "postgres://inventory@localhost/x?sslmode=disable",
            "it turns TLS off",
        ),
        (
            "postgres://inventory@localhost/x?colour=red",
            "unknown option `colour`",
        ),
    ] {
        let error = in_one_line(&url.parse::<server::store::Database>().unwrap_err());
        assert!(error.contains(why), "{url}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_trusted_is_refused_with_the_reason() {
    let pki = Pki::new();
    let Some(mut cluster) = Cluster::start(&pki) else {
        return;
    };
    let url = cluster.url(&cluster.create());
    connect(&pki, &url).await.unwrap();

    let others = Pki::new();
    let error = refused(&others, &url).await;
    assert!(
        error.contains("TLS handshake") && error.contains("UnknownIssuer"),
        "{error}"
    );

    // It does not know us: another authority, another name, a name without a role, a certificate for servers, a revoked
    // one.
    let both = [&others.root, &pki.root].map(|root| root.certificate_pem());
    others.put("inventory", "ca.crt", &both.concat());
    let error = refused(&others, &url).await;
    assert!(error.contains("fatal alert"), "{error}");
    let ours = pki.issue("inventory");
    pki.issue("stranger");
    let stranger = Store::connect(url.parse().unwrap(), pki.trust("stranger")).await;
    let error = in_one_line(&stranger.unwrap_err());
    assert!(
        error.contains("certificate authentication failed for user \"inventory\""),
        "{error}"
    );
    let nobody = url.replace("inventory@", "nobody@");
    let error = refused(&pki, &nobody).await;
    assert!(
        error.contains("certificate authentication failed for user \"nobody\""),
        "{error}"
    );
    let mut server = Pki::spec("inventory");
    server.purposes = vec![cli::pki::Purpose::Server];
    pki.install("inventory", &server);
    let error = refused(&pki, &url).await;
    assert!(
        error.contains("our certificate would be refused"),
        "{error}"
    );
    pki.put("inventory", "tls.key", &ours.key_pem);
    pki.put("inventory", "tls.crt", &ours.chain_pem);
    cluster.put("root.crl", &pki.crl(2, &[&ours]));
    cluster.reload();
    let error = refused(&pki, &url).await;
    assert!(error.contains("CertificateRevoked"), "{error}");
    pki.issue("inventory");
    connect(&pki, &url).await.unwrap();

    // We do not know it: another name, a revoked certificate, or no TLS at all.
    let elsewhere = pki.database("elsewhere");
    for (leaf, revoked, why) in [
        (&elsewhere, false, "NotValidForName"),
        (&pki.database("localhost"), true, "Revoked"),
    ] {
        cluster.install(leaf);
        cluster.reload();
        if revoked {
            pki.put("inventory", "crl.pem", &pki.crl(1, &[leaf]));
        }
        let error = refused(&pki, &url).await;
        assert!(
            error.contains("TLS handshake") && error.contains(why),
            "{error}"
        );
    }
    cluster.kill();
    cluster.run(&["ssl=off"]);
    let error = refused(&pki, &url).await;
    assert!(error.contains("server does not support TLS"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_fit_is_refused_with_what_is_missing() {
    let pki = Pki::new();
    let Some(mut cluster) = Cluster::start(&pki) else {
        return;
    };
    let missing = refused(&pki, &cluster.url("nowhere")).await;
    assert!(
        missing.contains("database \"nowhere\" does not exist"),
        "{missing}"
    );

    // The role may not make the schema; its owner may, and then grants what is needed.
    cluster.sql("postgres", "CREATE DATABASE strict");
    let url = cluster.url("strict");
    let error = refused(&pki, &url).await;
    assert!(error.contains("cannot migrate it to schema 1"), "{error}");
    assert!(
        error.contains("permission denied for database strict"),
        "{error}"
    );
    cluster.sql(
        "strict",
        include_str!("../../migrations/0001_inventory.sql"),
    );
    for (lacking, grant) in [
        (
            "USAGE ON SCHEMA inventory: grant it",
            "USAGE ON SCHEMA inventory",
        ),
        (
            "SELECT ON inventory.items, SELECT ON inventory.meta",
            "SELECT, UPDATE ON inventory.meta",
        ),
        (
            "INSERT ON inventory.items",
            "SELECT, INSERT, UPDATE ON inventory.items",
        ),
        (
            "INSERT ON inventory.reservations",
            "SELECT, INSERT ON inventory.reservations",
        ),
        (
            "DELETE ON inventory.changes",
            "SELECT, INSERT, DELETE ON inventory.changes",
        ),
    ] {
        let error = refused(&pki, &url).await;
        assert!(error.contains("the role inventory lacks"), "{error}");
        assert!(error.contains(lacking), "{error}");
        cluster.sql("strict", &format!("GRANT {grant} TO inventory"));
    }
    let store = connect(&pki, &url).await.unwrap();
    store.import(bolts(3)).await.unwrap();
    store.reserve("orders", bolt(1)).await.unwrap();

    // A newer program was here.
    cluster.sql("strict", "UPDATE inventory.meta SET schema = 2");
    let error = refused(&pki, &url).await;
    assert!(
        error.contains("it has schema 2 and this program knows schema 1"),
        "{error}"
    );

    cluster.sql(
        "postgres",
        "CREATE DATABASE latin OWNER inventory ENCODING LATIN1 TEMPLATE template0",
    );
    let error = refused(&pki, &cluster.url("latin")).await;
    assert!(error.contains("its encoding is LATIN1"), "{error}");

    cluster.kill();
    cluster.run(&["fsync=off"]);
    let error = refused(&pki, &cluster.url("strict")).await;
    assert!(error.contains("fsync off"), "{error}");
}
