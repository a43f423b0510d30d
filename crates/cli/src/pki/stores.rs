//! The commands by which a client certificate and its root get into the stores of operating systems and browsers, and
//! out again. They are shown, and never run.

use std::io::{self, Write};
use std::path::Path;

use aws_lc_rs::digest;
use base::text::visible;

use crate::text::shell_word;

/// The files that the commands are about.
pub(super) struct ExportedFiles<'a> {
    /// PKCS#12 in the modern encoding.
    pub(super) modern: &'a Path,
    /// PKCS#12 in the one that the macOS keychain reads.
    pub(super) compatible: &'a Path,
    /// The root, as PEM.
    pub(super) root: &'a Path,
    /// The certificate, as DER.
    pub(super) leaf: &'a [u8],
}

/// Shows the commands for each store.
pub(super) fn commands(files: &ExportedFiles<'_>, out: &mut dyn Write) -> io::Result<()> {
    let ExportedFiles {
        modern,
        compatible,
        root,
        leaf,
    } = files;
    let word = |path: &Path| shell_word(&visible(&path.to_string_lossy()));
    let (modern, compatible, root) = (word(modern), word(compatible), word(root));
    let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, leaf);
    let thumbprint: String = thumbprint
        .as_ref()
        .iter()
        .map(|b| format!("{b:02X}"))
        .collect();
    writeln!(
        out,
        r"
The certificate, with its key
Chromium on Linux (NSS; Debian: libnss3-tools; close the browser first)
  create   mkdir -p ~/.pki/nssdb && certutil -d sql:$HOME/.pki/nssdb -N --empty-password   # unless it is there
  import   pk12util -d sql:$HOME/.pki/nssdb -i {modern}
  remove   certutil -d sql:$HOME/.pki/nssdb -L, then the same with -F -n NICKNAME
Firefox    Settings, Privacy & Security, View Certificates, Your Certificates: Import, Delete
macOS      (not tried by us)
  import   security import {compatible} -k ~/Library/Keychains/login.keychain-db -f pkcs12
  remove   security delete-identity -Z {thumbprint} ~/Library/Keychains/login.keychain-db
Windows    (not tried by us; PowerShell)
  import   Import-PfxCertificate {modern} -CertStoreLocation Cert:\CurrentUser\My -Password (Read-Host -AsSecureString)
  remove   Remove-Item Cert:\CurrentUser\My\{thumbprint} -DeleteKey
Java       -Djavax.net.ssl.keyStore={modern} -Djavax.net.ssl.keyStorePassword=…
curl       curl --cert-type P12 --cert {modern}:PASSWORD …

The root: only where a program must trust it. The holder of its key can then be any site to that program.
Chromium on Linux (NSS)
  trust    certutil -d sql:$HOME/.pki/nssdb -A -t CT,, -n countersign-root -i {root}
  remove   certutil -d sql:$HOME/.pki/nssdb -D -n countersign-root
p11-kit    (the system store where it is there)
  trust    sudo trust anchor --store {root}
  remove   sudo trust anchor --remove {root}
Debian     (the system store)
  trust    sudo cp {root} /usr/local/share/ca-certificates/countersign.crt && sudo update-ca-certificates
  remove   sudo rm /usr/local/share/ca-certificates/countersign.crt && sudo update-ca-certificates --fresh
RHEL       (the system store)
  trust    sudo cp {root} /etc/pki/ca-trust/source/anchors/countersign.crt && sudo update-ca-trust
  remove   sudo rm /etc/pki/ca-trust/source/anchors/countersign.crt && sudo update-ca-trust
macOS      (not tried by us)
  trust    sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {root}
  remove   sudo security remove-trusted-cert -d {root}
Windows    (not tried by us; PowerShell)
  trust    Import-Certificate {root} -CertStoreLocation Cert:\CurrentUser\Root
  remove   Get-ChildItem Cert:\CurrentUser\Root | Where-Object Subject -like '*Countersign*' | Remove-Item"
    )
}
