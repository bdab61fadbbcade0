//! From what is configured for a channel to what delivers for it: reads secrets and certificates, finds users.

use std::io;
use std::path::Path;

use lettre::transport::smtp::authentication::Credentials;

use super::secret;
use crate::alert::carrier::Carrier;
use crate::alert::email::{Email, Mailer, PATIENCE, domain};
use crate::alert::exec::{self, Exec, User};
use crate::alert::journald::Journald;
use crate::alert::syslog::Syslog;
use crate::alert::webhook::{Settings, Url, Webhook};
use crate::config::Channel;
use crate::config::channels::{self, Kind};

/// Makes the carrier of a channel; nothing is sent yet.
///
/// # Errors
/// What is wrong with the channel's settings, in a sentence that holds no secret.
pub(super) fn carrier(channel: &Channel, host: &str) -> Result<Carrier, String> {
    match &channel.kind {
        Kind::Email(settings) => {
            let mailer = email(settings, host).and_then(Mailer::new);
            mailer.map(|mailer| Carrier::Email(Box::new(mailer)))
        }
        Kind::Webhook(settings) => {
            let webhook = webhook(settings).and_then(Webhook::new);
            webhook.map(|webhook| Carrier::Webhook(Box::new(webhook)))
        }
        Kind::Exec(settings) => exec(settings).map(Carrier::Exec),
        Kind::Syslog(settings) => Ok(Carrier::Syslog(Syslog {
            socket: settings.socket.clone(),
            facility: settings.facility,
            tag: settings.tag.clone(),
        })),
        Kind::Journald(settings) => Ok(Carrier::Journald(Journald {
            socket: settings.socket.clone(),
        })),
    }
}

fn email(settings: &channels::Email, host: &str) -> Result<Email, String> {
    let mailbox = |text: &String| {
        let parsed = text.parse();
        parsed.map_err(|error| format!("`{text}` is no address: {error}"))
    };
    let (servers, security) = settings.servers();
    let host = domain(host);
    let from = settings
        .from
        .clone()
        .unwrap_or_else(|| format!("portwatch@{host}"));
    let login = match (&settings.user, &settings.password_file) {
        (Some(user), Some(file)) => Some(Credentials::new(user.clone(), secret::read(file)?)),
        _ => None,
    };
    Ok(Email {
        to: settings.to.iter().map(mailbox).collect::<Result<_, _>>()?,
        from: mailbox(&from)?,
        subject: settings.subject.clone(),
        servers,
        security,
        authorities: authorities(settings.ca_file.as_deref())?,
        login,
        hello: host,
        patience: settings.timeout.unwrap_or(PATIENCE),
    })
}

fn webhook(settings: &channels::Webhook) -> Result<Settings, String> {
    let url = match (&settings.url, &settings.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(file)) => {
            Url::parse(&secret::read(file)?).map_err(|why| format!("{}: {why}", file.display()))?
        }
        (None, None) => return Err("a webhook needs an address".to_owned()),
    };
    settings.permits(&url)?;
    let read = |path: &Option<_>| path.as_deref().map(secret::read).transpose();
    Ok(Settings {
        url,
        format: settings.format,
        authorities: authorities(settings.ca_file.as_deref())?,
        secret: read(&settings.secret_file)?,
        token: read(&settings.token_file)?,
        timeout: settings.timeout,
    })
}

fn exec(settings: &channels::Exec) -> Result<Exec, String> {
    let (program, arguments) = settings.parts();
    exec::check(&program).map_err(|why| format!("{} {why}", program.display()))?;
    let user = settings.user.as_deref().map(user).transpose()?;
    Ok(Exec {
        program,
        arguments,
        user,
        timeout: settings.timeout,
    })
}

fn user(name: &str) -> Result<User, String> {
    let user = uzers::get_user_by_name(name).ok_or_else(|| format!("there is no user {name}"))?;
    Ok(User {
        uid: user.uid(),
        gid: user.primary_group_id(),
    })
}

fn authorities(file: Option<&Path>) -> Result<Option<Vec<u8>>, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| cannot_read(path, &error));
    file.map(read).transpose()
}

fn cannot_read(path: &Path, error: &io::Error) -> String {
    format!("{} cannot be read: {error}", path.display())
}
