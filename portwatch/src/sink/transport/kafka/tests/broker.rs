//! A broker that answers as a test likes, and keeps what it takes.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::net::Endpoint;
use crate::sink::transport::kafka::fuzz::framed;

/// What it does with a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// Answers with this code.
    Say(i16),
    /// Takes it, and hangs up without an answer.
    Vanish,
    /// Takes batches of no more records.
    Most(usize),
    /// Answers, and wants to be left alone for so many milliseconds.
    Throttle(u32),
}

/// A batch that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) producer: i64,
    pub(crate) sequence: i32,
    pub(crate) count: usize,
    /// It is on the disk because of this one, and not of one before.
    pub(crate) is_taken: bool,
    pub(crate) bytes: Vec<u8>,
}

/// What it says of itself, and does.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// Whom it tells of as the leader; itself where there is none.
    pub(crate) leader: Option<(&'static str, u16)>,
    /// What is wrong with the topic.
    pub(crate) topic: i16,
    /// It gives ids to producers, or says why not.
    pub(crate) producer: Option<i16>,
    /// It wants a login, with this mechanism alone.
    pub(crate) login: Option<&'static str>,
    /// What it does with each batch in turn; those behind the last are taken.
    pub(crate) acts: Vec<Act>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            leader: None,
            topic: 0,
            producer: Some(0),
            login: None,
            acts: Vec::new(),
        }
    }
}

#[derive(Clone)]
pub(crate) struct Broker {
    pub(crate) port: u16,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Broker {
    pub(crate) fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let came = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&came);
        // Ends with the process of the test.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (script, came) = (script.clone(), Arc::clone(&kept));
                thread::spawn(move || serve(client, port, &script, &came));
            }
        });
        Self { port, came }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            tls: None,
            patience: Duration::from_secs(5),
        }
    }

    pub(crate) fn came(&self) -> Vec<Came> {
        self.came.lock().expect("whole").clone()
    }
}

fn serve(mut client: TcpStream, port: u16, script: &Script, came: &Mutex<Vec<Came>>) -> Option<()> {
    let mut is_in = script.login.is_none();
    loop {
        let mut length = [0; 4];
        client.read_exact(&mut length).ok()?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        client.read_exact(&mut request).ok()?;
        let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let (api, version) = (number(0), number(2));
        let id = i32::from_be_bytes(request[4..8].try_into().expect("four"));
        let body = &request[10 + usize::try_from(number(8)).expect("a name")..];
        let answer = match api {
            18 => versions(script.producer.is_none()),
            17 => {
                let asked = String::from_utf8_lossy(&body[2..]);
                let offered = script.login.expect("nobody logs in");
                let code: i16 = if asked == offered { 0 } else { 33 };
                [
                    &code.to_be_bytes()[..],
                    &1_i32.to_be_bytes(),
                    &text(offered),
                ]
                .concat()
            }
            36 => {
                is_in = &body[4..] == b"\0ops\0hunter2";
                match is_in {
                    true => b"\0\0\xff\xff\0\0\0\0".to_vec(),
                    false => [&58_i16.to_be_bytes(), text("who?").as_slice(), &[0; 4]].concat(),
                }
            }
            _ if !is_in => return None,
            3 => {
                let (host, port) = script.leader.unwrap_or(("127.0.0.1", port));
                metadata(version, host, i32::from(port), script.topic)
            }
            22 => {
                let (code, id) = (script.producer?, 1_000_i64 + came.lock().ok()?.len() as i64);
                [&[0; 4], &code.to_be_bytes()[..], &id.to_be_bytes(), &[0, 0]].concat()
            }
            0 => take(body, version, script, came)?,
            api => panic!("request {api}"),
        };
        client.write_all(&framed(id, &answer)).ok()?;
    }
}

