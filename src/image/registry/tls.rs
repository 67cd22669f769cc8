//! TLS for ureq's connections, with servers' certificates judged as [`trust`] does and a client certificate of the node.

use super::client::Trust;
use crate::sys::trust::{self, Anybody, Trusted};
use crate::sys::{Error, Result};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::fmt;
use std::sync::Arc;
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport, TransportAdapter,
};

/// What to trust and to show, from the files that the node config names.
pub(super) fn configure(trust: &Trust) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let refused = |e: rustls::Error| Error::refused("TLS", e.to_string());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().map_err(refused)?.dangerous();
    let verifier: Arc<dyn ServerCertVerifier> = match trust.any {
        true => Arc::new(Anybody(provider.clone())),
        false => {
            let named = trust.ca.as_ref().map(|ca| trust::certificates(ca)).transpose()?;
            let system = match trust::system("ca in [registry.\"HOST:PORT\"]").and_then(|f| trust::certificates(&f)) {
                Ok(all) => all,
                Err(e) if named.is_none() => return Err(e),
                Err(_) => Vec::new(),
            };
            let none = || Error::refused("TLS", "none of the trusted certificates is usable");
            Arc::new(Trusted::new(named.unwrap_or_default(), system, provider.clone()).ok_or_else(none)?)
        }
    };
    let builder = builder.with_custom_certificate_verifier(verifier);
    Ok(Arc::new(match &trust.identity {
        Some((cert, key)) => {
            let identity = trust::identity(cert, key, &provider)?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)))
        }
        None => builder.with_no_client_auth(),
    }))
}

/// Puts TLS around a connection where the URL is https.
#[derive(Debug)]
pub(super) struct Tls(pub Arc<ClientConfig>);

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, Session>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> std::result::Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if !details.needs_tls() || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let host = details.uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let name = ServerName::try_from(host.to_string());
        let name = name.map_err(|_| ureq::Error::Tls("its host is no name that a certificate can have"))?;
        let mut session = ClientConnection::new(self.0.clone(), name)?;
        let mut peer = TransportAdapter::new(transport.boxed(), details.current_time.clone());
        peer.set_timeout(details.timeout);
        session.complete_io(&mut peer)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Either::B(Session { buffers, stream: StreamOwned::new(session, peer) })))
    }
}

/// A connection with TLS.
pub(super) struct Session {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

impl Transport for Session {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> std::result::Result<(), ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(std::io::Write::write_all(&mut self.stream, output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> std::result::Result<bool, ureq::Error> {
        self.stream.sock.set_timeout(timeout);
        let came = std::io::Read::read(&mut self.stream, self.buffers.input_append_buf())?;
        self.buffers.input_appended(came);
        Ok(came > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.sock.get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
