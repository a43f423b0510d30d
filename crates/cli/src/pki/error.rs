//! Why a `pki` command failed.

use std::io;
use std::path::PathBuf;

use super::certificate::Malformed;
use super::encoding::NotPem;
use super::operations::OperationError;
use super::{
    DirectoryError, FileError, InvalidPassword, InvalidRequest, InvalidRoster,
    InvalidSigningRequest, InvalidTrustDomain, Pkcs12Error,
};

/// Why a `pki` command failed.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The file of identities is not usable.
    #[error(transparent)]
    Roster(#[from] InvalidRoster),
    /// The trust domain is not one.
    #[error(transparent)]
    Domain(#[from] InvalidTrustDomain),
    /// What is asked for is not issued.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// A signing request is not one.
    #[error("{}: {source}", file.display())]
    SigningRequest {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: InvalidSigningRequest,
    },
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The PKI is not usable.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// It cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The operation failed.
    #[error(transparent)]
    Operation(#[from] OperationError),
    /// The output is closed, or signals cannot be received.
    #[error("cannot write the result")]
    Output(#[from] io::Error),
}

/// Why nothing, or not all, was exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The password is not one.
    #[error(transparent)]
    Password(#[from] InvalidPassword),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The target is among the files of the authority, which are never overwritten.
    #[error("{} is among the files of the authority; write it elsewhere", .0.display())]
    Authority(PathBuf),
    /// The sender of the signing request holds the key.
    #[error(
        "its key is not here: the sender of the signing request has it; --chain and --truststore need none"
    )]
    KeyElsewhere,
    /// The key is missing, encrypted, or that of another certificate.
    #[error("its tls.key is missing, or not the key of its certificate")]
    Key,
    /// There is no certificate in PEM.
    #[error(transparent)]
    Credentials(#[from] NotPem),
    /// The certificate is malformed.
    #[error("tls.crt: {0}")]
    Malformed(Malformed),
    /// PKCS#12 cannot say it.
    #[error(transparent)]
    Pkcs12(#[from] Pkcs12Error),
}
