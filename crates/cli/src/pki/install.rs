//! The way of a client certificate into the stores of operating systems and browsers, and out again: done for NSS, and
//! told for the others.

use std::io::Write;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::certificate::Certificate;
use super::command::PkiError;
use super::export::{Export, ExportError, key_of};
use super::nss::Database;
use super::pkcs12::{self, Encoding, Password};
use super::{Credentials, operations};
use crate::text::Printable;

/// Does what is asked for in the NSS database.
pub(super) fn in_nss(
    dir: &Path,
    export: &Export,
    credentials: &Credentials,
    out: &mut dyn Write,
) -> Result<(), PkiError> {
    let Export {
        name,
        install_nss,
        remove_nss,
        nss_root,
        nss_db,
        ..
    } = export;
    let failed = ExportError::from;
    let database = match nss_db {
        Some(path) => Database::at(path.clone()),
        None => Database::of_user().map_err(failed)?,
    };
    let shown = database.path().display().to_string();
    let shown = Printable(&shown);
    let der = operations::leaf_of(credentials).map_err(ExportError::Malformed)?;
    let leaf = Certificate::from_der(&der).map_err(ExportError::Malformed)?;
    let root_nickname = "countersign-root";
    if *remove_nss {
        let was = |found| if found { "removed from" } else { "was not in" };
        let found = database.remove(&leaf).map_err(failed)?;
        writeln!(out, "{name:<16} {} {shown}", was(found))?;
        if *nss_root {
            let found = database.distrust(root_nickname).map_err(failed)?;
            writeln!(out, "{:<16} {} {shown}", "root", was(found))?;
        }
        return Ok(());
    }
    if *install_nss {
        let key = key_of(credentials)?.serialize_der();
        let password = Password::random();
        let chain = &credentials.chain_pem;
        let p12 = pkcs12::identity(name.as_str(), &key, chain, Encoding::Modern, &password)
            .map_err(ExportError::from)?;
        let nickname = database.install(&leaf, &p12, &password).map_err(failed)?;
        writeln!(
            out,
            "{name:<16} installed in {shown} as {}",
            Printable(&nickname)
        )?;
    }
    if *nss_root {
        let root = dir.join(name.as_str()).join("ca.crt");
        database.trust(root_nickname, &root).map_err(failed)?;
        writeln!(out, "{:<16} trusted in {shown} as {root_nickname}", "root")?;
    }
    Ok(())
}

/// Shows what a person types to import the certificate, and to remove it again.
pub(super) fn commands(
    export: &Export,
    credentials: &Credentials,
    out: &mut dyn Write,
) -> Result<(), PkiError> {
    let name = &export.name;
    let file = |file: &Option<PathBuf>, otherwise: &str| {
        let file = file.as_ref().map(|file| file.display().to_string());
        Printable(file.unwrap_or_else(|| otherwise.to_owned())).to_string()
    };
    let modern = file(&export.p12, &format!("{name}.p12"));
    let compatible = file(&export.p12_compatible, &format!("{name}-compatible.p12"));
    let leaf = operations::leaf_of(credentials).map_err(ExportError::Malformed)?;
    let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &leaf);
    let thumbprint: String = thumbprint
        .as_ref()
        .iter()
        .map(|b| format!("{b:02X}"))
        .collect();
    writeln!(
        out,
        "
Chromium on Linux (NSS; close the browser first)
  import   countersign pki export {name} --install-nss
     or    pk12util -d sql:$HOME/.pki/nssdb -i {modern}
  remove   countersign pki export {name} --remove-nss
     or    certutil -d sql:$HOME/.pki/nssdb -L, then the same with -F -n NICKNAME
Firefox    Settings, Privacy & Security, View Certificates, Your Certificates: Import, Delete
macOS      (not tried by us)
  import   security import {compatible} -k ~/Library/Keychains/login.keychain-db -f pkcs12
  remove   security delete-identity -Z {thumbprint} ~/Library/Keychains/login.keychain-db
Windows    (not tried by us; PowerShell)
  import   Import-PfxCertificate {modern} -CertStoreLocation Cert:\\CurrentUser\\My -Password (Read-Host -AsSecureString)
  remove   Remove-Item Cert:\\CurrentUser\\My\\{thumbprint} -DeleteKey
Java       -Djavax.net.ssl.keyStore={modern} -Djavax.net.ssl.keyStorePassword=…
curl       curl --cert-type P12 --cert {modern}:PASSWORD …"
    )?;
    Ok(())
}
