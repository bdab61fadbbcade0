//! How a message leaves the host, and why it may not: the same for every kind of channel.

use std::time::Duration;

use thiserror::Error;

use super::email::Mailer;
use super::exec::Exec;
use super::journald::Journald;
use super::message::Message;
use super::syslog::Syslog;
use super::webhook::Webhook;

/// Why a message was not taken. The sentence shows no secret and no control character.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing can be delivered now: the other side is not there, or says so.
    #[error("{0}")]
    Later(String),
    /// The same, and the other side says when.
    #[error("{0}")]
    After(String, Duration),
    /// This message may be taken later; others may be taken now.
    #[error("{0}")]
    PutOff(String),
    /// It, or a part of it, will never be taken.
    #[error("{0}")]
    Never(String),
}

/// What delivers the messages of one channel.
pub enum Carrier {
    /// SMTP.
    Email(Box<Mailer>),
    /// HTTP.
    Webhook(Box<Webhook>),
    /// A program.
    Exec(Exec),
    /// The system's log.
    Syslog(Syslog),
    /// systemd's journal.
    Journald(Journald),
}

impl Carrier {
    /// Delivers a message and waits for the other side's answer, which comes back. What was refused is not
    /// delivered, or delivered in part: a receiver knows a repetition by the id of the message.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn send(&self, message: &Message) -> Result<String, Refusal> {
        match self {
            Self::Email(mailer) => mailer.send(message),
            Self::Webhook(webhook) => webhook.send(message),
            Self::Exec(exec) => exec.send(message),
            Self::Syslog(syslog) => syslog.send(message),
            Self::Journald(journald) => journald.send(message),
        }
    }

    /// Nothing is to be delivered for a while: a connection that waits for more is closed.
    pub fn rest(&self) {
        if let Self::Email(mailer) = self {
            mailer.rest();
        }
    }
}
