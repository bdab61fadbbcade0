//! From what is configured for a sink to what hands over for it: reads secrets and certificates.

use std::sync::Arc;

use super::files::Files;
use crate::config::Sink;
use crate::config::sinks::{self, Address, Kind, Way};
use crate::event::Host;
use crate::net::http::{Client, Url, authorization};
use crate::net::{self, Endpoint, Identity};
use crate::render::Format;
use crate::sink::transport::Transport;
use crate::sink::transport::http::{Http, Settings, Shape, basic};
use crate::sink::transport::journald::Journald;
use crate::sink::transport::kafka::{self, Kafka, Mechanism};
use crate::sink::transport::nats::{self, Login, Nats};
use crate::sink::transport::relp::Relp;
use crate::sink::transport::syslog::{Envelope, Place, Syslog};

/// Makes the transport of a sink; nothing is sent yet. Nothing for a sink without a peer.
///
/// # Errors
/// What is wrong with the sink's settings, in a sentence that holds no secret.
pub(super) fn transport(
    sink: &Sink,
    of: &Host,
    files: &mut Files,
) -> Result<Option<Box<dyn Transport>>, String> {
    let host = of.name.as_str();
    let made: Box<dyn Transport> = match &sink.kind {
        Kind::Stdout | Kind::File(_) => return Ok(None),
        Kind::Syslog(settings) => {
            let place = match &settings.address {
                None => Place::Local {
                    socket: settings.socket.clone(),
                    patience: settings.way.timeout,
                },
                Some(address) => Place::Remote {
                    endpoint: endpoint(address, &settings.way, files)?,
                    confirm: settings.confirm,
                },
            };
            Box::new(Syslog::new(place, envelope(settings, sink.format, host)))
        }
        Kind::Relp(settings) => {
            let Some(address) = &settings.address else {
                return Err("RELP needs an `address`".to_owned());
            };
            let endpoint = endpoint(address, &settings.way, files)?;
            Box::new(Relp::new(endpoint, envelope(settings, sink.format, host)))
        }
        Kind::Journald(settings) => {
            Box::new(Journald::new(settings.socket.clone(), settings.timeout))
        }
        Kind::Http(settings) => Box::new(http(settings, sink.format, host, files)?),
        Kind::Nats(settings) => Box::new(stream(settings, host, files)?),
        Kind::Kafka(settings) => Box::new(topic(settings, of, files)?),
    };
    Ok(Some(made))
}

fn envelope(settings: &sinks::Syslog, format: Format, host: &str) -> Envelope {
    Envelope {
        facility: settings.facility,
        tag: settings.tag.clone(),
        host: host.to_owned(),
        is_whole: format == Format::Rfc5424,
    }
}

fn http(
    settings: &sinks::Http,
    format: Format,
    host: &str,
    files: &mut Files,
) -> Result<Http, String> {
    let url = match (&settings.url, &settings.url_file) {
        (Some(url), _) => url.clone(),
        (None, Some(file)) => {
            Url::parse(&files.secret(file)?).map_err(|why| format!("{}: {why}", file.display()))?
        }
        (None, None) => return Err("a server needs an address".to_owned()),
    };
    settings.permits(&url)?;
    let scheme = match settings.shape {
        Shape::Splunk { .. } => "Splunk",
        Shape::Elasticsearch { .. } => "ApiKey",
        _ => "Bearer",
    };
    let authorization = match (
        &settings.token_file,
        &settings.user,
        &settings.password_file,
    ) {
        (Some(file), ..) => Some(authorization(scheme, &files.secret(file)?)?),
        (None, Some(user), Some(file)) => Some(basic(user, &files.secret(file)?)?),
        _ => None,
    };
    let Way { timeout, .. } = settings.way;
    let authorities = authorities(&settings.way, files)?;
    let identity = identity(&settings.way, files)?;
    Ok(Http::new(Settings {
        client: Client::new(url, authorities.as_deref(), identity.as_ref(), timeout)?,
        shape: settings.shape.clone(),
        authorization,
        gzip: settings.gzip,
        host: host.to_owned(),
        is_json: matches!(format, Format::Json | Format::Ecs | Format::Ocsf),
        patience: timeout,
    }))
}

fn stream(settings: &sinks::Nats, host: &str, files: &mut Files) -> Result<Nats, String> {
    let login = match (
        &settings.credentials_file,
        &settings.token_file,
        &settings.user,
        &settings.password_file,
    ) {
        (Some(file), ..) => {
            let parsed = Login::parse(&files.secret_text(file)?);
            Some(parsed.map_err(|why| format!("{}: {why}", file.display()))?)
        }
        (None, Some(file), ..) => Some(Login::Token(files.secret(file)?)),
        (None, None, Some(user), Some(file)) => {
            Some(Login::Password(user.clone(), files.secret(file)?))
        }
        _ => None,
    };
    let servers = settings.servers.iter();
    let servers = servers.map(|address| endpoint(address, &settings.way, files));
    Ok(Nats::new(nats::Settings {
        servers: servers.collect::<Result<_, _>>()?,
        subject: settings.subject.replace("{host}", &nats::token(host)),
        stream: settings.stream.clone(),
        create: settings.create_stream,
        login,
    }))
}

fn topic(settings: &sinks::Kafka, host: &Host, files: &mut Files) -> Result<Kafka, String> {
    let login = match (&settings.user, &settings.password_file) {
        (Some(user), Some(file)) => Some(kafka::Login {
            mechanism: settings.mechanism.unwrap_or(Mechanism::Sha512),
            user: user.clone(),
            password: files.secret(file)?,
        }),
        _ => None,
    };
    let servers = settings.servers.iter();
    let servers = servers.map(|address| endpoint(address, &settings.way, files));
    Ok(Kafka::new(kafka::Settings {
        servers: servers.collect::<Result<_, _>>()?,
        topic: settings.topic.clone(),
        create: settings.create_topic,
        // A name may be given anew, and be that of two hosts.
        key: host.id.as_ref().unwrap_or(&host.name).clone(),
        gzip: settings.gzip,
        is_anywhere: settings.way.insecure && login.is_none(),
        login,
    }))
}

fn endpoint(address: &Address, way: &Way, files: &mut Files) -> Result<Endpoint, String> {
    let tls = match address.tls {
        false => None,
        true => {
            let (authorities, identity) = (authorities(way, files)?, identity(way, files)?);
            let config = net::client(authorities.as_deref(), identity.as_ref())?;
            Some(Arc::new(config))
        }
    };
    Ok(Endpoint {
        host: address.host.clone(),
        port: address.port,
        tls,
        patience: way.timeout,
    })
}

fn authorities(way: &Way, files: &mut Files) -> Result<Option<Vec<u8>>, String> {
    let file = way.ca_file.as_deref();
    file.map(|file| files.open_to_all(file)).transpose()
}

fn identity(way: &Way, files: &mut Files) -> Result<Option<Identity>, String> {
    let (Some(chain), Some(key)) = (&way.cert_file, &way.key_file) else {
        return Ok(None);
    };
    Ok(Some(Identity {
        chain: files.open_to_all(chain)?,
        key: files.secret_text(key)?.into_bytes(),
    }))
}
