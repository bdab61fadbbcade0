//! What the probes say of themselves (`--kernel-log`), passed on to the daemon's own log.
//!
//! Off by default: the level is a constant of the probes, and the verifier removes what it switches off.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use tokio::io::unix::AsyncFd;

/// Follows the probes' log until the runtime ends.
///
/// # Errors
/// When the log's ring cannot be read.
pub(super) fn follow(ebpf: &mut Ebpf) -> std::io::Result<()> {
    let logger = EbpfLogger::init_with_logger(ebpf, IntoTracing).map_err(std::io::Error::other)?;
    // SAFETY: the logger owns its ring's descriptor, keeps it open while it lives, and always gives out
    // the same one.
    let mut logger = unsafe { AsyncFd::register(logger) }?;
    tokio::spawn(async move {
        loop {
            match logger.readable_mut().await {
                Ok(mut guard) => {
                    guard.get_inner_mut().flush();
                    guard.clear_ready();
                }
                Err(error) => {
                    tracing::warn!(%error, "the probes' log ended");
                    return;
                }
            }
        }
    });
    Ok(())
}

/// Records of the `log` crate, which aya writes, as records of `tracing`, which everything else does.
struct IntoTracing;

impl Log for IntoTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args();
        match record.level() {
            Level::Error => tracing::error!("kernel: {text}"),
            Level::Warn => tracing::warn!("kernel: {text}"),
            // Somebody asked for these by name: the daemon's own level does not hide them.
            Level::Info | Level::Debug | Level::Trace => tracing::info!("kernel: {text}"),
        }
    }

    fn flush(&self) {}
}
