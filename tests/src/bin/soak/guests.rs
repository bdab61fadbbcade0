//! Players at the daemon's own door: clients that never read, break off, or talk nonsense.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Player, Stage};

const STATES: &[u8] = b"{\"portwatch\":1,\"request\":\"tail\",\"states\":true}\n";
const PAST: &[u8] = b"{\"portwatch\":1,\"request\":\"tail\",\"since_ms\":600000}\n";
const LIST: &[u8] = b"{\"portwatch\":1,\"request\":\"list\"}\n";
const STATUS: &[u8] = b"{\"portwatch\":1,\"request\":\"status\"}\n";
/// How long an answer may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that is connected and does nothing more.
struct Guest(UnixStream);

impl Player for Guest {
    fn leave(self: Box<Self>, _stage: &mut Stage) -> Result<()> {
        drop(self.0);
        Ok(())
    }
}

/// Somebody comes to the control socket.
pub(crate) fn guest(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let mut stream = UnixStream::connect(&stage.daemon.1).context("the daemon's socket is gone")?;
    let says = match stage.chance.below(7) {
        // Hangs up without a word.
        0 => return Ok(None),
        1 => b"{\"portwatch\":1,\"req".as_slice(),
        2 => b"GET / HTTP/1.1\r\n\r\n",
        3 => LIST,
        4 => {
            stream.write_all(STATUS)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = Vec::new();
            stream
                .read_to_end(&mut answer)
                .context("status was not answered")?;
            return Ok(None);
        }
        5 => PAST,
        _ => STATES,
    };
    // All seats may be taken: then the daemon has hung up already.
    let _ = stream.write_all(says);
    Ok(Some(Box::new(Guest(stream))))
}

/// The signal that many daemons reload on.
pub(crate) fn hangup(stage: &mut Stage) -> Result<Option<Box<dyn Player>>> {
    let daemon = i32::try_from(stage.daemon.0).ok().and_then(Pid::from_raw);
    kill_process(daemon.context("no pid")?, Signal::HUP).context("the daemon is gone")?;
    Ok(None)
}
