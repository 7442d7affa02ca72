//! The one state that all connections share, and what crosses connections: deliveries, memory, and what ends with a channel or a connection.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amq_protocol::protocol::{AMQPClass, basic};
use tokio::sync::watch;

use crate::channel::{Channel, Unacked};
use crate::connection::{Connection, Phase};
use crate::error::{Code, Fault};
use crate::frames::short;
use crate::queue::{ConsumerKey, Message, Queue, QueuedMessage};
use crate::{Config, QueueStats};

/// Numbers a connection.
pub(crate) type ConnectionId = u64;

/// Numbers a queue. A queue that is deleted and declared again has another number,
/// so that deliveries of the old one don't come back to the new one.
pub(crate) type QueueId = u64;

/// A channel of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChannelKey {
    pub(crate) connection: ConnectionId,
    pub(crate) channel: u16,
}

/// The state and what is needed to wait for its changes.
pub(crate) struct Shared {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    /// A copy for those who need no more than the limits.
    pub(crate) config: Config,
}

impl Shared {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            state: Mutex::new(State {
                config: config.clone(),
                vhosts: HashMap::new(),
                queues: HashMap::new(),
                connections: HashMap::new(),
                queue_bytes: 0,
                last_id: 0,
            }),
            changes: watch::Sender::new(0),
            config,
        }
    }

    /// The state. Nothing awaits while it holds this.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // The state is kept consistent step by step; a panic of another thread is
        // no reason to stop serving.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait for a queue or a connection to look again.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn create_vhost(&self, name: &str) {
        self.lock().vhosts.entry(name.to_owned()).or_default();
    }

    pub(crate) fn stats(&self, vhost: &str, name: &str) -> Option<QueueStats> {
        let state = self.lock();
        let id = state.vhosts.get(vhost)?.get(name)?;
        state.queues.get(id).map(Queue::stats)
    }

    pub(crate) fn close_connections(&self, code: u16, text: &str) {
        {
            let mut state = self.lock();
            let ids: Vec<_> = state.connections.keys().copied().collect();
            for id in ids {
                state.close_connection(id, code, text, (0, 0));
            }
        }
        self.changed();
    }

    pub(crate) fn connection_count(&self) -> usize {
        self.lock().connections.len()
    }
}

/// Everything the broker knows.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) vhosts: HashMap<String, HashMap<String, QueueId>>,
    pub(crate) queues: HashMap<QueueId, Queue>,
    pub(crate) connections: HashMap<ConnectionId, Connection>,
    /// What the messages take that are in a queue or unacknowledged.
    queue_bytes: u64,
    last_id: u64,
}

impl State {
    /// A number that was not used before.
    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    pub(crate) fn add_connection(&mut self) -> ConnectionId {
        let id = self.next_id();
        let connection = Connection::new(self.config.frame_max, self.config.max_outgoing_bytes);
        self.connections.insert(id, connection);
        id
    }

    pub(crate) fn connection(&mut self, id: ConnectionId) -> Result<&mut Connection, Fault> {
        self.connections
            .get_mut(&id)
            .ok_or_else(|| Fault::new(Code::ConnectionForced, "the connection has ended"))
    }

    pub(crate) fn channel(&mut self, key: ChannelKey) -> Result<&mut Channel, Fault> {
        self.connection(key.connection)?
            .channels
            .get_mut(&key.channel)
            .ok_or_else(|| Fault::new(Code::ChannelError, "expected 'channel.open'"))
    }

    /// Queues a method for the client of a channel.
    pub(crate) fn send(&mut self, key: ChannelKey, method: AMQPClass) {
        if let Some(connection) = self.connections.get_mut(&key.connection) {
            connection.send(key.channel, method);
        }
    }

    // ---- memory ----

    /// What the messages take that are in a queue or unacknowledged.
    pub(crate) fn queue_bytes(&self) -> u64 {
        self.queue_bytes
    }