fn take(body: &[u8], version: i16, script: &Script, came: &Mutex<Vec<Came>>) -> Option<Vec<u8>> {
    // No transaction, acks, time, one topic, its name, one partition, its number, length.
    let name = usize::from(u16::from_be_bytes([body[12], body[13]]));
    let bytes = body[14 + name + 12..].to_vec();
    let at = |from: usize, to: usize| &bytes[from..to];
    let count = usize::try_from(u32::from_be_bytes(at(57, 61).try_into().expect("four")));
    let count = count.expect("a count");
    let producer = i64::from_be_bytes(at(43, 51).try_into().expect("eight"));
    let sequence = i32::from_be_bytes(at(53, 57).try_into().expect("four"));
    let mut came = came.lock().ok()?;
    let act = script.acts.get(came.len()).copied().unwrap_or(Act::Say(0));
    let is_there = came.iter().any(|one| {
        one.is_taken && producer >= 0 && (one.producer, one.sequence) == (producer, sequence)
    });
    let (code, throttle) = match act {
        _ if is_there => (0, 0),
        Act::Most(most) if count > most => (10, 0),
        Act::Most(_) | Act::Vanish => (0, 0),
        Act::Say(code) => (code, 0),
        Act::Throttle(millis) => (0, millis),
    };
    came.push(Came {
        producer,
        sequence,
        count,
        // Of 7, only a replica is late.
        is_taken: !is_there && matches!(code, 0 | 7),
        bytes,
    });
    let mut answer = produced(version, code, None);
    let at = answer.len() - 4;
    answer[at..].copy_from_slice(&throttle.to_be_bytes());
    (!matches!(act, Act::Vanish)).then_some(answer)
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

/// As a broker of 4.0 answers, with or without ids for producers.
pub(crate) fn versions(is_without: bool) -> Vec<u8> {
    let mut apis = vec![
        (0_i16, 3_i16, 12_i16),
        (3, 0, 13),
        (17, 0, 1),
        (18, 0, 4),
        (36, 0, 2),
    ];
    if !is_without {
        apis.push((22, 0, 5));
    }
    let count = u32::try_from(apis.len()).expect("few");
    let mut answer = [&[0, 0][..], &count.to_be_bytes()].concat();
    for (api, least, most) in apis {
        answer.extend([api, least, most].map(i16::to_be_bytes).as_flattened());
    }
    answer
}

/// One broker, one topic, four partitions.
pub(crate) fn metadata(version: i16, host: &str, port: i32, error: i16) -> Vec<u8> {
    const NODE: i32 = 7;
    let mut answer = Vec::new();
    let mut put = |bytes: &[u8]| answer.extend_from_slice(bytes);
    if version >= 3 {
        put(&[0; 4]);
    }
    put(&1_i32.to_be_bytes());
    put(&NODE.to_be_bytes());
    put(&text(host));
    put(&port.to_be_bytes());
    // No rack, a cluster, its controller, one topic.
    put(b"\xff\xff");
    put(&text("cluster"));
    put(&NODE.to_be_bytes());
    put(&1_i32.to_be_bytes());
    put(&error.to_be_bytes());
    put(&text("portwatch"));
    put(&[0]);
    put(&4_i32.to_be_bytes());
    for index in 0..4_i32 {
        put(&[0; 2]);
        put(&index.to_be_bytes());
        put(&NODE.to_be_bytes());
        if version >= 7 {
            put(&[0; 4]);
        }
        for _ in 0..if version >= 5 { 3 } else { 2 } {
            put(&1_i32.to_be_bytes());
            put(&NODE.to_be_bytes());
        }
    }
    answer
}

/// The same for every partition that a test may have: the answer is to one.
pub(crate) fn produced(version: i16, error: i16, words: Option<&str>) -> Vec<u8> {
    let mut answer = [&1_i32.to_be_bytes(), text("portwatch").as_slice()].concat();
    let mut put = |bytes: &[u8]| answer.extend_from_slice(bytes);
    put(&4_i32.to_be_bytes());
    for index in 0..4_i32 {
        put(&index.to_be_bytes());
        put(&error.to_be_bytes());
        put(&[0; 16]);
        if version >= 5 {
            put(&[0; 8]);
        }
        if version >= 8 {
            put(&0_i32.to_be_bytes());
            put(&words.map_or(b"\xff\xff".to_vec(), text));
        }
    }
    put(&[0; 4]);
    answer
}
