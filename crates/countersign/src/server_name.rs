//! The name of a server in a setting.

use pki_types::ServerName;

pub(crate) fn parse(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text)
        .map(|name| name.to_owned())
        .map_err(|_e| "neither a DNS name nor an IP address".to_owned())
}
