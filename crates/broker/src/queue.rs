//! A queue: its messages in order, its consumers in turn, and its counters.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::state::{ChannelKey, ConnectionId};

/// A queue's state and counters at one moment.
///
/// The counters start at zero when the queue is declared and never go down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that were delivered and are not yet acknowledged or rejected.
    pub unacked: u64,
    /// Consumers of the queue.
    pub consumers: u64,
    /// Messages that were routed to the queue.
    pub published: u64,
    /// Deliveries, redeliveries included, by `basic.deliver` and `basic.get-ok`.
    pub delivered: u64,
    /// Those deliveries that carried `redelivered` = true.
    pub redelivered: u64,
    /// Deliveries that were acknowledged. A delivery to a consumer that uses
    /// `no_ack` needs no acknowledgement and is not counted here.
    pub acked: u64,
    /// Deliveries that were refused by `basic.reject` or `basic.nack`, whether
    /// or not they went back to the queue.
    pub rejected: u64,
    /// Deliveries that went back to the queue: by a reject that asked for it, by
    /// `basic.recover`, or since their channel ended.
    pub requeued: u64,
}

/// A message as it was published.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// The properties' bytes as the publisher sent them, so that every consumer
    /// gets the same value types in the same order.
    pub(crate) properties: Bytes,
    pub(crate) body: Bytes,
}

impl Message {
    /// About how many bytes the message takes in memory. The constant stands for
    /// the structures around it: empty messages, too, must count.
    pub(crate) fn cost(&self) -> u64 {
        (self.body.len() + self.properties.len() + self.routing_key.len() + 128) as u64
    }
}

/// A message in a queue, or on its way to a consumer.
#[derive(Clone, Debug)]
pub(crate) struct QueuedMessage {
    /// Where in the queue's order the message belongs, also when it comes back.
    position: u64,
    pub(crate) redelivered: bool,
    pub(crate) message: Arc<Message>,
}

/// A consumer, by the channel that it lives on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerKey {
    pub(crate) channel: ChannelKey,
    pub(crate) id: u64,
}

/// A queue. What its consumers may take is known to their channels.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) vhost: String,
    pub(crate) name: String,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// The connection that alone may use the queue, and whose end is the queue's.
    pub(crate) owner: Option<ConnectionId>,
    pub(crate) ready: VecDeque<QueuedMessage>,
    /// In the order in which they are served; the next one is in front.
    pub(crate) consumers: VecDeque<ConsumerKey>,
    /// Whether its one consumer asked to be the only one.
    pub(crate) exclusively_consumed: bool,
    /// The counters; `ready` and `consumers` are filled in by [`Queue::stats`].
    pub(crate) counters: QueueStats,
    next_position: u64,
}

impl Queue {
    pub(crate) fn new(vhost: &str, name: &str) -> Self {
        Self {
            vhost: vhost.to_owned(),
            name: name.to_owned(),
            durable: false,
            auto_delete: false,
            owner: None,
            ready: VecDeque::new(),
            consumers: VecDeque::new(),
            exclusively_consumed: false,
            counters: QueueStats::default(),
            next_position: 0,
        }
    }

    pub(crate) fn stats(&self) -> QueueStats {
        QueueStats {
            ready: self.ready.len() as u64,
            consumers: self.consumers.len() as u64,
            ..self.counters
        }
    }

    /// How RabbitMQ names the queue in reply texts.
    pub(crate) fn title(&self) -> String {
        title(&self.vhost, &self.name)
    }

    /// Whether the messages that wait are in the order in which they came.
    pub(crate) fn is_in_order(&self) -> bool {
        let positions = || self.ready.iter().map(|message| message.position);
        positions().is_sorted_by(|a, b| a < b) && positions().all(|at| at < self.next_position)
    }

    /// Appends a new message.
    pub(crate) fn push(&mut self, message: Arc<Message>) {
        self.counters.published += 1;
        let position = self.next_position;
        self.next_position += 1;
        self.ready.push_back(QueuedMessage {
            position,
            redelivered: false,
            message,
        });
    }

    /// Takes the first message for a delivery, which stays unacknowledged if
    /// `needs_ack`.
    pub(crate) fn take(&mut self, needs_ack: bool) -> Option<QueuedMessage> {
        let message = self.ready.pop_front()?;
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(message.redelivered);
        self.counters.unacked += u64::from(needs_ack);
        Some(message)
    }

    /// Puts a delivered message back where it was, marked as redelivered.
    pub(crate) fn put_back(&mut self, mut message: QueuedMessage) {
        self.counters.unacked = self.counters.unacked.saturating_sub(1);
        self.counters.requeued += 1;
        message.redelivered = true;
        let at = self
            .ready
            .partition_point(|other| other.position < message.position);
        self.ready.insert(at, message);
    }
}

/// How RabbitMQ names a queue in reply texts.
pub(crate) fn title(vhost: &str, name: &str) -> String {
    format!("queue '{name}' in vhost '{vhost}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(key: &str) -> Arc<Message> {
        Arc::new(Message {
            exchange: String::new(),
            routing_key: key.to_owned(),
            properties: Bytes::new(),
            body: Bytes::new(),
        })
    }

    #[test]
    fn messages_come_back_in_their_original_order() {
        let mut queue = Queue::new("/", "q");
        for key in ["a", "b", "c", "d"] {
            queue.push(message(key));
        }
        let a = queue.take(true).expect("a");
        let b = queue.take(true).expect("b");
        let c = queue.take(true).expect("c");
        for taken in [b, c, a] {
            queue.put_back(taken);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.take(true))
            .map(|m| (m.message.routing_key.clone(), m.redelivered))
            .collect();
        let expected = [("a", true), ("b", true), ("c", true), ("d", false)];
        assert_eq!(order, expected.map(|(k, r)| (k.to_owned(), r)));
        assert_eq!(queue.stats().requeued, 3);
        assert_eq!(queue.stats().redelivered, 3);
        assert_eq!(queue.stats().unacked, 4);
    }
}
