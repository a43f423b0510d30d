//! Fixtures: a CA, credentials of a server and of two callers, and a policy that allows one of them.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use cli::pki::{Authority, Leaf, LeafSpec, Purpose, Revocation, Validity};
use countersign::identity::Role;
use countersign::mtls::{self, Channel, Reload, ServerIdentity, Source, Target, Trust};
use tempfile::TempDir;
use test_contract::v1::echo_service_client::EchoServiceClient;
use time::OffsetDateTime;

pub(crate) const POLICY: &str = r#"{"name": "echo", "allow_rules": [
    {"name": "orders", "source": {"principals": ["spiffe://acme.test/orders"]}}]}"#;

/// A CA, with a directory of credentials for the server and for two callers; the policy allows one.
pub(crate) struct Pki {
    pub(crate) dir: TempDir,
    pub(crate) root: Authority,
    pub(crate) orders: Leaf,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let hour =
            || Validity::starting(OffsetDateTime::now_utc(), Duration::from_secs(3600)).unwrap();
        let root = Authority::root("test root", hour()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("policy.json"), POLICY).unwrap();
        let issue = |name: &str| {
            let mut spec = LeafSpec::client(hour());
            spec.uris = vec![format!("spiffe://acme.test/{name}")];
            if ["echo", "front"].contains(&name) {
                spec.purposes = vec![Purpose::Server, Purpose::Client];
                spec.dns = vec!["localhost".to_owned()];
            }
            let leaf = root.issue(&spec).unwrap();
            let to = dir.path().join(name);
            fs::create_dir(&to).unwrap();
            fs::write(to.join("tls.key"), &leaf.key_pem).unwrap();
            fs::write(to.join("tls.crt"), &leaf.chain_pem).unwrap();
            fs::write(to.join("ca.crt"), root.certificate_pem()).unwrap();
            leaf
        };
        issue("echo");
        issue("front");
        issue("marketing");
        let orders = issue("orders");
        Self { dir, root, orders }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn trust(&self, name: &str, role: Role) -> Trust {
        let reload = Reload {
            interval: Duration::from_millis(50),
            ..Reload::default()
        };
        Trust::open(role, Source::directory(self.path(name)), reload).unwrap()
    }

    pub(crate) fn client(&self, name: &str, server: SocketAddr) -> EchoServiceClient<Channel> {
        let target = Target::parse(&target(server)).unwrap();
        let trust = self.trust(name, Role::Client);
        let options = mtls::ChannelOptions::default();
        EchoServiceClient::new(mtls::connect(target, localhost(), trust, options))
    }

    /// Revokes the certificate of orders by a list that the server reads.
    pub(crate) fn revoke_orders(&self) {
        let now = OffsetDateTime::now_utc();
        let minute = time::Duration::minutes(1);
        let revoked = Revocation {
            serial: self.orders.serial.clone(),
            at: now - minute,
        };
        let list = self
            .root
            .crl(1, &[revoked], now - minute, now + 60 * minute);
        let next = self.path("echo").join("crl.next");
        fs::write(&next, list.unwrap()).unwrap();
        fs::rename(next, self.path("echo").join("crl.pem")).unwrap();
    }
}

pub(crate) fn localhost() -> ServerIdentity {
    ServerIdentity::Name("localhost".try_into().unwrap())
}

pub(crate) fn target(server: SocketAddr) -> String {
    format!("https://localhost:{}", server.port())
}
