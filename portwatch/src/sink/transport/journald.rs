//! Records to systemd's journal by its native protocol: a datagram an entry, with fields to search by. An entry that is
//! longer than a datagram goes as a sealed file in memory.

use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::{Delivery, Parcel, Transport};
use crate::alert::journald::{MESSAGE_ID, event_fields};
use crate::event::Event;
use crate::net::told;
use crate::text::{clip, escape, guard};

/// Characters of a field, but for the whole record.
const FIELD: usize = 4_096;

/// A journal.
#[derive(Debug)]
pub struct Journald {
    socket: PathBuf,
    patience: Duration,
    open: Option<UnixDatagram>,
}

impl Journald {
    /// Its socket, and how long it may take to take one entry.
    #[must_use]
    pub const fn new(socket: PathBuf, patience: Duration) -> Self {
        Self {
            socket,
            patience,
            open: None,
        }
    }

    fn connect(&self) -> io::Result<UnixDatagram> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(self.patience))?;
        socket.connect(&self.socket)?;
        Ok(socket)
    }
}

impl Transport for Journald {
    fn deliver(&mut self, parcels: &[Parcel]) -> Delivery {
        let shown = escape(self.socket.as_os_str().as_encoded_bytes());
        let patience = self.patience;
        let failed = |error: &io::Error| format!("{shown}: {}", told(error, patience));
        let socket = match self.open.take().map_or_else(|| self.connect(), Ok) {
            Ok(socket) => socket,
            Err(error) => return Delivery::later(0, failed(&error)),
        };
        for (taken, parcel) in parcels.iter().enumerate() {
            if let Err(error) = send(&socket, &entry(parcel)) {
                return Delivery::later(taken, failed(&error));
            }
        }
        self.open = Some(socket);
        Delivery::all(parcels.len())
    }

    fn rest(&mut self) {
        self.open = None;
    }
}

fn send(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    match socket.send(entry) {
        Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => send_file(socket, entry),
        sent => sent.map(drop),
    }
}

/// The journal takes a file that nobody can change any more for the datagram.
fn send_file(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("portwatch-journal-entry", flags)?;
    let mut file = std::fs::File::from(file);
    file.write_all(entry)?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    if !control.push(SendAncillaryMessage::ScmRights(&files)) {
        return Err(io::Error::other("bug: no room for one file"));
    }
    sendmsg(
        socket,
        &[IoSlice::new(&[])],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

/// An entry: `NAME=value` a line. A record in our own JSON is told by its sentence and has fields of its own.
fn entry(parcel: &Parcel) -> Vec<u8> {
    let mut out = Vec::with_capacity(parcel.line.len() + 1024);
    let event: Option<Event> = serde_json::from_slice(&parcel.line).ok();
    let line = String::from_utf8_lossy(&parcel.line);
    let mut add = |name: &str, value: &str| {
        let value = guard(value);
        for part in [name, "=", &value, "\n"] {
            out.extend_from_slice(part.as_bytes());
        }
    };
    match &event {
        Some(event) => add("MESSAGE", &event.message),
        None => add("MESSAGE", &line),
    }
    add("PRIORITY", &parcel.severity.syslog().to_string());
    add("SYSLOG_IDENTIFIER", "portwatch");
    add("MESSAGE_ID", MESSAGE_ID);
    add("PORTWATCH_EVENT", parcel.kind.as_str());
    add("PORTWATCH_EVENT_ID", &parcel.id.to_string());
    add("PORTWATCH_SEVERITY", parcel.severity.as_str());
    if let Some(event) = &event {
        add("PORTWATCH_TIME", &event.ts);
        event_fields(event, &mut |name, value| {
            if let Some(value) = value {
                add(name, &clip(&guard(&value), FIELD, |_| 1));
            }
        });
        add("PORTWATCH_JSON", &line);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::io::{IoSliceMut, Read as _, Seek as _};
    use std::mem::MaybeUninit;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

    use super::{Journald, entry};
    use crate::event::example::examples;
    use crate::sink::transport::testing::parcels;
    use crate::sink::transport::{Delivery, Parcel, Transport as _, Trouble};

    fn event() -> Parcel {
        let event = &examples()[0];
        Parcel {
            line: serde_json::to_vec(event).expect("JSON"),
            ..parcels(1).remove(0)
        }
    }

    #[test]
    fn an_event_has_its_fields_and_is_there_whole() {
        let text = String::from_utf8(entry(&event())).expect("text");
        for field in [
            "PRIORITY=5",
            "PORTWATCH_EVENT=listener.opened",
            "PORTWATCH_PROTOCOL=tcp",
        ] {
            assert!(text.lines().any(|line| line == field), "{field} in\n{text}");
        }
        let json = text
            .lines()
            .find_map(|line| line.strip_prefix("PORTWATCH_JSON="));
        assert_eq!(json.map(str::as_bytes), Some(event().line.as_slice()));
        // Of another format there is only the text.
        let text = String::from_utf8(entry(&parcels(1)[0])).expect("text");
        assert!(
            text.starts_with("MESSAGE={\"n\":0}\n") && !text.contains("JSON"),
            "{text}"
        );
    }

    #[test]
    fn entries_are_datagrams_and_long_ones_are_files() {
        let folder = tempfile::tempdir().expect("dir");
        let path = folder.path().join("socket");
        let mut journald = Journald::new(path.clone(), Duration::from_secs(2));
        let away = journald.deliver(&parcels(1));
        assert!(matches!(away.trouble, Some(Trouble::Later(_))), "{away:?}");
        let socket = UnixDatagram::bind(&path).expect("bound");
        let mut all = parcels(2);
        // Longer than the kernel takes as a datagram.
        all[1].line = vec![b'x'; 1 << 20];
        assert_eq!(journald.deliver(&all), Delivery::all(2));
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("a datagram");
        assert!(buffer[..length].starts_with(b"MESSAGE={\"n\":0}\n"));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut slices = [IoSliceMut::new(&mut buffer)];
        recvmsg(&socket, &mut slices, &mut control, RecvFlags::empty()).expect("a datagram");
        let mut files = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => files.collect::<Vec<_>>(),
            _ => Vec::new(),
        });
        let mut file = std::fs::File::from(files.next().expect("a file"));
        let mut text = Vec::new();
        file.rewind().expect("the beginning");
        file.read_to_end(&mut text).expect("an entry");
        assert!(text.starts_with(b"MESSAGE=xxx") && text.len() > 1 << 20);
    }
}
