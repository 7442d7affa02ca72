//! The broker without sockets: bytes of a client in, bytes for the client out.
//!
//! [`Session`] does no I/O and knows no time, so that everything a peer can send
//! may be tried on it directly, in any portions. The network side of this crate is
//! built on it.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, watch};

use crate::connection::Phase;
use crate::error::Fault;
use crate::frames::{self, PROTOCOL_HEADER, Unreadable};
use crate::state::{ConnectionId, Shared};
use crate::{Config, QueueStats};

pub use crate::audit::Holdings;

/// A broker without sockets: the state that its sessions share.
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

impl Engine {
    /// A broker with the vhost `/` and no sessions.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let shared = Arc::new(Shared::new(config));
        shared.create_vhost("/");
        Self(shared)
    }

    /// A new connection, from which the protocol header is expected.
    #[must_use]
    pub fn session(&self) -> Session {
        Session::new(Arc::clone(&self.0))
    }

    /// The state of a queue, or `None` if the vhost has no such queue.
    #[must_use]
    pub fn queue(&self, vhost: &str, name: &str) -> Option<QueueStats> {
        self.0.stats(vhost, name)
    }

    /// Counts anew what the broker holds, and checks that its state agrees with
    /// itself: for tests. It takes time in proportion to the state.
    ///
    /// # Errors
    /// The first disagreement, in words: a defect of the broker.
    pub fn audit(&self) -> Result<Holdings, String> {
        self.0.lock().audit()
    }
}

/// One connection. Dropping it is the loss of the connection: its unacknowledged
/// messages go back to their queues and its exclusive queues are deleted.
pub struct Session {
    shared: Arc<Shared>,
    id: ConnectionId,
    /// What has come and is not handled: part of a frame, or, while the session is
    /// paused, the rest of what came last.
    input: BytesMut,
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let id = shared.lock().add_connection();
        shared.changed();
        Self {
            shared,
            id,
            input: BytesMut::new(),
        }
    }

    /// Takes bytes from the client and handles all complete frames, unless the
    /// session [is paused](Session::is_paused). Violations of the protocol are no
    /// errors of this call: they are answered in the output.
    ///
    /// Call it with no bytes to go on after a pause.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        if self.handle_input() {
            self.shared.changed();
        }
    }

    /// Takes all that is to be written to the client.
    pub fn take_output(&mut self) -> Bytes {
        take_output(&self.shared, self.id)
    }

    /// Whether the session leaves its input unhandled for now: since the client
    /// does not read what it is sent, or since it publishes and memory is short.
    /// Whoever feeds it should stop reading, which makes the client wait.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.shared
            .lock()
            .connections
            .get(&self.id)
            .is_some_and(crate::connection::Connection::is_paused)
    }

    /// Whether the connection has ended: nothing is read any more, and the socket
    /// is to be closed when the output has been written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.handle().phase() == Phase::Finished
    }

    /// How many bytes of input wait to be handled. Outside a pause they are less
    /// than one frame.
    #[must_use]
    pub fn unhandled(&self) -> usize {
        self.input.len()
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle {
            shared: Arc::clone(&self.shared),
            id: self.id,
        }
    }

    /// Returns whether anything was handled.
    fn handle_input(&mut self) -> bool {
        let mut state = self.shared.lock();
        let mut handled = false;
        loop {
            let Some(connection) = state.connections.get(&self.id) else {
                self.input.clear();
                return handled;
            };
            let (phase, frame_max) = (connection.phase(), connection.frame_max);
            match phase {
                Phase::Finished => {
                    self.input.clear();
                    return handled;
                }
                Phase::Header => {
                    let length = self.input.len().min(PROTOCOL_HEADER.len());
                    let accepted = self.input[..length] == PROTOCOL_HEADER[..length];
                    if accepted && length < PROTOCOL_HEADER.len() {
                        return handled;
                    }
                    let _ = self.input.split_to(length);
                    state.protocol_header(self.id, accepted);
                }
                _ if connection.is_paused() => return handled,
                _ => match frames::take_frame(&mut self.input, frame_max) {
                    Ok(None) => return handled,
                    Ok(Some(frame)) => state.handle_frame(self.id, frame),
                    // As all but the answer to the broker's close.
                    Err(Unreadable::Payload(_)) if phase == Phase::Closing => {}
                    Err(Unreadable::Payload(Fault { code, text })) => {
                        state.close_connection(self.id, code.number(), &text, (0, 0));
                    }
                    Err(Unreadable::Framing(Fault { code, text })) => {
                        // What follows can't be told from the damage, an answer neither.
                        state.close_connection(self.id, code.number(), &text, (0, 0));
                        state.lose_connection(self.id);
                    }
                },
            }
            handled = true;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            state.lose_connection(self.id);
            state.connections.remove(&self.id);
        }
        self.shared.changed();
    }
}

/// What the tasks of a connection need besides the session itself.
#[derive(Clone)]
pub(crate) struct Handle {
    shared: Arc<Shared>,
    id: ConnectionId,
}

/// What wakes the tasks of a connection.
pub(crate) struct Wakers {
    pub(crate) reader: Arc<Notify>,
    pub(crate) writer: Arc<Notify>,
    pub(crate) phase: watch::Receiver<Phase>,
}

impl Handle {
    pub(crate) fn phase(&self) -> Phase {
        self.shared
            .lock()
            .connections
            .get(&self.id)
            .map_or(Phase::Finished, crate::connection::Connection::phase)
    }

    /// The negotiated heartbeat interval in seconds, 0 if there is none (yet).
    pub(crate) fn heartbeat(&self) -> u16 {
        self.shared
            .lock()
            .connections
            .get(&self.id)
            .map_or(0, |connection| connection.heartbeat)
    }

    pub(crate) fn wakers(&self) -> Option<Wakers> {
        let state = self.shared.lock();
        let connection = state.connections.get(&self.id)?;
        Some(Wakers {
            reader: Arc::clone(&connection.wake_reader),
            writer: Arc::clone(&connection.wake_writer),
            phase: connection.watch_phase(),
        })
    }

    pub(crate) fn take_output(&self) -> Bytes {
        take_output(&self.shared, self.id)
    }

    pub(crate) fn lose(&self) {
        self.shared.lock().lose_connection(self.id);
        self.shared.changed();
    }
}

fn take_output(shared: &Shared, id: ConnectionId) -> Bytes {
    let mut state = shared.lock();
    let Some(connection) = state.connections.get_mut(&id) else {
        return Bytes::new();
    };
    let was_congested = connection.is_congested();
    let output = connection.outbox.split().freeze();
    if was_congested {
        connection.wake_reader.notify_one();
    }
    if connection.held_back {
        state.resume_deliveries(id);
        drop(state);
        shared.changed();
    }
    output
}
