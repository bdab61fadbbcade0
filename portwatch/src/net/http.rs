//! HTTP requests to one server: every wait bounded, every answer bounded, and nothing told that is a secret.

use std::fmt;
use std::io::Read as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use ureq::http::uri::PathAndQuery;
use ureq::http::{HeaderValue, Uri};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Error};

use super::Identity;
use crate::text::{clip, guard};

/// Characters of an answer that are shown.
const SHOWN: usize = 200;
/// How long a server can put us off.
const PUT_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// What stands for what is not shown.
const HIDDEN: &str = "…";

/// An address that may be a secret. Shown, also for debugging, it is scheme and host.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(pub(super) Uri);

impl Url {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong, as a clause that does not quote it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "expected a URL such as \"https://example.org/hook\"".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) || authority.host().is_empty() {
            return Err(wrong());
        }
        if authority.as_str().contains('@') {
            return Err(
                "a URL with a password in it is shown in many places: use `token_file`, \
                        or the whole URL in `url_file`"
                    .to_owned(),
            );
        }
        Ok(Self(uri))
    }

    /// Does it go over TLS?
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// Is it on this host?
    #[must_use]
    pub fn is_here(&self) -> bool {
        let host = self.0.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<IpAddr>();
        host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// The path, without what follows a question mark.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// This path and query below it.
    fn below(&self, path: &str) -> Result<Uri, String> {
        let base = self.0.path().trim_end_matches('/');
        let mut parts = self.0.clone().into_parts();
        let whole = format!("{base}{path}").parse();
        parts.path_and_query = Some(whole.map_err(|_| "the URL cannot be used".to_owned())?);
        Uri::from_parts(parts).map_err(|_| "the URL cannot be used".to_owned())
    }

    /// What of it could be a secret, longest first: a whole path before its parts.
    fn secrets(&self) -> Vec<String> {
        let path = self.0.path();
        let whole = self.0.path_and_query().map(PathAndQuery::as_str);
        let query = self.0.query().unwrap_or_default();
        let parts = path.split('/').chain(query.split(['&', '=']));
        let parts = parts.filter(|part| part.chars().count() >= 4);
        let all = whole.into_iter().chain([path, query]).chain(parts);
        let all = all.filter(|text| text.len() > 1).map(str::to_owned);
        let mut all: Vec<String> = all.collect();
        all.sort_by_key(|text| std::cmp::Reverse(text.len()));
        all
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(f, "{scheme}://{authority}")
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Url({self})")
    }
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// How long it asks us to wait, within bounds.
    pub put_off: Option<Duration>,
    /// As much of the body as was asked for, if it could be read.
    pub body: Vec<u8>,
}

/// A server.
#[derive(Debug)]
pub struct Client {
    url: Url,
    agent: Agent,
    timeout: Duration,
    /// What no text of ours may hold.
    hidden: Vec<String>,
}

impl Client {
    /// Prepares the connection; none is made yet. `authorities` count besides those of the system, `timeout` is that of
    /// a request as a whole.
    ///
    /// # Errors
    /// What is wrong with the files, in a sentence.
    pub fn new(
        url: Url,
        authorities: Option<&[u8]>,
        identity: Option<&Identity>,
        timeout: Duration,
    ) -> Result<Self, String> {
        Ok(Self {
            agent: agent(&url, authorities, identity, timeout)?,
            hidden: url.secrets(),
            url,
            timeout,
        })
    }

    /// This is a secret as well.
    pub fn hide(&mut self, secret: String) {
        self.hidden.push(secret);
    }

    /// POSTs to a path below the address, and reads so many bytes of the answer.
    ///
    /// # Errors
    /// There was none; told as of [`Client::told`].
    pub fn post(
        &self,
        path: Option<&str>,
        headers: &[(&str, HeaderValue)],
        body: &[u8],
        limit: u64,
    ) -> Result<Reply, String> {
        let uri = match path {
            None => self.url.0.clone(),
            Some(path) => self.url.below(path).map_err(|why| self.told(&why))?,
        };
        let mut request = self.agent.post(uri);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let mut response = request
            .send(body)
            .map_err(|error| self.told(&self.cause(&error)))?;
        let put_off = response
            .headers()
            .get("Retry-After")
            .and_then(|value| retry_after(value.to_str().ok()?, Timestamp::now()));
        // Whoever needs it whole sees that it is not.
        let mut body = Vec::new();
        let _ = response
            .body_mut()
            .as_reader()
            .take(limit)
            .read_to_end(&mut body);
        Ok(Reply {
            status: response.status().as_u16(),
            put_off,
            body,
        })
    }

    fn cause(&self, error: &Error) -> String {
        match error {
            Error::Timeout(_) => format!("no answer within {:?}", self.timeout),
            Error::HostNotFound => "the name of the host is not known".to_owned(),
            Error::Io(error) => error.to_string(),
            Error::BadUri(_) | Error::RequireHttpsOnly(_) => "the URL cannot be used".to_owned(),
            other => other.to_string(),
        }
    }

    /// Status and text of an answer that is no good, told as of [`Client::told`].
    #[must_use]
    pub fn judgement(&self, reply: &Reply) -> String {
        let text = String::from_utf8_lossy(&reply.body);
        self.told(&format!("{} {}", reply.status, text.trim()))
    }

