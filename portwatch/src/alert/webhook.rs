//! Webhooks: a message as the body of one HTTP request, over TLS, to an address that is a secret by itself more often
//! than not. No more than its scheme and host is ever shown.

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
use ureq::http::{HeaderValue, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Error};

use super::carrier::Refusal;
use super::message::Message;
use super::{alertmanager, report, signature, slack};
use crate::text::{clip, guard};

/// Characters of an answer that are shown.
const ANSWER: usize = 200;
/// How long a server can put us off.
const PUT_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// What stands for what is not shown.
const HIDDEN: &str = "…";

/// What a body looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Our own JSON, see [`report`].
    #[default]
    Json,
    /// Slack's.
    Slack,
    /// Alertmanager's.
    Alertmanager,
}

/// The address of a webhook. Shown, also for debugging, it is scheme and host.
#[derive(Clone, PartialEq, Eq)]
pub struct Url(Uri);

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

/// Where to send, and how.
pub struct Settings {
    /// The address.
    pub url: Url,
    /// The body.
    pub format: Format,
    /// Certificates of authorities that count besides those of the system, as PEM.
    pub authorities: Option<Vec<u8>>,
    /// Signs each request.
    pub secret: Option<String>,
    /// Says who we are.
    pub token: Option<String>,
    /// How long one attempt may take as a whole.
    pub timeout: Duration,
}

/// A webhook.
pub struct Webhook {
    settings: Settings,
    authorization: Option<HeaderValue>,
    agent: Agent,
    /// What no text of ours may hold.
    hidden: Vec<String>,
}

impl Webhook {
    /// Prepares the connection; none is made yet.
    ///
    /// # Errors
    /// What is wrong with the settings, in a sentence.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let authorization = settings.token.as_deref().map(bearer).transpose()?;
        let mut hidden = settings.url.secrets();
        hidden.extend(settings.token.clone());
        hidden.extend(settings.secret.clone());
        Ok(Self {
            agent: agent(&settings)?,
            authorization,
            hidden,
            settings,
        })
    }

    /// Sends a message; the server's own answer comes back.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn send(&self, message: &Message) -> Result<String, Refusal> {
        let body = self.body(message).map_err(Refusal::Never)?;
        let mut request = self
            .agent
            .post(self.settings.url.0.clone())
            .header("Content-Type", "application/json")
            // The same in each attempt: whoever gets it twice can tell.
            .header("Idempotency-Key", message.id.to_string());
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        if let Some(secret) = &self.settings.secret {
            let now = Timestamp::now().as_second();
            request = request.header(signature::HEADER, signature::header(secret, now, &body));
        }
        match request.send(&body) {
            Ok(response) => self.judge(response),
            Err(error) => Err(Refusal::Later(self.told(&self.cause(&error)))),
        }
    }

    fn body(&self, message: &Message) -> Result<Vec<u8>, String> {
        let body = match self.settings.format {
            Format::Json => report::json(message),
            Format::Slack => serde_json::to_vec(&slack::json(message)),
            Format::Alertmanager => serde_json::to_vec(&alertmanager::json(message)),
        };
        body.map_err(|error| format!("the message is no JSON: {error}"))
    }

    fn judge(&self, mut response: Response<Body>) -> Result<String, Refusal> {
        let status = response.status();
        let put_off = response
            .headers()
            .get("Retry-After")
            .and_then(|value| retry_after(value.to_str().ok()?, Timestamp::now()));
        // It is worth a look, and no more: whether it could be read changes nothing.
        let mut text = Vec::new();
        let _ = response
            .body_mut()
            .as_reader()
            .take(4 * ANSWER as u64)
            .read_to_end(&mut text);
        let text = String::from_utf8_lossy(&text);
        let told = self.told(&format!("{} {}", status.as_u16(), text.trim()));
        match status.as_u16() {
            200..=299 => Ok(told),
            // The address may be right again tomorrow, and where it leads is not our administrator's choice.
            300..=399 => Err(Refusal::Later(format!(
                "{told} (redirects are not followed)"
            ))),
            408 | 425 | 429 | 500.. => Err(match put_off {
                Some(span) => Refusal::After(told, span),
                None => Refusal::Later(told),
            }),
            _ => Err(Refusal::Never(told)),
        }
    }

    fn cause(&self, error: &Error) -> String {
        match error {
            Error::Timeout(_) => format!("no answer within {:?}", self.settings.timeout),
            Error::HostNotFound => "the name of the host is not known".to_owned(),
            Error::Io(error) => error.to_string(),
            Error::BadUri(_) | Error::RequireHttpsOnly(_) => "the URL cannot be used".to_owned(),
            other => other.to_string(),
        }
    }

    /// One line that begins with scheme and host, and holds nothing that is a secret.
    fn told(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for hidden in &self.hidden {
            text = text.replace(hidden.as_str(), HIDDEN);
        }
        let text = guard(&text);
        format!(
            "{}: {}",
            self.settings.url,
            clip(text.trim_end(), ANSWER, |_| 1)
        )
    }
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| "the token holds characters that no header can".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

fn agent(settings: &Settings) -> Result<Agent, String> {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(authorities(settings)?))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build();
    let config = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(settings.timeout))
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

fn authorities(settings: &Settings) -> Result<Vec<Certificate<'static>>, String> {
    if !settings.url.is_protected() {
        return Ok(Vec::new());
    }
    let mut all = rustls_native_certs::load_native_certs().certs;
    if let Some(pem) = &settings.authorities {
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

    use super::{Format, Settings, Url, Webhook, retry_after};

    const SECRET: &str = "https://hooks.example.org/services/T0000/B0000/Zx81?key=abcd1234";

    fn webhook(url: &str) -> Webhook {
        Webhook::new(Settings {
            url: Url::parse(url).expect("a URL"),
            format: Format::Json,
            authorities: None,
            secret: Some("s3cret".to_owned()),
            token: Some("t0ken".to_owned()),
            timeout: Duration::from_secs(1),
        })
        .expect("right")
    }

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
    fn nothing_that_is_told_holds_a_secret() {
        let webhook = webhook(SECRET);
        let told = webhook.told(
            "404 Cannot POST /services/T0000/B0000/Zx81?key=abcd1234 (Zx81, abcd1234, T0000)\r\nt0ken s3cret",
        );
        assert_eq!(
            told,
            r"https://hooks.example.org: 404 Cannot POST … (…, …, …)\x0d\x0a… …"
        );
        let long = webhook.told(&"x".repeat(10_000));
        assert!(long.chars().count() < 300, "{long}");
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
}
