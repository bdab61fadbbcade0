//! TLS as a client: the authorities of the system and those of a file, a certificate of our own, and what went wrong.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// What we show to a peer that asks who we are.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Our certificate and those between it and an authority, as PEM.
    pub chain: Vec<u8>,
    /// Its key, as PEM.
    pub key: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(…)")
    }
}

/// Trusts the authorities of the system, and these, in PEM.
///
/// # Errors
/// What is wrong with the files, in a sentence that names their keys of the configuration.
pub fn client(
    authorities: Option<&[u8]>,
    identity: Option<&Identity>,
) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // What of the system's cannot be read only makes certificates untrusted, which is told then.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(pem) = authorities {
        for certificate in certificates(pem, "ca_file")? {
            let added = roots.add(certificate);
            added.map_err(|error| format!("`ca_file`: {error}"))?;
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let builder = builder.with_root_certificates(roots);
    let Some(Identity { chain, key }) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(chain, "cert_file")?;
    // What is wrong with a key is not told: the text could hold a part of it.
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| "`key_file` holds no key in PEM".to_owned())?;
    let config = builder.with_client_auth_cert(chain, key);
    config.map_err(|error| format!("`cert_file` and `key_file` do not go together: {error}"))
}

fn certificates(pem: &[u8], key: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|error| format!("`{key}`: {error}"))?;
    match all.is_empty() {
        true => Err(format!("`{key}` holds no certificate in PEM")),
        false => Ok(all),
    }
}

/// Why there is no TLS with this host.
pub(super) fn failure(error: &io::Error, host: &str, patience: Duration) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => match why {
            CertificateError::UnknownIssuer => {
                "its certificate is not trusted: no authority that is known here has signed it; `ca_file` adds one"
                    .to_owned()
            }
            CertificateError::NotValidForName
            | CertificateError::NotValidForNameContext { .. } => {
                format!("its certificate is not for {host}")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".to_owned()
            }
            why => format!("its certificate is refused: {why}"),
        },
        Some(why) => format!("no TLS with it: {why}"),
        None => format!("no TLS with it: {}", super::told(error, patience)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, client};

    #[test]
    fn files_that_hold_nothing_of_use_are_told_by_their_keys() {
        let wrong = client(Some(b"nothing"), None).expect_err("no authority");
        assert_eq!(wrong, "`ca_file` holds no certificate in PEM");
        let nothing = Identity {
            chain: Vec::new(),
            key: b"s3cret".to_vec(),
        };
        assert!(!format!("{nothing:?}").contains("115"), "{nothing:?}");
        let wrong = client(None, Some(&nothing)).expect_err("no certificate");
        assert_eq!(wrong, "`cert_file` holds no certificate in PEM");
        assert!(client(None, None).is_ok());
    }
}
