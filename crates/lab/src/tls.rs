//! A receiver that speaks TLS, with a certificate that only its own authority vouches for.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::NamedTempFile;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, pki_types::PrivateKeyDer},
};
use tokio_util::task::AbortOnDropHandle;

use crate::error::LabError;

/// Takes TLS connections and passes what is in them to a server without TLS.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    authority: NamedTempFile,
    _accepting: AbortOnDropHandle<()>,
}

impl TlsFront {
    /// Makes an authority, a certificate for 127.0.0.1, and listens there.
    pub(crate) async fn start(upstream: SocketAddr) -> Result<Self, LabError> {
        let failed = |error: rcgen::Error| LabError::part("the receiver's certificate", error);
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(failed)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = CertificateParams::new(vec![Ipv4Addr::LOCALHOST.to_string()])
            .and_then(|params| params.signed_by(&key, &authority))
            .map_err(failed)?;
        let file = NamedTempFile::with_suffix(".pem")?;
        std::fs::write(file.path(), authority.pem())?;

        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| LabError::part("the receiver's certificate", error))?;
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(|error| LabError::part("the receiver's certificate", error))?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let accepting = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // A client that doesn't trust the certificate goes away: that is for it to tell.
                connections.spawn(pass(acceptor.clone(), client, upstream));
            }
        });
        Ok(Self {
            address,
            authority: file,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }

    /// `https://address`, for OTEL_EXPORTER_OTLP_ENDPOINT.
    pub fn endpoint(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The authority's certificate, as a PEM file that goes when this is dropped.
    pub fn authority(&self) -> &Path {
        self.authority.path()
    }
}

async fn pass(acceptor: TlsAcceptor, client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let mut client = acceptor.accept(client).await?;
    let mut server = TcpStream::connect(upstream).await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