    /// One line that begins with scheme and host, and holds nothing that is a secret.
    #[must_use]
    pub fn told(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for hidden in &self.hidden {
            text = text.replace(hidden.as_str(), HIDDEN);
        }
        let text = guard(&text);
        format!("{}: {}", self.url, clip(text.trim_end(), SHOWN, |_| 1))
    }
}

/// A header that says who we are.
///
/// # Errors
/// It holds what no header can. Does not quote it.
pub fn authorization(scheme: &str, secret: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("{scheme} {secret}"))
        .map_err(|_| "the token holds characters that no header can".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn agent(
    url: &Url,
    authorities: Option<&[u8]>,
    identity: Option<&Identity>,
    timeout: Duration,
) -> Result<Agent, String> {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(roots(url, authorities)?))
        .client_cert(identity.map(client_cert).transpose()?)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(timeout))
        .user_agent(concat!("portwatch/", env!("CARGO_PKG_VERSION")))
        // Every answer is judged here.
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        // What the environment says is not what the configuration says.
        .proxy(None)
        .max_response_header_size(16 * 1024)
        .build();
    Ok(config.into())
}

fn roots(url: &Url, authorities: Option<&[u8]>) -> Result<Vec<Certificate<'static>>, String> {
    if !url.is_protected() {
        return Ok(Vec::new());
    }
    let mut all = rustls_native_certs::load_native_certs().certs;
    if let Some(pem) = authorities {
        let before = all.len();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            all.push(certificate.map_err(|error| format!("`ca_file` is no PEM: {error}"))?);
        }
        if all.len() == before {
            return Err("`ca_file` holds no certificate".to_owned());
        }
    }
    if all.is_empty() {
        return Err(
            "this host has no certificates of authorities: install ca-certificates, or \
                    name some with `ca_file`"
                .to_owned(),
        );
    }
    let owned = |one: &CertificateDer<'_>| Certificate::from_der(one).to_owned();
    Ok(all.iter().map(owned).collect())
}

fn client_cert(identity: &Identity) -> Result<ClientCert, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity.chain).collect();
    let chain = chain.map_err(|error| format!("`cert_file` is no PEM: {error}"))?;
    let owned = |one: &CertificateDer<'_>| Certificate::from_der(one).to_owned();
    let chain: Vec<Certificate<'static>> = chain.iter().map(owned).collect();
    // What is wrong with a key is not told: the text could hold a part of it.
    let key = PrivateKey::from_pem(&identity.key)
        .map_err(|_| "`key_file` holds no key in PEM".to_owned())?;
    match chain.is_empty() {
        true => Err("`cert_file` holds no certificate in PEM".to_owned()),
        false => Ok(ClientCert::new_with_certs(&chain, key)),
    }
}

/// How long a server asks us to wait: seconds, or a date. Within bounds.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let span = match value.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?;
            let span = date.timestamp().duration_since(now);
            Duration::try_from(span).unwrap_or_default()
        }
    };
    Some(span.clamp(PUT_OFF.0, PUT_OFF.1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Url, retry_after};

    const SECRET: &str = "https://hooks.example.org/services/T0000/B0000/Zx81?key=abcd1234";

    #[test]
    fn a_url_is_checked_and_shows_its_host_alone() {
        let url = Url::parse(SECRET).expect("a URL");
        assert_eq!(url.to_string(), "https://hooks.example.org");
        assert_eq!(format!("{url:?}"), "Url(https://hooks.example.org)");
        for wrong in [
            "",
            "hook",
            "/hook",
            "ftp://example.org/Zx81",
            "https://",
            "https:///Zx81",
            "https://u:Zx81@example.org/",
        ] {
            let told = Url::parse(wrong).expect_err(wrong);
            assert!(!told.contains("Zx81"), "{told}");
        }
    }

    #[test]
    fn only_this_host_is_here() {
        for (url, here) in [
            ("http://localhost:9093/", true),
            ("http://127.1.2.3/", true),
            ("http://[::1]:80/", true),
            ("http://localhost.example.org/", false),
            ("http://[2001:db8::1]/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(Url::parse(url).expect(url).is_here(), here, "{url}");
        }
    }

    #[test]
    fn a_server_puts_us_off_within_bounds() {
        let now = "1994-11-06T08:49:00Z".parse().expect("a time");
        for (value, seconds) in [
            ("7", Some(7)),
            ("0", Some(1)),
            ("99999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(retry_after(value, now), expected, "{value}");
        }
    }

    #[test]
    fn a_path_goes_below_the_address() {
        for (url, expected) in [
            ("https://a.b", "https://a.b/x/_bulk?y=z"),
            ("https://a.b:9200/", "https://a.b:9200/x/_bulk?y=z"),
            ("http://a.b/base/?q=1", "http://a.b/base/x/_bulk?y=z"),
        ] {
            let below = Url::parse(url).expect(url).below("/x/_bulk?y=z");
            assert_eq!(below.map(|uri| uri.to_string()).as_deref(), Ok(expected));
        }
    }
}
