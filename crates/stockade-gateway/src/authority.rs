//! Who vouches, inside one sandbox, for hosts whose TLS ends in the gateway.
//!
//! Its key is made in memory, and leaves it never: it is worth nothing outside of the sandbox, and
//! nothing after it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use stockade_policy::Host;

/// Requests are read as HTTP/1 only.
const PROTOCOL: &[u8] = b"http/1.1";
/// Hosts whose certificates are kept; a further one gets a new one each time.
const KEPT_MAX: usize = 256;

/// A certificate authority of one sandbox. Clones are handles on the same.
#[derive(Clone)]
pub struct Authority(Arc<Inner>);

struct Inner {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
    servers: Mutex<HashMap<Host, Arc<ServerConfig>>>,
    client: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// No certificate could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate for the gateway")]
pub struct AuthorityError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl AuthorityError {
    fn of(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Box::new(error))
    }
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    ///
    /// When the system gives no random numbers.
    pub fn new() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::of)?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, "Stockade, this sandbox only");
        let certificate = params.self_signed(&key).map_err(AuthorityError::of)?.pem();
        Ok(Self(Arc::new(Inner {
            issuer: Issuer::new(params, key),
            certificate,
            servers: Mutex::default(),
            client: OnceLock::new(),
        })))
    }

    /// Its certificate, as PEM, for programs to trust.
    pub fn certificate(&self) -> &str {
        &self.0.certificate
    }

    /// How to answer a program as `host`.
    pub(crate) fn server(&self, host: &Host) -> Result<Arc<ServerConfig>, AuthorityError> {
        let mut servers = self.0.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = servers.get(host) {
            return Ok(Arc::clone(known));
        }
        let config = Arc::new(self.issue(host)?);
        if servers.len() < KEPT_MAX {
            servers.insert(host.clone(), Arc::clone(&config));
        }
        Ok(config)
    }

    fn issue(&self, host: &Host) -> Result<ServerConfig, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::of)?;
        let mut params = CertificateParams::new(vec![bare(host)]).map_err(AuthorityError::of)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.distinguished_name.push(DnType::CommonName, "Stockade");
        let certificate = params.signed_by(&key, &self.0.issuer).map_err(AuthorityError::of)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(AuthorityError::of)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(AuthorityError::of)?;
        // Some that speak HTTP/1.0 say so (curl), and would be refused by a server that does not know it.
        config.alpn_protocols = vec![PROTOCOL.to_vec(), b"http/1.0".to_vec()];
        Ok(config)
    }

    /// How to speak to servers: with the certificates that the user's system trusts.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, String> {
        self.0.client.get_or_init(client).clone()
    }
}

/// How to speak to servers: with the certificates that the user's system trusts.
pub(crate) fn client() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("no certificates that this machine trusts were found".to_owned());
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

/// A host as certificates have it: an address without brackets.
pub(crate) fn bare(host: &Host) -> String {
    match host {
        Host::Name(name) => name.as_str().to_owned(),
        Host::Address(address) => address.to_string(),
    }
}
