//! From what is configured for a sink to what hands over for it: reads secrets and certificates.

use crate::config::Sink;
use crate::config::sinks::Kind;
use crate::sink::transport::Transport;

/// Makes the transport of a sink; nothing is sent yet. Nothing for a sink without a peer.
///
/// # Errors
/// What is wrong with the sink's settings, in a sentence that holds no secret.
#[expect(
    clippy::unnecessary_wraps,
    reason = "what has a peer may have settings that are wrong"
)]
pub(super) fn transport(sink: &Sink, _host: &str) -> Result<Option<Box<dyn Transport>>, String> {
    match &sink.kind {
        Kind::Stdout | Kind::File(_) => Ok(None),
    }
}
