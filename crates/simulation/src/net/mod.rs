//! A network of TCP connections as the two ends see them: latency, bandwidth, bounded buffers, and every way to end a
//! connection or delay its data.
//!
//! Nothing here waits or reads a clock. Each end writes into a queue; sent data is in flight and arrives by an event of
//! the schedule. [`stream`] reads the client's end; the service's end is read at once, by the up-calls that
//! [`Net::step`] returns.

pub(crate) mod stream;

use std::collections::VecDeque;
use std::task::Waker;

use crate::rng::Rng;
use crate::sched::Sched;
use crate::time::{MS, SEC, Us};

pub(crate) type ConnId = u32;

/// The hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Platform,
    PubNub,
    Gateway,
    Agent,
}

impl Host {
    pub(crate) const ALL: [Self; 4] = [Self::Platform, Self::PubNub, Self::Gateway, Self::Agent];

    pub(crate) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "platform.sim.example" => Self::Platform,
            "pubnub.sim.example" => Self::PubNub,
            "gateway.sim.example" => Self::Gateway,
            "agent.sim.example" => Self::Agent,
            _ => return None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Platform => "platform.sim.example",
            Self::PubNub => "pubnub.sim.example",
            Self::Gateway => "gateway.sim.example",
            Self::Agent => "agent.sim.example",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Client to service, or back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dir {
    ToService,
    ToClient,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Both ends get a reset; data in flight or not yet sent is lost.
    ResetLossy,
    /// The service's end resets: data that was sent before still arrives, the rest is lost.
    ResetBehind,
    /// A middlebox closes both sides in good order, and drops its buffered data.
    FinLossy,
    /// The service's end closes: everything that it wrote arrives, and then the end.
    FinBehind,
}

#[derive(Debug)]
enum Item {
    Data(Vec<u8>),
    Fin,
    Rst,
}

/// One direction.
#[derive(Debug, Default)]
struct Pipe {
    /// Written, not yet sent.
    queue: VecDeque<u8>,
    fin_queued: bool,
    fin_sent: bool,
    flight: VecDeque<(Us, Item)>,
    in_flight: usize,
    /// Arrived, not yet read.
    arrived: VecDeque<u8>,
    fin: bool,
    reset: bool,
    free_at: Us,
    /// Data that arrives before then waits until then: lost packets are sent again.
    held_until: Us,
    /// A middlebox accepts everything and forwards nothing.
    swallows: bool,
    dribble_until: Us,
    sent: u64,
    delivered: u64,
}

#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) host: Host,
    pub(crate) opened_at: Us,
    open: bool,
    refused: bool,
    /// The client's program has closed its end.
    client_gone: bool,
    /// The service's program has closed its end.
    service_gone: bool,
    to_service: Pipe,
    to_client: Pipe,
    latency: Us,
    reader: Option<Waker>,
    writer: Option<Waker>,
    /// Set by the service: this connection carries events.
    pub(crate) is_push: bool,
}

impl Conn {
    fn pipe(&mut self, dir: Dir) -> &mut Pipe {
        match dir {
            Dir::ToService => &mut self.to_service,
            Dir::ToClient => &mut self.to_client,
        }
    }

    /// Whether data that the service writes now would reach the client at any time.
    pub(crate) fn would_arrive(&self, now: Us) -> bool {
        let pipe = &self.to_client;
        self.open
            && !self.client_gone
            && !self.service_gone
            && !pipe.reset
            && !pipe.fin_queued
            && !pipe.swallows
            && pipe.held_until <= now
    }

