//! `[webhook]`: where to POST, in which shape, and how to say who we are. Pure.

use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::{Apply, absolute, secret_file, span};
use crate::alert::webhook::{Format, Url};
use crate::config::values::{set, string, truth};

/// Where Alertmanager takes alerts.
const ALERTMANAGER: &str = "/api/v2/alerts";

/// `[webhook]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// The address …
    pub url: Option<Url>,
    /// … or a file that holds it, where it is a secret.
    pub url_file: Option<PathBuf>,
    /// The shape of the body.
    pub format: Format,
    /// Certificates of authorities besides those of the system.
    pub ca_file: Option<PathBuf>,
    /// File that holds the secret to sign with.
    pub secret_file: Option<PathBuf>,
    /// File that holds a token.
    pub token_file: Option<PathBuf>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Everybody on the way may read and change it.
    pub insecure_http: bool,
}

impl Default for Webhook {
    fn default() -> Self {
        Self {
            url: None,
            url_file: None,
            format: Format::default(),
            ca_file: None,
            secret_file: None,
            token_file: None,
            timeout: Duration::from_secs(10),
            insecure_http: false,
        }
    }
}

impl Webhook {
    /// May messages go to this address?
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub fn permits(&self, url: &Url) -> Result<(), String> {
        if self.format == Format::Alertmanager && !url.path().ends_with(ALERTMANAGER) {
            return Err(format!(
                "the URL of an Alertmanager ends with {ALERTMANAGER}"
            ));
        }
        if url.is_protected() || url.is_here() {
            return Ok(());
        }
        if !self.insecure_http {
            return Err(
                "without TLS everybody on the way can read and change alerts: use https, \
                        or say `insecure_http = true`"
                    .to_owned(),
            );
        }
        match self.token_file {
            Some(_) => Err("a token never goes over a connection without TLS".to_owned()),
            None => Ok(()),
        }
    }
}

pub(super) const KEYS: &[(&str, Apply<Webhook>)] = &[
    ("url", |webhook, value| {
        let url = string(value).and_then(|text| Url::parse(&text));
        set(&mut webhook.url, url.map(Some))
    }),
    ("url_file", |webhook, value| {
        set(&mut webhook.url_file, secret_file(value).map(Some))
    }),
    ("format", |webhook, value| {
        set(&mut webhook.format, format(value))
    }),
    ("ca_file", |webhook, value| {
        set(&mut webhook.ca_file, absolute(value).map(Some))
    }),
    ("secret_file", |webhook, value| {
        set(&mut webhook.secret_file, secret_file(value).map(Some))
    }),
    ("token_file", |webhook, value| {
        set(&mut webhook.token_file, secret_file(value).map(Some))
    }),
    ("timeout", |webhook, value| {
        set(&mut webhook.timeout, span(value, 1, 120))
    }),
    ("insecure_http", |webhook, value| {
        set(&mut webhook.insecure_http, truth(value))
    }),
];

/// What no single key can tell.
pub(super) fn check(webhook: &Webhook, wrong: &mut dyn FnMut(&str)) {
    match (&webhook.url, &webhook.url_file) {
        (Some(_), Some(_)) => wrong("`url` and `url_file` are two addresses: leave one out"),
        (None, None) => wrong("a webhook needs an address: `url` or `url_file`"),
        (Some(url), None) if webhook.format == Format::Slack && !url.is_here() => wrong(
            "whoever knows the URL of a Slack webhook can write there: put it in a file that only \
             root can read, and name that with `url_file`",
        ),
        (Some(url), None) => {
            if let Err(why) = webhook.permits(url) {
                wrong(&why);
            }
        }
        // It is looked at when the file is read.
        (None, Some(_)) => {}
    }
}

fn format(value: &DeValue<'_>) -> Result<Format, String> {
    match value.as_str() {
        Some("json") => Ok(Format::Json),
        Some("slack") => Ok(Format::Slack),
        Some("alertmanager") => Ok(Format::Alertmanager),
        _ => Err(r#"expected "json", "slack" or "alertmanager""#.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Format, Webhook};
    use crate::alert::webhook::Url;
    use crate::config::channels::Kind;
    use crate::config::channels::tests::{one_mistake, parsed};

    #[test]
    fn every_key_is_taken() {
        let (channels, mistakes) = parsed(
            "[[webhook]]\nurl = \"https://hooks.example.org/portwatch\"\nca_file = \"/etc/ca.pem\"\n\
             secret_file = \"/etc/portwatch/secret\"\ntoken_file = \"token\"\ntimeout = \"5s\"\n\
             [[webhook]]\nname = \"chat\"\nformat = \"slack\"\nurl_file = \"slack\"\n\
             [[webhook]]\nname = \"am\"\nformat = \"alertmanager\"\nurl = \"http://127.0.0.1:9093/api/v2/alerts\"\n\
             [[webhook]]\nname = \"plain\"\nurl = \"http://10.0.0.1/\"\ninsecure_http = true\n",
        );
        assert_eq!(mistakes, [""; 0]);
        let [Kind::Webhook(first), Kind::Webhook(chat), ..] = [0, 1].map(|at| &channels[at].kind)
        else {
            panic!("{channels:?}")
        };
        assert_eq!(first.timeout, Duration::from_secs(5));
        assert_eq!((chat.format, &chat.url), (Format::Slack, &None));
        assert!(!format!("{channels:?}").contains("hooks.example.org/"));
    }

    #[test]
    fn what_is_wrong_or_missing_is_told() {
        for (keys, expected) in [
            ("", "needs an address"),
            ("url = \"hook\"", "url: expected a URL such as"),
            ("url = \"https://a.b/\"\nurl_file = \"u\"", "two addresses"),
            ("url = \"http://10.0.0.1/\"", "`insecure_http = true`"),
            (
                "url = \"http://10.0.0.1/\"\ninsecure_http = true\ntoken_file = \"t\"",
                "a token never goes",
            ),
            ("url = \"https://u:p@a.b/\"", "use `token_file`"),
            (
                "url = \"https://hooks.slack.com/x\"\nformat = \"slack\"",
                "with `url_file`",
            ),
            (
                "url = \"https://a.b/\"\nformat = \"alertmanager\"",
                "ends with /api/v2/alerts",
            ),
            (
                "url = \"https://a.b/\"\nformat = \"xml\"",
                "expected \"json\"",
            ),
            ("url = \"https://a.b/\"\ntimeout = \"1h\"", "1 s to 120 s"),
            (
                "url = \"https://a.b/\"\nsecret_file = \"./s\"",
                "absolute path",
            ),
            (
                "url = \"https://a.b/\"\nto = \"a@b.c\"",
                "`to` belongs to [email]",
            ),
            ("urls = \"https://a.b/\"", "did you mean `url`?"),
        ] {
            let mistake = one_mistake(&format!("[webhook]\n{keys}\n"));
            assert!(mistake.contains(expected), "{keys}: {mistake}");
        }
    }

    #[test]
    fn an_address_from_a_file_is_held_to_the_same() {
        let webhook = Webhook::default();
        let permits = |url: &str| webhook.permits(&Url::parse(url).expect("a URL"));
        assert_eq!(permits("https://example.org/"), Ok(()));
        assert_eq!(permits("http://localhost:8080/"), Ok(()));
        assert!(permits("http://example.org/").is_err());
    }
}
