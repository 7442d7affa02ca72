//! Counts the state anew and compares that with what it says of itself: what tests and fuzz targets hold the broker to.

use std::collections::HashMap;

use crate::channel::Channel;
use crate::connection::{Connection, Phase};
use crate::queue::{ConsumerKey, Queue};
use crate::state::{ChannelKey, ConnectionId, QueueId, State};

/// What a broker holds for its sessions at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Sessions that were not dropped.
    pub connections: usize,
    /// Channels, the ones that wait for `channel.close-ok` included.
    pub channels: usize,
    /// Consumers.
    pub consumers: usize,
    /// Queues, the exclusive ones included.
    pub queues: usize,
    /// Queues whose connection alone may use them.
    pub exclusive_queues: usize,
    /// Messages that wait in queues.
    pub ready: usize,
    /// Messages that were delivered and not settled, those of deleted queues included.
    pub unacked: usize,
    /// What these messages take in bytes, as [`Config::max_queue_bytes`] counts.
    ///
    /// [`Config::max_queue_bytes`]: crate::Config::max_queue_bytes
    pub message_bytes: u64,
    /// Bytes of messages whose last frame has not come yet, with their properties.
    pub unfinished_bytes: u64,
}

/// `Err` with the text if the condition does not hold.
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}

impl State {
    /// Goes through all connections and queues, and checks that each count is what
    /// it counts, that each reference is answered by its other end, and that no
    /// message waits for a consumer that could take it.
    ///
    /// # Errors
    /// The first difference, in words.
    pub(crate) fn audit(&self) -> Result<Holdings, String> {
        let mut holdings = Holdings {
            connections: self.connections.len(),
            queues: self.queues.len(),
            ..Holdings::default()
        };
        let mut unacked_of = HashMap::new();
        for (id, connection) in &self.connections {
            self.audit_connection(*id, connection, &mut holdings, &mut unacked_of)?;
        }
        for (id, queue) in &self.queues {
            let unacked = unacked_of.get(id).copied().unwrap_or_default();
            self.audit_queue(*id, queue, unacked)?;
            holdings.ready += queue.ready.len();
            holdings.exclusive_queues += usize::from(queue.owner.is_some());
            let costs = queue.ready.iter().map(|m| m.message.cost());
            holdings.message_bytes += costs.sum::<u64>();
        }
        for (vhost, names) in &self.vhosts {
            for (name, id) in names {
                let queue = self.queues.get(id);
                ensure!(
                    queue.is_some_and(|queue| queue.vhost == *vhost && queue.name == *name),
                    "the name '{name}' in '{vhost}' stands for {queue:?}"
                );
            }
        }
        let consumers: usize = self.queues.values().map(|q| q.consumers.len()).sum();
        ensure!(
            consumers == holdings.consumers,
            "{consumers} consumers on queues, {} on channels",
            holdings.consumers
        );
        ensure!(
            self.queue_bytes() == holdings.message_bytes,
            "{} bytes of messages are counted, there are {}",
            self.queue_bytes(),
            holdings.message_bytes
        );
        Ok(holdings)
    }

    fn audit_connection(
        &self,
        id: ConnectionId,
        connection: &Connection,
        holdings: &mut Holdings,
        unacked_of: &mut HashMap<QueueId, u64>,
    ) -> Result<(), String> {
        let phase = connection.phase();
        if phase != Phase::Open {
            ensure!(
                connection.channels.is_empty() && !connection.blocked,
                "connection {id} is {phase:?} and holds {connection:?}"
            );
        }
        ensure!(
            !connection.blocked || self.is_full(),
            "connection {id} waits for memory, and there is some"
        );
        let mut unfinished = 0;
        for (number, channel) in &connection.channels {
            let key = ChannelKey {
                connection: id,
                channel: *number,
            };
            self.audit_channel(key, channel)?;
            unfinished += channel.unfinished_bytes();
            holdings.channels += 1;
            holdings.consumers += channel.consumers.len();
            holdings.unacked += channel.unacked.len();
            for delivery in channel.unacked.values() {
                *unacked_of.entry(delivery.queue).or_default() += 1;
                holdings.message_bytes += delivery.message.message.cost();
            }
        }
        ensure!(
            connection.unfinished_bytes == unfinished,
            "connection {id} counts {} unfinished bytes, there are {unfinished}",
            connection.unfinished_bytes
        );
        holdings.unfinished_bytes += unfinished;
        Ok(())
    }

    fn audit_channel(&self, key: ChannelKey, channel: &Channel) -> Result<(), String> {
        ensure!(
            !channel.is_closing()
                || (channel.consumers.is_empty()
                    && channel.unacked.is_empty()
                    && channel.unfinished_bytes() == 0),
            "{key:?} is closed and holds {channel:?}"
        );
        let of = |id: Option<u64>| {
            let is_of = |consumer: &u64| id.is_none_or(|id| id == *consumer);
            let consumers = channel.unacked.values().filter_map(|d| d.consumer);
            consumers.filter(is_of).count() as u64
        };
        ensure!(
            channel.consumer_unacked == of(None),
            "{key:?} counts {} unacknowledged deliveries, there are {}",
            channel.consumer_unacked,
            of(None)
        );
        for (id, consumer) in &channel.consumers {
            ensure!(
                consumer.unacked == of(Some(*id)),
                "{key:?}: {consumer:?} should count {}",
                of(Some(*id))
            );
            ensure!(
                consumer.prefetch == 0 || consumer.unacked <= consumer.prefetch.into(),
                "{key:?}: {consumer:?} was given too much"
            );
            let this = ConsumerKey {
                channel: key,
                id: *id,
            };
            let queue = self.queues.get(&consumer.queue);
            ensure!(
                queue.is_some_and(|queue| queue.consumers.contains(&this)),
                "{key:?}: {consumer:?} is unknown to its queue"
            );
        }
        Ok(())
    }

    fn audit_queue(&self, id: QueueId, queue: &Queue, unacked: u64) -> Result<(), String> {
        let title = queue.title();
        ensure!(
            self.vhosts
                .get(&queue.vhost)
                .and_then(|n| n.get(&queue.name))
                == Some(&id),
            "{title} has lost its name"
        );
        if let Some(owner) = queue.owner {
            let phase = self.connections.get(&owner).map(Connection::phase);
            ensure!(
                phase == Some(Phase::Open),
                "{title} belongs to a connection that is {phase:?}"
            );
        }
        ensure!(
            queue.counters.unacked == unacked,
            "{title} counts {} unacknowledged messages, there are {unacked}",
            queue.counters.unacked
        );
        ensure!(
            !queue.exclusively_consumed || queue.consumers.len() == 1,
            "{title} has {} consumers, one of which is the only one",
            queue.consumers.len()
        );
        ensure!(queue.is_in_order(), "{title} is out of order: {queue:?}");
        for key in &queue.consumers {
            let connection = self.connections.get(&key.channel.connection);
            let channel = connection.and_then(|c| c.channels.get(&key.channel.channel));
            let (Some(connection), Some(channel)) = (connection, channel) else {
                return Err(format!("{title}: the channel of {key:?} is gone"));
            };
            ensure!(
                channel
                    .consumers
                    .get(&key.id)
                    .is_some_and(|c| c.queue == id),
                "{title}: its channel doesn't know {key:?}"
            );
            let waits = connection.is_congested() && connection.held_back;
            ensure!(
                queue.ready.is_empty() || waits || !channel.has_room(key.id),
                "{title} has messages that {key:?} could take"
            );
        }
        Ok(())
    }
}