    /// Whether publishers have to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.queue_bytes > self.config.max_queue_bytes
    }

    /// Appends a message to a queue.
    pub(crate) fn enqueue(&mut self, queue: QueueId, message: Arc<Message>) {
        if let Some(queue) = self.queues.get_mut(&queue) {
            self.queue_bytes += message.cost();
            queue.push(message);
        }
    }

    /// Accounts for messages that are gone, and lets publishers go on if that makes
    /// room.
    pub(crate) fn forget(&mut self, bytes: u64) {
        let was_full = self.is_full();
        self.queue_bytes = self.queue_bytes.saturating_sub(bytes);
        if was_full && !self.is_full() {
            for connection in self.connections.values_mut() {
                connection.unblock();
            }
        }
    }

    // ---- deliveries ----

    /// Delivers the queue's messages for as long as a consumer can take one. The
    /// consumers take turns.
    pub(crate) fn deliver(&mut self, id: QueueId) {
        loop {
            let Some(queue) = self.queues.get_mut(&id) else {
                return;
            };
            if queue.ready.is_empty() {
                return;
            }
            let connections = &mut self.connections;
            let Some(at) = queue
                .consumers
                .iter()
                .position(|consumer| can_take(connections, *consumer))
            else {
                return;
            };
            let Some(consumer) = queue.consumers.remove(at) else {
                return;
            };
            queue.consumers.push_back(consumer);
            self.deliver_to(id, consumer);
        }
    }

    fn deliver_to(&mut self, id: QueueId, key: ConsumerKey) {
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        let Some(connection) = self.connections.get_mut(&key.channel.connection) else {
            return;
        };
        let Some(channel) = connection.channels.get_mut(&key.channel.channel) else {
            return;
        };
        let Some(consumer) = channel.consumers.get_mut(&key.id) else {
            return;
        };
        let needs_ack = !consumer.no_ack;
        let Some(queued) = queue.take(needs_ack) else {
            return;
        };
        let tag = consumer.tag.clone();
        if needs_ack {
            consumer.unacked += 1;
        }
        let message = Arc::clone(&queued.message);
        let redelivered = queued.redelivered;
        let delivery_tag = channel.next_delivery_tag();
        if needs_ack {
            channel.consumer_unacked += 1;
            channel.unacked.insert(
                delivery_tag,
                Unacked {
                    queue: id,
                    consumer: Some(key.id),
                    message: queued,
                },
            );
        }
        let deliver = basic::Deliver {
            consumer_tag: tag,
            delivery_tag,
            redelivered,
            exchange: short(&message.exchange),
            routing_key: short(&message.routing_key),
        };
        connection.send_content(
            key.channel.channel,
            AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)),
            &message,
        );
        if !needs_ack {
            self.forget(message.cost());
        }
    }

    /// Goes on with the deliveries that waited for the connection to be written to.
    pub(crate) fn resume_deliveries(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.held_back = false;
        let queues: BTreeSet<_> = connection
            .channels
            .values()
            .flat_map(Channel::consumed_queues)
            .collect();
        for queue in queues {
            self.deliver(queue);
        }
    }

    /// Puts deliveries back where they were in their queues, and returns these.
    pub(crate) fn requeue(&mut self, unacked: Vec<(QueueId, QueuedMessage)>) -> BTreeSet<QueueId> {
        let mut queues = BTreeSet::new();
        // Last first: each then goes to the very front, which costs nothing.
        for (id, message) in unacked.into_iter().rev() {
            if let Some(queue) = self.queues.get_mut(&id) {
                queue.put_back(message);
                queues.insert(id);
            } else {
                self.forget(message.message.cost());
            }
        }
        queues
    }

    // ---- ends ----

    /// Takes a consumer off its queue, and deletes the queue if that was the last
    /// one and it is an auto-delete queue.
    pub(crate) fn detach_consumer(&mut self, id: QueueId, key: ConsumerKey) {
        let Some(queue) = self.queues.get_mut(&id) else {
            return;
        };
        queue.consumers.retain(|other| *other != key);
        if queue.consumers.is_empty() {
            queue.exclusively_consumed = false;
            if queue.auto_delete {
                self.delete_queue(id);
            }
        }
    }

    /// Deletes a queue with its messages, and tells its consumers (RabbitMQ's
    /// consumer cancel notification).
    pub(crate) fn delete_queue(&mut self, id: QueueId) {
        let Some(queue) = self.queues.remove(&id) else {
            return;
        };
        if let Some(names) = self.vhosts.get_mut(&queue.vhost) {
            names.remove(&queue.name);
        }
        for key in queue.consumers {
            let Some(connection) = self.connections.get_mut(&key.channel.connection) else {
                continue;
            };
            let consumer = connection
                .channels
                .get_mut(&key.channel.channel)
                .and_then(|channel| channel.consumers.remove(&key.id));
            if let Some(consumer) = consumer
                && connection.capabilities.consumer_cancel_notify
            {
                let cancel = basic::Cancel {
                    consumer_tag: consumer.tag,
                    nowait: true,
                };
                connection.send(
                    key.channel.channel,
                    AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel)),
                );
            }
        }
        self.forget(queue.ready.iter().map(|m| m.message.cost()).sum());
    }

    /// Frees what a channel holds: its consumers, and its unacknowledged messages,
    /// which go back to their queues.
    pub(crate) fn release_channel(&mut self, key: ChannelKey) {
        self.release_channels(key.connection, &[key.channel]);
    }

    /// As [`State::release_channel`] for some channels at once, so that what one of
    /// them gives back isn't delivered to another.
    fn release_channels(&mut self, id: ConnectionId, channels: &[u16]) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let mut consumers = Vec::new();
        let mut unacked = Vec::new();
        for number in channels {
            let Some(channel) = connection.channels.get_mut(number) else {
                continue;
            };
            connection.unfinished_bytes = connection
                .unfinished_bytes
                .saturating_sub(channel.abandon_content());
            channel.consumer_unacked = 0;
            let key = ChannelKey {
                connection: id,
                channel: *number,
            };
            for (id, consumer) in std::mem::take(&mut channel.consumers) {
                consumers.push((consumer.queue, ConsumerKey { channel: key, id }));
            }
            for delivery in std::mem::take(&mut channel.unacked).into_values() {
                unacked.push((delivery.queue, delivery.message));
            }
        }
        // Before the consumers go: their going may delete a queue.
        let queues = self.requeue(unacked);
        for (queue, consumer) in consumers {
            self.detach_consumer(queue, consumer);
        }
        for queue in queues {
            self.deliver(queue);
        }
    }

    /// Frees what a connection holds: its channels and its exclusive queues.
    pub(crate) fn release_connection(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        connection.blocked = false;
        let channels: Vec<_> = connection.channels.keys().copied().collect();
        self.release_channels(id, &channels);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.channels.clear();
        }
        let owned: Vec<_> = self
            .queues
            .iter()
            .filter(|(_, queue)| queue.owner == Some(id))
            .map(|(queue, _)| *queue)
            .collect();
        for queue in owned {
            self.delete_queue(queue);
        }
    }

    /// The socket is gone: frees what the connection holds, with nothing to say.
    pub(crate) fn lose_connection(&mut self, id: ConnectionId) {
        self.release_connection(id);
        if let Some(connection) = self.connections.get_mut(&id)
            && connection.phase() != Phase::Finished
        {
            // A `connection.close` is still to be written: who sent garbage and then
            // only reads shall learn why the connection ends.
            if connection.phase() != Phase::Closing {
                connection.outbox.clear();
            }
            connection.set_phase(Phase::Finished);
        }
    }
}

/// Whether a consumer may be given a message now: its connection keeps up and its
/// prefetch counts leave room. Notes if it was the connection that didn't.
fn can_take(connections: &mut HashMap<ConnectionId, Connection>, key: ConsumerKey) -> bool {
    let Some(connection) = connections.get_mut(&key.channel.connection) else {
        return false;
    };
    let congested = connection.is_congested();
    let Some(channel) = connection.channels.get(&key.channel.channel) else {
        return false;
    };
    if !channel.has_room(key.id) {
        return false;
    }
    connection.held_back |= congested;
    !congested
}
