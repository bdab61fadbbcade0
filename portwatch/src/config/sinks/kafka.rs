//! `type = "kafka"`: a topic of Kafka, or of what speaks its protocol. Pure.

use std::path::PathBuf;

use toml::de::DeValue;

use super::way::{Address, Way, address};
use crate::config::values::{Apply, each, secret_file, set, string, truth, word_of};
use crate::sink::transport::kafka::Mechanism;

/// Longest name of a topic, as Kafka has it.
const TOPIC: usize = 249;

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kafka {
    /// Brokers of one cluster, tried in turn; they tell of the others.
    pub servers: Vec<Address>,
    /// The topic.
    pub topic: String,
    /// Ask for it to be made when it is not there.
    pub create_topic: bool,
    /// Pack what is sent.
    pub gzip: bool,
    /// User …
    pub user: Option<String>,
    /// … with a password …
    pub password_file: Option<PathBuf>,
    /// … that is shown like this; by a proof with SHA-512 when it is not said.
    pub mechanism: Option<Mechanism>,
    /// How they are reached.
    pub way: Way,
}

impl Default for Kafka {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            topic: "portwatch".to_owned(),
            create_topic: false,
            gzip: true,
            user: None,
            password_file: None,
            mechanism: None,
            way: Way::default(),
        }
    }
}

pub(super) const KEYS: &[(&str, Apply<Kafka>)] = &[
    ("servers", |kafka, value| {
        set(&mut kafka.servers, each(value, address))
    }),
    ("topic", |kafka, value| set(&mut kafka.topic, topic(value))),
    ("create_topic", |kafka, value| {
        set(&mut kafka.create_topic, truth(value))
    }),
    ("gzip", |kafka, value| set(&mut kafka.gzip, truth(value))),
    ("user", |kafka, value| {
        set(&mut kafka.user, string(value).map(Some))
    }),
    ("password_file", |kafka, value| {
        set(&mut kafka.password_file, secret_file(value).map(Some))
    }),
    ("mechanism", |kafka, value| {
        let chosen = word_of(value, &Mechanism::ALL);
        set(&mut kafka.mechanism, chosen.map(Some))
    }),
];

pub(super) fn check(kafka: &Kafka, wrong: &mut dyn FnMut(&str)) {
    let Some(first) = kafka.servers.first() else {
        wrong(
            "a sink of type kafka needs its `servers`, such as [\"tls://kafka1.example.org:9093\"]",
        );
        return;
    };
    let is_user = kafka.user.is_some();
    if is_user != kafka.password_file.is_some() {
        wrong("`user` and `password_file` go together: give both");
    }
    if kafka.mechanism.is_some() && !is_user {
        wrong("`mechanism` is how `user` logs in: give it as well");
    }
    // The cluster tells where its other brokers are, and not whether by TLS.
    if kafka.servers.iter().any(|server| server.tls != first.tls) {
        wrong("`servers` are of one cluster: all of them with tls://, or none");
    }
    for server in &kafka.servers {
        let permitted = kafka.way.permits(server.tls, server.is_here(), is_user);
        if let Err(why) = permitted {
            wrong(&why);
            return;
        }
    }
}

fn topic(value: &DeValue<'_>) -> Result<String, String> {
    let text = string(value)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_dots = matches!(text.as_str(), "." | "..");
    match text.len() <= TOPIC && !is_dots && text.bytes().all(plain) {
        true => Ok(text),
        false => Err(format!(
            "expected a name of at most {TOPIC} letters, digits, `-`, `_` and full stops"
        )),
    }
}
