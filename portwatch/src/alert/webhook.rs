//! Webhooks: a message as the body of one HTTP request, over TLS, to an address that is a secret by itself more often
//! than not. No more than its scheme and host is ever shown.

use std::time::Duration;

use jiff::Timestamp;
use ureq::http::HeaderValue;

use super::carrier::Refusal;
use super::message::Message;
use super::{alertmanager, report, signature, slack};
use crate::net::http::{Client, Reply, authorization};

pub use crate::net::http::Url;

/// Bytes of an answer that are read: it is worth a look, and no more.
const ANSWER: u64 = 800;

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
    client: Client,
}

impl Webhook {
    /// Prepares the connection; none is made yet.
    ///
    /// # Errors
    /// What is wrong with the settings, in a sentence.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let bearer = |token| authorization("Bearer", token);
        let authorization = settings.token.as_deref().map(bearer).transpose()?;
        let authorities = settings.authorities.as_deref();
        let mut client = Client::new(settings.url.clone(), authorities, None, settings.timeout)?;
        for secret in settings.token.iter().chain(&settings.secret) {
            client.hide(secret.clone());
        }
        Ok(Self {
            client,
            authorization,
            settings,
        })
    }

    /// Sends a message; the server's own answer comes back.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn send(&self, message: &Message) -> Result<String, Refusal> {
        let body = self.body(message).map_err(Refusal::Never)?;
        let header = |text: &str| {
            let value = HeaderValue::from_str(text);
            value.map_err(|_| Refusal::Never("a header holds what none can".to_owned()))
        };
        let mut headers = vec![
            ("Content-Type", HeaderValue::from_static("application/json")),
            // The same in each attempt: whoever gets it twice can tell.
            ("Idempotency-Key", header(&message.id.to_string())?),
        ];
        if let Some(authorization) = &self.authorization {
            headers.push(("Authorization", authorization.clone()));
        }
        if let Some(secret) = &self.settings.secret {
            let now = Timestamp::now().as_second();
            let signature = signature::header(secret, now, &body);
            headers.push((signature::HEADER, header(&signature)?));
        }
        let reply = self.client.post(None, &headers, &body, ANSWER);
        self.judge(&reply.map_err(Refusal::Later)?)
    }

    fn body(&self, message: &Message) -> Result<Vec<u8>, String> {
        let body = match self.settings.format {
            Format::Json => report::json(message),
            Format::Slack => serde_json::to_vec(&slack::json(message)),
            Format::Alertmanager => serde_json::to_vec(&alertmanager::json(message)),
        };
        body.map_err(|error| format!("the message is no JSON: {error}"))
    }

    fn judge(&self, reply: &Reply) -> Result<String, Refusal> {
        let told = self.client.judgement(reply);
        match reply.status {
            200..=299 => Ok(told),
            // The address may be right again tomorrow, and where it leads is not our administrator's choice.
            300..=399 => Err(Refusal::Later(format!(
                "{told} (redirects are not followed)"
            ))),
            408 | 425 | 429 | 500.. => Err(match reply.put_off {
                Some(span) => Refusal::After(told, span),
                None => Refusal::Later(told),
            }),
            _ => Err(Refusal::Never(told)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Format, Settings, Url, Webhook};

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
    fn nothing_that_is_told_holds_a_secret() {
        let webhook = webhook(SECRET);
        let told = webhook.client.told(
            "404 Cannot POST /services/T0000/B0000/Zx81?key=abcd1234 (Zx81, abcd1234, T0000)\r\nt0ken s3cret",
        );
        assert_eq!(
            told,
            r"https://hooks.example.org: 404 Cannot POST … (…, …, …)\x0d\x0a… …"
        );
        let long = webhook.client.told(&"x".repeat(10_000));
        assert!(long.chars().count() < 300, "{long}");
    }
}
