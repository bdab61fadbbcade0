//! What no other model has a field for, under our own names: `portwatch` in ECS, `unmapped` in OCSF.

use serde::Serialize;

use crate::event::{
    Ancestor, Check, Event, Exposure, Family, Gap, Heartbeat, Owner, PolicyState, Previous,
    Process, Protocol, Reconciled, Response, Scan, Sensor, Socket, SocketType, State, Storm,
};

/// For whose model it is the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    /// It knows parents only, and numbers up to 63 bits.
    Ecs,
    /// It knows all ancestors, and numbers of 31 bits.
    Ocsf,
}

/// The rest of an event.
#[derive(Debug, Serialize)]
pub(super) struct Own<'e> {
    schema: &'e str,
    /// Where the model's own field is too small for the number.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<OwnSocket<'e>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    process: Option<OwnProcess<'e>>,
    #[serde(skip_serializing_if = "<[Owner]>::is_empty")]
    owners: &'e [Owner],
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<OwnPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<&'e Previous>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old_state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    check: Option<&'e Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<&'e Gap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reconciled: Option<&'e Reconciled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sensor: Option<&'e Sensor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    storm: Option<&'e Storm>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scan: Option<&'e Scan>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'e Response>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat: Option<&'e Heartbeat>,
}

/// The socket without its addresses and ports, which every model has.
#[derive(Debug, Serialize)]
struct OwnSocket<'e> {
    family: Family,
    #[serde(rename = "type")]
    kind: SocketType,
    protocol: Protocol,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_as_bound: Option<&'e str>,
    #[serde(rename = "abstract", skip_serializing_if = "Option::is_none")]
    abstract_name: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cookie: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol_number: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    v6only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reuseport: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'e str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exposure: Option<Exposure>,
}

/// What is known of a process beyond what models ask.
#[derive(Debug, Serialize)]
struct OwnProcess<'e> {
    #[serde(skip_serializing_if = "Option::is_none")]
    exe_deleted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe_memfd: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    args_truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loginuid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'e str>,
    #[serde(skip_serializing_if = "<[Ancestor]>::is_empty")]
    ancestors: &'e [Ancestor],
    #[serde(skip_serializing_if = "Option::is_none")]
    unresolved: Option<&'e str>,
}

#[derive(Debug, Serialize)]
struct OwnPolicy {
    state: PolicyState,
}

impl<'e> Own<'e> {
    /// Of this event.
    pub(super) fn of(event: &'e Event, model: Model) -> Self {
        let most = match model {
            Model::Ecs => i64::MAX.unsigned_abs(),
            Model::Ocsf => i32::MAX.unsigned_abs().into(),
        };
        Self {
            schema: &event.schema,
            seq: Some(event.seq).filter(|seq| *seq > most),
            socket: event.socket.as_ref().map(OwnSocket::of),
            process: event
                .process
                .as_ref()
                .and_then(|process| OwnProcess::of(process, model)),
            owners: &event.owners,
            policy: event.policy.as_ref().map(|policy| OwnPolicy {
                state: policy.state,
            }),
            previous: event.previous.as_ref(),
            old_state: event.old_state,
            new_state: event.new_state,
            check: event.check.as_ref(),
            gap: event.gap.as_ref(),
            reconciled: event.reconciled.as_ref(),
            sensor: event.sensor.as_ref(),
            storm: event.storm.as_ref(),
            scan: event.scan.as_ref(),
            response: event.response.as_ref(),
            heartbeat: event.heartbeat.as_ref(),
        }
    }
}

impl<'e> OwnSocket<'e> {
    fn of(socket: &'e Socket) -> Self {
        Self {
            family: socket.family,
            kind: socket.kind,
            protocol: socket.protocol,
            path: socket.path.as_deref(),
            path_as_bound: socket.path_as_bound.as_deref(),
            abstract_name: socket.abstract_name.as_deref(),
            backlog: socket.backlog,
            cookie: socket.cookie,
            inode: socket.inode,
            netns: socket.netns,
            interface: socket.interface.as_deref(),
            ifindex: socket.ifindex,
            protocol_number: socket.protocol_number,
            v6only: socket.v6only,
            reuseport: socket.reuseport,
            service: socket.service.as_deref(),
            exposure: socket.exposure,
        }
    }
}

impl<'e> OwnProcess<'e> {
    /// `None` of nothing.
    fn of(process: &'e Process, model: Model) -> Option<Self> {
        let own = Self {
            exe_deleted: process.exe_deleted,
            exe_memfd: process.exe_memfd,
            args_truncated: process.args_truncated,
            loginuid: process.loginuid,
            unit: process.unit.as_deref(),
            ancestors: match model {
                Model::Ecs => &process.ancestors,
                Model::Ocsf => &[],
            },
            unresolved: process.unresolved.as_deref(),
        };
        let has_any = own.exe_deleted.is_some()
            || own.exe_memfd.is_some()
            || own.args_truncated.is_some()
            || own.loginuid.is_some()
            || own.unit.is_some()
            || !own.ancestors.is_empty()
            || own.unresolved.is_some();
        has_any.then_some(own)
    }
}