    /// Whether both ends still consider this connection open, in any state of the path.
    pub(crate) fn is_alive(&self) -> bool {
        self.open && !self.client_gone && !self.service_gone && !self.to_client.reset && !self.to_service.reset
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// The properties of the path.
#[derive(Debug, Clone)]
pub(crate) struct Profile {
    pub(crate) latency: Us,
    pub(crate) jitter: Us,
    /// Bytes per second.
    pub(crate) bandwidth: u64,
    /// The most bytes in flight or unread, in each direction.
    pub(crate) window: usize,
    /// Whether an arriving reset discards the data that the client has not read yet.
    pub(crate) reset_purges: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Gate {
    refuses_until: Us,
    hangs_until: Us,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum NetEv {
    Opened(ConnId),
    Arrive(ConnId, Dir),
    Retry(ConnId),
    ResetBoth(ConnId),
    /// The client's kernel has sent its probes.
    Probed(ConnId),
}

/// Events of the service's end.
#[derive(Debug)]
pub(crate) enum Upcall {
    Opened(ConnId),
    Bytes(ConnId, Vec<u8>),
    Fin(ConnId),
    Reset(ConnId),
}

#[derive(Debug)]
pub(crate) struct Net {
    conns: Vec<Conn>,
    gates: [Gate; 4],
    pub(crate) profile: Profile,
    rng: Rng,
    /// More latency for everything until then.
    slow_until: Us,
    slow_by: Us,
    /// Connections that the client opened and has not closed.
    pub(crate) client_open: i64,
    pub(crate) client_open_most: i64,
    /// The client's own buffer of a socket.
    send_buffer: usize,
}

const SEGMENT: usize = 16 * 1024;
/// After this time without an answer to its probes the client's kernel drops a connection.
const KEEPALIVE: Us = 60 * SEC;
/// The most bytes in flight over a path that forwards only small pieces.
const DRIBBLE_WINDOW: usize = 480;

type Q<E> = Sched<E>;

impl Net {
    pub(crate) fn new(profile: Profile, rng: Rng) -> Self {
        Self {
            conns: Vec::new(),
            gates: [Gate::default(); 4],
            profile,
            rng,
            slow_until: 0,
            slow_by: 0,
            client_open: 0,
            client_open_most: 0,
            send_buffer: 64 * 1024,
        }
    }

    pub(crate) fn conn(&self, id: ConnId) -> &Conn {
        &self.conns[id as usize]
    }

    fn get(&mut self, id: ConnId) -> &mut Conn {
        &mut self.conns[id as usize]
    }

    pub(crate) fn mark_push(&mut self, id: ConnId) {
        self.get(id).is_push = true;
    }

    /// The connections to `host` that are open, oldest first.
    pub(crate) fn open_to(&self, host: Host) -> Vec<ConnId> {
        (0..self.conns.len())
            .filter(|&i| {
                let conn = &self.conns[i];
                conn.host == host && conn.open && !conn.client_gone
            })
            .map(|i| u32::try_from(i).unwrap_or(u32::MAX))
            .collect()
    }

    pub(crate) fn refuse(&mut self, host: Host, until: Us) {
        let gate = &mut self.gates[host.index()];
        gate.refuses_until = gate.refuses_until.max(until);
    }

    pub(crate) fn hang(&mut self, host: Host, until: Us) {
        let gate = &mut self.gates[host.index()];
        gate.hangs_until = gate.hangs_until.max(until);
    }

    /// Since when connections to `host` are accepted, or will be.
    pub(crate) fn accepts_from(&self, host: Host) -> Us {
        let gate = self.gates[host.index()];
        gate.refuses_until.max(gate.hangs_until)
    }

    pub(crate) fn slow(&mut self, by: Us, until: Us) {
        self.slow_by = by;
        self.slow_until = until;
    }

    // ---- the client's end ----

    pub(crate) fn connect<E: From<NetEv>>(&mut self, host: Host, q: &mut Q<E>) -> ConnId {
        let id = self.next_id();
        let latency = self.profile.latency + self.rng.below(self.profile.jitter + 1);
        self.conns.push(Conn {
            host,
            opened_at: q.now(),
            open: false,
            refused: false,
            client_gone: false,
            service_gone: false,
            to_service: Pipe::default(),
            to_client: Pipe::default(),
            latency,
            reader: None,
            writer: None,
            is_push: false,
        });
        self.client_open += 1;
        self.client_open_most = self.client_open_most.max(self.client_open);
        q.after(2 * latency, NetEv::Opened(id).into());
        id
    }

    /// The id that the next connection gets.
    pub(crate) fn next_id(&self) -> ConnId {
        u32::try_from(self.conns.len()).unwrap_or(u32::MAX)
    }

    /// `None` while it is in progress.
    pub(crate) fn connected(&mut self, id: ConnId, waker: &Waker) -> Option<bool> {
        let conn = self.get(id);
        if conn.refused {
            return Some(false);
        }
        if conn.open {
            return Some(true);
        }
        conn.reader = Some(waker.clone());
        None
    }

    pub(crate) fn client_read<E: From<NetEv>>(
        &mut self,
        id: ConnId,
        into: &mut [u8],
        waker: &Waker,
        q: &mut Q<E>,
    ) -> Option<std::io::Result<usize>> {
        let conn = self.get(id);
        let pipe = &mut conn.to_client;
        if !pipe.arrived.is_empty() {
            let n = into.len().min(pipe.arrived.len());
            for (slot, byte) in into.iter_mut().zip(pipe.arrived.drain(..n)) {
                *slot = byte;
            }
            self.pump(id, Dir::ToClient, q);
            return Some(Ok(n));
        }
        if pipe.reset {
            return Some(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.fin {
            return Some(Ok(0));
        }
        conn.reader = Some(waker.clone());
        None
    }

    pub(crate) fn client_write<E: From<NetEv>>(
        &mut self,
        id: ConnId,
        from: &[u8],
        waker: &Waker,
        q: &mut Q<E>,
    ) -> Option<std::io::Result<usize>> {
        let room = self.send_buffer;
        let conn = self.get(id);
        if conn.to_client.reset || conn.to_service.fin_queued {
            return Some(Err(std::io::ErrorKind::BrokenPipe.into()));
        }
        let room = room.saturating_sub(conn.to_service.queue.len());
        if room == 0 {
            conn.writer = Some(waker.clone());
            return None;
        }
        let n = room.min(from.len());
        conn.to_service.queue.extend(&from[..n]);
        self.pump(id, Dir::ToService, q);
        Some(Ok(n))
    }

    pub(crate) fn client_shutdown<E: From<NetEv>>(&mut self, id: ConnId, q: &mut Q<E>) {
        self.get(id).to_service.fin_queued = true;
        self.pump(id, Dir::ToService, q);
    }

    /// The client's program dropped its end.
    pub(crate) fn client_drop<E: From<NetEv>>(&mut self, id: ConnId, q: &mut Q<E>) {
        if std::mem::replace(&mut self.get(id).client_gone, true) {
            return;
        }
        let latency = self.delay(id, q.now());
        let conn = self.get(id);
        conn.wake();
        let unread = !conn.to_client.arrived.is_empty();
        conn.to_client.arrived.clear();
        let open = conn.open && !conn.to_client.reset;
        self.client_open -= 1;
        if !open {
            return;
        }
        if unread {
            self.send(id, Dir::ToService, Item::Rst, latency, q);
        } else {
            self.client_shutdown(id, q);
        }
    }

    /// The client's process was killed: its ends are closed in the order in which they were
    /// made. The runtime would drop them in an order that another run of the seed does not have.
    pub(crate) fn client_killed<E: From<NetEv>>(&mut self, q: &mut Q<E>) {
        for id in 0..self.next_id() {
            self.client_drop(id, q);
        }
    }

    /// The client's machine lost power: its ends are gone, and the other side learns nothing.
    pub(crate) fn client_vanish(&mut self) {
        for conn in self.conns.iter_mut().filter(|conn| !conn.client_gone) {
            conn.client_gone = true;
            conn.to_client.arrived.clear();
            self.client_open -= 1;
        }
    }

    // ---- the service's end ----

    pub(crate) fn service_write<E: From<NetEv>>(&mut self, id: ConnId, bytes: &[u8], q: &mut Q<E>) {
        let conn = self.get(id);
        if conn.service_gone || conn.to_client.fin_queued {
            return;
        }
        conn.to_client.queue.extend(bytes);
        self.pump(id, Dir::ToClient, q);
    }

    /// Bytes that the service has written and that have not left it yet.
    pub(crate) fn service_backlog(&self, id: ConnId) -> usize {
        self.conn(id).to_client.queue.len()
    }

    /// How many bytes in this direction were written, and how many have arrived at the other end.
    pub(crate) fn progress(&self, id: ConnId) -> (u64, u64) {
        let pipe = &self.conn(id).to_client;
        (pipe.sent + pipe.queue.len() as u64, pipe.delivered)
    }

    pub(crate) fn end<E: From<NetEv>>(&mut self, id: ConnId, how: End, q: &mut Q<E>) {
        let now = q.now();
        let latency = self.delay(id, now);
        let conn = self.get(id);
        if conn.service_gone && conn.client_gone {
            return;
        }
        match how {
            End::ResetLossy | End::FinLossy => {
                let rst = how == End::ResetLossy;
                for dir in [Dir::ToService, Dir::ToClient] {
                    let pipe = conn.pipe(dir);
                    pipe.queue.clear();
                    pipe.flight.clear();
                    pipe.in_flight = 0;
                    pipe.held_until = 0;
                    pipe.swallows = false;
                    pipe.fin_queued = true;
                    pipe.fin_sent = true;
                }
                for dir in [Dir::ToService, Dir::ToClient] {
                    let item = if rst { Item::Rst } else { Item::Fin };
                    self.send(id, dir, item, latency / 2, q);
                }
            }
            End::ResetBehind => {
                conn.service_gone = true;
                conn.to_client.queue.clear();
                conn.to_client.fin_queued = true;
                conn.to_client.fin_sent = true;
                self.send(id, Dir::ToClient, Item::Rst, latency, q);
            }
            End::FinBehind => {
                conn.service_gone = true;
                conn.to_client.fin_queued = true;
                self.pump(id, Dir::ToClient, q);
            }
        }
    }

    /// The path of a connection forwards nothing in `dir` for a while; then everything arrives.
    pub(crate) fn hold<E: From<NetEv>>(&mut self, id: ConnId, dir: Dir, until: Us, q: &mut Q<E>) {
        let now = q.now();
        let pipe = self.get(id).pipe(dir);
        pipe.held_until = pipe.held_until.max(until);
        q.at(until, NetEv::Arrive(id, dir).into());
        if until > now + KEEPALIVE {
            q.after(KEEPALIVE, NetEv::Probed(id).into());
        }
    }

    /// A middlebox accepts everything in both directions and holds it, and later resets both ends.
    pub(crate) fn swallow<E: From<NetEv>>(&mut self, id: ConnId, until: Us, q: &mut Q<E>) {
        for dir in [Dir::ToService, Dir::ToClient] {
            let pipe = self.get(id).pipe(dir);
            pipe.swallows = true;
            pipe.flight.clear();
            pipe.in_flight = 0;
        }
        self.pump(id, Dir::ToService, q);
        self.pump(id, Dir::ToClient, q);
        q.at(until, NetEv::ResetBoth(id).into());
    }

    pub(crate) fn dribble(&mut self, id: ConnId, until: Us) {
        self.get(id).to_client.dribble_until = until;
    }

    // ---- both ----

    fn delay(&mut self, id: ConnId, now: Us) -> Us {
        let jitter = self.rng.below(self.profile.jitter / 4 + 1);
        let slow = if self.slow_until > now { self.slow_by } else { 0 };
        self.conn(id).latency + jitter + slow
    }

    fn send<E: From<NetEv>>(&mut self, id: ConnId, dir: Dir, item: Item, after: Us, q: &mut Q<E>) {
        let pipe = self.get(id).pipe(dir);
        let last = pipe.flight.back().map_or(0, |(at, _)| *at);
        let at = (q.now() + after).max(last);
        pipe.flight.push_back((at, item));
        q.at(at, NetEv::Arrive(id, dir).into());
    }

    /// Sends as much as the window allows.
    fn pump<E: From<NetEv>>(&mut self, id: ConnId, dir: Dir, q: &mut Q<E>) {
        let (window, bandwidth, now) = (self.profile.window, self.profile.bandwidth.max(1), q.now());
        loop {
            let pipe = self.get(id).pipe(dir);
            if pipe.swallows {
                pipe.sent += pipe.queue.len() as u64;
                pipe.queue.clear();
                return;
            }
            let used = pipe.in_flight + pipe.arrived.len();
            let dribbles = pipe.dribble_until > now;
            // A path that is slow now need not be slow later.
            let window = if dribbles { window.min(DRIBBLE_WINDOW) } else { window };
            let most = if dribbles { 48 } else { SEGMENT };
            let n = pipe.queue.len().min(window.saturating_sub(used)).min(most);
            if n == 0 {
                break;
            }
            let data: Vec<u8> = pipe.queue.drain(..n).collect();
            pipe.in_flight += n;
            pipe.sent += n as u64;
            let begin = pipe.free_at.max(now);
            let slowness = if dribbles { 60 * MS } else { n as u64 * SEC / bandwidth };
            pipe.free_at = begin + slowness;
            let wait = pipe.free_at - now;
            let delay = self.delay(id, now);
            self.send(id, dir, Item::Data(data), wait + delay, q);
        }
        let pipe = self.get(id).pipe(dir);
        if pipe.fin_queued && !pipe.fin_sent && pipe.queue.is_empty() {
            pipe.fin_sent = true;
            let wait = pipe.free_at.saturating_sub(now);
            let delay = self.delay(id, now);
            self.send(id, dir, Item::Fin, wait + delay, q);
        }
        if dir == Dir::ToService {
            let room = self.send_buffer;
            let conn = self.get(id);
            if conn.to_service.queue.len() < room
                && let Some(waker) = conn.writer.take()
            {
                waker.wake();
            }
        }
    }

    /// Processes a due event. Adds the events of the service's end to `up`.
    pub(crate) fn step<E: From<NetEv>>(&mut self, event: NetEv, q: &mut Q<E>, up: &mut Vec<Upcall>) {
        match event {
            NetEv::Opened(id) | NetEv::Retry(id) => self.open(id, q, up),
            NetEv::Arrive(id, dir) => self.arrive(id, dir, q, up),
            NetEv::ResetBoth(id) => self.end(id, End::ResetLossy, q),
            NetEv::Probed(id) => {
                let now = q.now();
                let conn = self.get(id);
                if conn.open && !conn.client_gone && conn.to_service.held_until.max(conn.to_client.held_until) > now {
                    conn.to_client.reset = true;
                    conn.wake();
                }
            }
        }
    }

    fn open<E: From<NetEv>>(&mut self, id: ConnId, q: &mut Q<E>, up: &mut Vec<Upcall>) {
        let now = q.now();
        let gate = self.gates[self.conn(id).host.index()];
        let conn = self.get(id);
        if conn.client_gone {
            return;
        }
        if gate.hangs_until > now {
            // A lost SYN is sent again, later and later.
            let waited = (now - conn.opened_at).max(SEC);
            q.at((now + waited).max(gate.hangs_until.min(now + 2 * waited)), NetEv::Retry(id).into());
        } else if gate.refuses_until > now {
            conn.refused = true;
            conn.wake();
        } else {
            conn.open = true;
            conn.wake();
            up.push(Upcall::Opened(id));
        }
    }

    fn arrive<E: From<NetEv>>(&mut self, id: ConnId, dir: Dir, q: &mut Q<E>, up: &mut Vec<Upcall>) {
        let now = q.now();
        let purges = self.profile.reset_purges;
        loop {
            let conn = self.get(id);
            let (client_gone, service_gone) = (conn.client_gone, conn.service_gone);
            let pipe = conn.pipe(dir);
            if pipe.held_until > now {
                // The event at the end of the hold is already scheduled.
                return;
            }
            if pipe.flight.front().is_none_or(|(at, _)| *at > now) {
                return;
            }
            let Some((_, item)) = pipe.flight.pop_front() else { return };
            if let Item::Data(data) = &item {
                pipe.in_flight -= data.len();
            }
            match (dir, item) {
                (Dir::ToClient, Item::Data(data)) => {
                    if client_gone {
                        // Data for a closed end is answered by a reset.
                        let delay = self.delay(id, now);
                        self.send(id, Dir::ToService, Item::Rst, delay, q);
                        return;
                    }
                    pipe.delivered += data.len() as u64;
                    pipe.arrived.extend(data);
                    if let Some(waker) = conn.reader.take() {
                        waker.wake();
                    }
                }
                (Dir::ToClient, Item::Fin) => {
                    pipe.fin = true;
                    conn.wake();
                }
                (Dir::ToClient, Item::Rst) => {
                    pipe.reset = true;
                    if purges {
                        pipe.arrived.clear();
                    }
                    conn.wake();
                }
                (Dir::ToService, Item::Data(data)) => {
                    if service_gone {
                        if !conn.to_client.reset {
                            let delay = self.delay(id, now);
                            self.send(id, Dir::ToClient, Item::Rst, delay, q);
                        }
                        return;
                    }
                    pipe.delivered += data.len() as u64;
                    up.push(Upcall::Bytes(id, data));
                    self.pump(id, dir, q);
                }
                (Dir::ToService, Item::Fin) => {
                    if !service_gone {
                        up.push(Upcall::Fin(id));
                    }
                }
                (Dir::ToService, Item::Rst) => {
                    pipe.reset = true;
                    if !service_gone {
                        conn.service_gone = true;
                        up.push(Upcall::Reset(id));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::{Dir, End, Host, Net, NetEv, Profile, Upcall};
    use crate::rng::Rng;
    use crate::sched::Sched;
    use crate::time::{MS, SEC};

    struct Bench {
        net: Net,
        q: Sched<NetEv>,
        up: Vec<Upcall>,
    }

    impl Bench {
        fn new() -> Self {
            let profile =
                Profile { latency: 10 * MS, jitter: 0, bandwidth: 1_000_000, window: 1000, reset_purges: true };
            Self { net: Net::new(profile, Rng::new(1)), q: Sched::new(), up: Vec::new() }
        }

        fn run(&mut self, until: u64) {
            while let Some(event) = self.q.pop(until) {
                self.net.step(event, &mut self.q, &mut self.up);
            }
        }

        fn read(&mut self, id: u32) -> Option<std::io::Result<Vec<u8>>> {
            let mut into = [0; 400];
            let n = self.net.client_read(id, &mut into, Waker::noop(), &mut self.q)?;
            Some(n.map(|n| into[..n].to_vec()))
        }
    }

    #[test]
    fn bytes_arrive_after_the_latency_and_wait_for_the_window() {
        let mut bench = Bench::new();
        let id = bench.net.connect(Host::Gateway, &mut bench.q);
        bench.run(15 * MS);
        assert!(bench.net.connected(id, Waker::noop()).is_none());
        bench.run(20 * MS);
        assert_eq!(bench.net.connected(id, Waker::noop()), Some(true));
        bench.net.service_write(id, &[7; 2500], &mut bench.q);
        assert!(bench.read(id).is_none());
        bench.run(SEC);
        assert_eq!(bench.net.service_backlog(id), 1500, "the window is 1000");
        let mut got = 0;
        while let Some(Ok(part)) = bench.read(id) {
            got += part.len();
            let now = bench.q.now();
            bench.run(now + SEC);
        }
        assert_eq!(got, 2500);
    }

    #[test]
    fn a_lossy_reset_drops_data_in_transit_and_a_fin_behind_does_not() {
        for (how, arrives) in
            [(End::ResetLossy, false), (End::FinLossy, false), (End::ResetBehind, true), (End::FinBehind, true)]
        {
            let mut bench = Bench::new();
            bench.net.profile.reset_purges = false;
            let id = bench.net.connect(Host::Gateway, &mut bench.q);
            bench.run(SEC);
            bench.net.service_write(id, b"abc", &mut bench.q);
            bench.run(SEC + 5 * MS);
            bench.net.end(id, how, &mut bench.q);
            bench.run(2 * SEC);
            let first = bench.read(id);
            assert_eq!(matches!(&first, Some(Ok(data)) if data == b"abc"), arrives, "{how:?}");
            let last = if arrives { bench.read(id) } else { first };
            match how {
                End::ResetLossy | End::ResetBehind => assert!(matches!(last, Some(Err(_))), "{how:?}"),
                End::FinLossy | End::FinBehind => assert!(matches!(&last, Some(Ok(end)) if end.is_empty()), "{how:?}"),
            }
        }
    }

    #[test]
    fn held_data_arrives_later_in_order_and_swallowed_data_never() {
        let mut bench = Bench::new();
        let id = bench.net.connect(Host::PubNub, &mut bench.q);
        bench.run(SEC);
        bench.net.hold(id, Dir::ToClient, 5 * SEC, &mut bench.q);
        for part in [b"a", b"b", b"c"] {
            bench.net.service_write(id, part, &mut bench.q);
            let now = bench.q.now();
            bench.run(now + SEC);
        }
        assert!(bench.read(id).is_none());
        bench.run(5 * SEC);
        assert_eq!(bench.read(id).and_then(Result::ok), Some(b"abc".to_vec()));
        bench.net.swallow(id, 9 * SEC, &mut bench.q);
        bench.net.service_write(id, b"d", &mut bench.q);
        bench.run(8 * SEC);
        assert!(bench.read(id).is_none());
        bench.run(10 * SEC);
        assert!(matches!(bench.read(id), Some(Err(_))));
        assert!(matches!(bench.up.last(), Some(Upcall::Reset(_))));
    }

    #[test]
    fn a_host_refuses_or_hangs_for_as_long_as_it_is_said() {
        let mut bench = Bench::new();
        bench.net.refuse(Host::Platform, SEC);
        let refused = bench.net.connect(Host::Platform, &mut bench.q);
        bench.run(SEC / 2);
        assert_eq!(bench.net.connected(refused, Waker::noop()), Some(false));
        bench.net.hang(Host::Gateway, 4 * SEC);
        let hung = bench.net.connect(Host::Gateway, &mut bench.q);
        bench.run(3 * SEC);
        assert_eq!(bench.net.connected(hung, Waker::noop()), None);
        bench.run(8 * SEC);
        assert_eq!(bench.net.connected(hung, Waker::noop()), Some(true));
    }
}
