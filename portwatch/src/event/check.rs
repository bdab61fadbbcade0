//! The `check` object of an event: what asking an expected service came to.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An active check of an expected service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// In which protocol it was asked.
    pub protocol: CheckProtocol,
    /// Where: address and port, host name and port, or the path of a unix socket.
    pub target: String,
    /// `listener.down`: what went wrong the last time, in a few words; control characters escaped.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
    /// `listener.down`: how many times in a row it went wrong.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failures: Option<u32>,
}

/// What an active check asks.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum CheckProtocol {
    /// A connection is taken; nothing is said.
    Connect,
    /// The same, and a TLS handshake.
    Tls,
    /// The version that an SSH server begins with.
    Ssh,
    /// Greeting of a mail server, and its answer to EHLO.
    Smtp,
    /// The same within TLS.
    Smtps,
    /// The status of a page.
    Http,
    /// The same within TLS.
    Https,
    /// Greeting of a mail box server, and its answer to LOGOUT.
    Imap,
    /// The same within TLS.
    Imaps,
    /// Greeting of a mail box server, and its answer to QUIT.
    Pop3,
    /// The same within TLS.
    Pop3s,
    /// The answer to PING.
    Redis,
    /// The answer to a question for the root's name servers.
    Dns,
}
