//! The methods of the classes `exchange`, `queue` and `basic`, with RabbitMQ's rules and reply texts.
//!
//! What this broker can't do as RabbitMQ would is refused with `NOT_IMPLEMENTED`,
//! never silently ignored.

use std::sync::Arc;

use amq_protocol::protocol::{AMQPClass, BasicProperties, basic, exchange, queue};
use amq_protocol::types::{AMQPValue, FieldTable};

use crate::channel::{Consumer, Published, Unacked, unimplemented_method};
use crate::error::{Code, Fault};
use crate::frames::short;
use crate::queue::{ConsumerKey, Message, Queue, title};
use crate::state::{ChannelKey, QueueId, State};

/// The exchanges that exist, with their types. Queues can be bound to none of them;
/// to the default exchange, "", each queue is bound by its name.
const EXCHANGES: [(&str, &str); 6] = [
    ("", "direct"),
    ("amq.direct", "direct"),
    ("amq.fanout", "fanout"),
    ("amq.headers", "headers"),
    ("amq.match", "headers"),
    ("amq.topic", "topic"),
];

/// What names of the server's own begin with.
const RESERVED: &str = "amq.";

/// The argument that says what a queue is made of.
const QUEUE_TYPE: &str = "x-queue-type";

/// Queue arguments that change how a RabbitMQ queue behaves.
const UNSUPPORTED_ARGUMENTS: [&str; 10] = [
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-delivery-limit",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-message-ttl",
    "x-overflow",
    "x-single-active-consumer",
];

impl State {
    fn vhost_of(&mut self, key: ChannelKey) -> Result<String, Fault> {
        Ok(self.connection(key.connection)?.vhost.clone())
    }

    // ---- exchange ----

    /// Checks that an exchange exists.
    pub(crate) fn check_exchange(&mut self, key: ChannelKey, name: &str) -> Result<(), Fault> {
        if exchange_type(name).is_some() {
            return Ok(());
        }
        let vhost = self.vhost_of(key)?;
        Err(Fault::new(
            Code::NotFound,
            format_args!("no exchange '{name}' in vhost '{vhost}'"),
        ))
    }

    pub(crate) fn exchange_method(
        &mut self,
        key: ChannelKey,
        method: exchange::AMQPMethod,
    ) -> Result<(), Fault> {
        use exchange::AMQPMethod as Method;

        let (reply, nowait) = match method {
            Method::Declare(declare) => {
                self.declare_exchange(key, &declare)?;
                (Method::DeclareOk(exchange::DeclareOk {}), declare.nowait)
            }
            Method::Delete(delete) => {
                let name = delete.exchange.as_str();
                check_not_default(name)?;
                if name.starts_with(RESERVED) {
                    let vhost = self.vhost_of(key)?;
                    return Err(Fault::new(
                        Code::AccessRefused,
                        format_args!(
                            "deletion of system exchange '{name}' in vhost '{vhost}' not allowed"
                        ),
                    ));
                }
                // There are no others: as for queues, deleting what isn't there is fine.
                (Method::DeleteOk(exchange::DeleteOk {}), delete.nowait)
            }
            Method::Bind(_) | Method::Unbind(_) => {
                return Err(Fault::new(
                    Code::NotImplemented,
                    "bindings between exchanges",
                ));
            }
            Method::DeclareOk(_)
            | Method::DeleteOk(_)
            | Method::BindOk(_)
            | Method::UnbindOk(_) => return Err(unimplemented_method()),
        };
        if !nowait {
            self.send(key, AMQPClass::Exchange(reply));
        }
        Ok(())
    }

    fn declare_exchange(
        &mut self,
        key: ChannelKey,
        declare: &exchange::Declare,
    ) -> Result<(), Fault> {
        let (name, asked) = (declare.exchange.as_str(), declare.kind.as_str());
        check_not_default(name)?;
        if declare.passive {
            return self.check_exchange(key, name);
        }
        if !EXCHANGES.iter().any(|(_, known)| *known == asked) {
            return Err(Fault::new(
                Code::CommandInvalid,
                format_args!("unknown exchange type '{asked}'"),
            ));
        }
        let Some(current) = exchange_type(name) else {
            check_not_reserved("exchange", name)?;
            return Err(Fault::new(
                Code::NotImplemented,
                "exchanges other than the predeclared ones",
            ));
        };
        let vhost = self.vhost_of(key)?;
        let title = format!("exchange '{name}' in vhost '{vhost}'");
        if asked != current {
            return Err(inequivalent("type", &title, quoted(asked), quoted(current)));
        }
        // The predeclared exchanges are durable, and neither of the others.
        check_same("durable", &title, declare.durable, true)?;
        check_same("auto_delete", &title, declare.auto_delete, false)?;
        check_same("internal", &title, declare.internal, false)
    }

    // ---- queue ----

    /// The queue of that name, with "" for the one that the channel declared last.
    /// Its name comes back too, for the reply.
    fn find_queue(&mut self, key: ChannelKey, name: &str) -> Result<(QueueId, String), Fault> {
        let name = self.expand(key, name)?;
        let vhost = self.vhost_of(key)?;
        match self.vhosts.get(&vhost).and_then(|names| names.get(&name)) {
            Some(id) => Ok((*id, name)),
            None => Err(Fault::new(
                Code::NotFound,
                format_args!("no {}", title(&vhost, &name)),
            )),
        }
    }

    /// As [`State::find_queue`], for methods that an exclusive queue's owner alone
    /// may use.
    fn find_own_queue(&mut self, key: ChannelKey, name: &str) -> Result<(QueueId, String), Fault> {
        let (id, name) = self.find_queue(key, name)?;
        match self.queues.get(&id) {
            Some(queue) if queue.owner.is_some_and(|owner| owner != key.connection) => {
                Err(locked(queue))
            }
            _ => Ok((id, name)),
        }
    }

    fn expand(&mut self, key: ChannelKey, name: &str) -> Result<String, Fault> {
        if !name.is_empty() {
            return Ok(name.to_owned());
        }
        self.channel(key)?
            .last_queue
            .clone()
            .ok_or_else(|| Fault::new(Code::NotFound, "no previously declared queue"))
    }

    pub(crate) fn queue_method(
        &mut self,
        key: ChannelKey,
        method: queue::AMQPMethod,
    ) -> Result<(), Fault> {
        use queue::AMQPMethod as Method;

        let (reply, nowait) = match method {
            Method::Declare(declare) => (
                Method::DeclareOk(self.declare_queue(key, &declare)?),
                declare.nowait,
            ),
            Method::Bind(bind) => {
                self.find_own_queue(key, bind.queue.as_str())?;
                check_not_default(bind.exchange.as_str())?;
                self.check_exchange(key, bind.exchange.as_str())?;
                return Err(Fault::new(
                    Code::NotImplemented,
                    format_args!("bindings to exchange '{}'", bind.exchange),
                ));
            }
            Method::Unbind(unbind) => {
                self.find_own_queue(key, unbind.queue.as_str())?;
                check_not_default(unbind.exchange.as_str())?;
                self.check_exchange(key, unbind.exchange.as_str())?;
                // No binding can exist, and to remove one that doesn't is fine.
                (Method::UnbindOk(queue::UnbindOk {}), false)
            }
            Method::Purge(purge) => {
                let (id, _) = self.find_own_queue(key, purge.queue.as_str())?;
                let purged = match self.queues.get_mut(&id) {
                    Some(queue) => std::mem::take(&mut queue.ready),
                    None => Default::default(),
                };
                self.forget(purged.iter().map(|m| m.message.cost()).sum());
                let purge_ok = queue::PurgeOk {
                    message_count: count(purged.len()),
                };
                (Method::PurgeOk(purge_ok), purge.nowait)
            }
            Method::Delete(delete) => {
                let delete_ok = queue::DeleteOk {
                    message_count: self.delete_named_queue(key, &delete)?,
                };
                (Method::DeleteOk(delete_ok), delete.nowait)
            }
            Method::DeclareOk(_)
            | Method::BindOk(_)
            | Method::PurgeOk(_)
            | Method::DeleteOk(_)
            | Method::UnbindOk(_) => return Err(unimplemented_method()),
        };
        if !nowait {
            self.send(key, AMQPClass::Queue(reply));
        }
        Ok(())
    }

    fn declare_queue(
        &mut self,
        key: ChannelKey,
        declare: &queue::Declare,
    ) -> Result<queue::DeclareOk, Fault> {
        let vhost = self.vhost_of(key)?;
        let asked = declare.queue.as_str();
        let id = if declare.passive {
            // "" is a name like others here: it stands for no other queue.
            let names = self.vhosts.get(&vhost);
            let id = names.and_then(|names| names.get(asked)).copied();
            let Some(id) = id else {
                return Err(Fault::new(
                    Code::NotFound,
                    format_args!("no {}", title(&vhost, asked)),
                ));
            };
            match self.queues.get(&id) {
                Some(queue) if queue.owner.is_some_and(|owner| owner != key.connection) => {
                    return Err(locked(queue));
                }
                _ => id,
            }
        } else {
            // Before the look whether it exists: not even the name that the broker made
            // for a queue may be declared, only passively.
            check_not_reserved("queue", asked)?;
            let existing = self.vhosts.get(&vhost).and_then(|names| names.get(asked));
            if let Some(id) = existing.copied() {
                if let Some(queue) = self.queues.get(&id) {
                    check_equivalent(queue, key, declare)?;
                }
                id
            } else {
                check_arguments(&declare.arguments)?;
                let name = if asked.is_empty() {
                    format!("amq.gen-{}", random_name())
                } else {
                    asked.to_owned()
                };
                let id = self.next_id();
                let mut queue = Queue::new(&vhost, &name);
                queue.durable = is_durable(declare);
                queue.auto_delete = declare.auto_delete;
                queue.owner = declare.exclusive.then_some(key.connection);
                self.queues.insert(id, queue);
                self.vhosts.entry(vhost).or_default().insert(name, id);
                id
            }
        };
        let Some(queue) = self.queues.get(&id) else {
            return Err(Fault::new(Code::NotFound, "the queue has ended"));
        };
        let name = queue.name.clone();
        let declare_ok = queue::DeclareOk {
            queue: short(&name),
            message_count: count(queue.ready.len()),
            consumer_count: count(queue.consumers.len()),
        };
        self.channel(key)?.last_queue = Some(name);
        Ok(declare_ok)
    }

    /// Returns how many messages went with the queue. To delete a queue that doesn't
    /// exist is fine, as in RabbitMQ.
    fn delete_named_queue(
        &mut self,
        key: ChannelKey,
        delete: &queue::Delete,
    ) -> Result<u32, Fault> {
        let name = self.expand(key, delete.queue.as_str())?;
        let vhost = self.vhost_of(key)?;
        let id = self.vhosts.get(&vhost).and_then(|names| names.get(&name));
        let Some((id, queue)) = id.and_then(|id| Some((*id, self.queues.get(id)?))) else {
            return Ok(0);
        };
        if queue.owner.is_some_and(|owner| owner != key.connection) {
            return Err(locked(queue));
        }
        let refuse = |why| {
            Fault::new(
                Code::PreconditionFailed,
                format_args!("{} {why}", queue.title()),
            )
        };
        if delete.if_unused && !queue.consumers.is_empty() {
            return Err(refuse("in use"));
        }
        if delete.if_empty && !queue.ready.is_empty() {
            return Err(refuse("not empty"));
        }
        let messages = count(queue.ready.len());
        self.delete_queue(id);
        Ok(messages)
    }

    // ---- basic: publishing ----

    /// Checks the properties that RabbitMQ acts on.
    pub(crate) fn check_properties(
        &mut self,
        key: ChannelKey,
        properties: &BasicProperties,
    ) -> Result<(), Fault> {
        let user = &self.connection(key.connection)?.user;
        if let Some(claimed) = properties.user_id()
            && claimed.as_str() != user
        {
            return Err(Fault::new(
                Code::PreconditionFailed,
                format_args!(
                    "user_id property set to '{claimed}' but authenticated user was '{user}'"
                ),
            ));
        }
        if properties.expiration().is_some() {
            return Err(Fault::new(
                Code::NotImplemented,
                "expiration of single messages",
            ));
        }
        let copies =
            |headers: &FieldTable| headers.contains_key("CC") || headers.contains_key("BCC");
        if properties.headers().as_ref().is_some_and(copies) {
            return Err(Fault::new(
                Code::NotImplemented,
                "routing by the headers CC and BCC",
            ));
        }
        Ok(())
    }

    /// Routes a complete message: to the queue that its routing key names, or back
    /// if it is mandatory. The confirm comes after either.
    pub(crate) fn route(&mut self, key: ChannelKey, published: Published) -> Result<(), Fault> {
        let Published {
            publish,
            properties,
            body,
        } = published;
        let message = Arc::new(Message {
            exchange: publish.exchange.into(),
            routing_key: publish.routing_key.into(),
            properties,
            body,
        });
        let connection = self.connection(key.connection)?;
        let queue = if message.exchange.is_empty() {
            let vhost = connection.vhost.clone();
            let names = self.vhosts.get(&vhost);
            names
                .and_then(|names| names.get(&message.routing_key))
                .copied()
        } else {
            None
        };
        match queue {
            Some(queue) => self.enqueue(queue, message),
            None if publish.mandatory => {
                let returned = basic::Return {
                    reply_code: Code::NoRoute.number(),
                    reply_text: short(Code::NoRoute.name()),
                    exchange: short(&message.exchange),
                    routing_key: short(&message.routing_key),
                };
                self.connection(key.connection)?.send_content(
                    key.channel,
                    AMQPClass::Basic(basic::AMQPMethod::Return(returned)),
                    &message,
                );
            }
            None => {}
        }
        if let Some(number) = &mut self.channel(key)?.confirms {
            *number += 1;
            let ack = basic::Ack {
                delivery_tag: *number,
                multiple: false,
            };
            self.send(key, AMQPClass::Basic(basic::AMQPMethod::Ack(ack)));
        }
        if let Some(queue) = queue {
            self.deliver(queue);
        }
        Ok(())
    }

    // ---- basic: consuming ----

    pub(crate) fn basic_method(
        &mut self,
        key: ChannelKey,
        method: basic::AMQPMethod,
    ) -> Result<(), Fault> {
        use basic::AMQPMethod as Method;

        match method {
            Method::Qos(qos) => self.qos(key, &qos),
            Method::Consume(consume) => self.consume(key, consume),
            Method::Cancel(cancel) => self.cancel(key, cancel),
            Method::Get(get) => self.get(key, &get),
            Method::Ack(ack) => self.settle(key, ack.delivery_tag, ack.multiple, Settled::Acked),
            Method::Nack(nack) => {
                let settled = Settled::Rejected {
                    requeue: nack.requeue,
                };
                self.settle(key, nack.delivery_tag, nack.multiple, settled)
            }
            Method::Reject(reject) => {
                let settled = Settled::Rejected {
                    requeue: reject.requeue,
                };
                self.settle(key, reject.delivery_tag, false, settled)
            }
            Method::Recover(recover) => self.recover(key, recover.requeue, true),
            Method::RecoverAsync(recover) => self.recover(key, recover.requeue, false),
            Method::Publish(_)
            | Method::QosOk(_)
            | Method::ConsumeOk(_)
            | Method::CancelOk(_)
            | Method::Return(_)
            | Method::Deliver(_)
            | Method::GetOk(_)
            | Method::GetEmpty(_)
            | Method::RecoverOk(_) => Err(unimplemented_method()),
        }
    }

    /// RabbitMQ's reading of `global`: false is for each consumer that comes after, and
    /// lifts what was set before for all consumers of the channel together, by true.
    fn qos(&mut self, key: ChannelKey, qos: &basic::Qos) -> Result<(), Fault> {
        let channel = self.channel(key)?;
        if qos.global {
            channel.channel_prefetch = qos.prefetch_count;
        } else {
            channel.consumer_prefetch = qos.prefetch_count;
            channel.channel_prefetch = 0;
        }
        let queues = channel.consumed_queues();
        let qos_ok = basic::AMQPMethod::QosOk(basic::QosOk {});
        self.send(key, AMQPClass::Basic(qos_ok));
        // The new count may leave room.
        for queue in queues {
            self.deliver(queue);
        }
        Ok(())
    }

    fn consume(&mut self, key: ChannelKey, consume: basic::Consume) -> Result<(), Fault> {
        let tag = if consume.consumer_tag.as_str().is_empty() {
            short(&format!("amq.ctag-{}", random_name()))
        } else {
            consume.consumer_tag
        };
        let (id, _) = self.find_own_queue(key, consume.queue.as_str())?;
        if consume.arguments.contains_key("x-priority") {
            return Err(Fault::new(
                Code::NotImplemented,
                "consumer argument 'x-priority'",
            ));
        }
        let channel = self.channel(key)?;
        if channel.consumers.values().any(|other| other.tag == tag) {
            return Err(Fault::new(
                Code::NotAllowed,
                format_args!("attempt to reuse consumer tag '{tag}'"),
            ));
        }
        let prefetch = channel.consumer_prefetch;
        let consumer = self.next_id();
        let Some(queue) = self.queues.get_mut(&id) else {
            return Ok(());
        };
        if queue.exclusively_consumed || (consume.exclusive && !queue.consumers.is_empty()) {
            return Err(Fault::new(
                Code::AccessRefused,
                format_args!("{} in exclusive use", queue.title()),
            ));
        }
        queue.exclusively_consumed = consume.exclusive;
        queue.consumers.push_back(ConsumerKey {
            channel: key,
            id: consumer,
        });
        self.channel(key)?.consumers.insert(
            consumer,
            Consumer {
                tag: tag.clone(),
                queue: id,
                no_ack: consume.no_ack,
                prefetch,
                unacked: 0,
            },
        );
        if !consume.nowait {
            let consume_ok = basic::ConsumeOk { consumer_tag: tag };
            self.send(
                key,
                AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(consume_ok)),
            );
        }
        self.deliver(id);
        Ok(())
    }

    /// What was delivered to the consumer stays to be acknowledged. A tag that
    /// doesn't exist is fine, as in RabbitMQ.
    fn cancel(&mut self, key: ChannelKey, cancel: basic::Cancel) -> Result<(), Fault> {
        let channel = self.channel(key)?;
        let consumer = channel
            .consumers
            .iter()
            .find(|(_, consumer)| consumer.tag == cancel.consumer_tag)
            .map(|(id, consumer)| (*id, consumer.queue));
        if let Some((id, queue)) = consumer {
            channel.consumers.remove(&id);
            self.detach_consumer(queue, ConsumerKey { channel: key, id });
        }
        if !cancel.nowait {
            let cancel_ok = basic::CancelOk {
                consumer_tag: cancel.consumer_tag,
            };
            self.send(
                key,
                AMQPClass::Basic(basic::AMQPMethod::CancelOk(cancel_ok)),
            );
        }
        Ok(())
    }

    fn get(&mut self, key: ChannelKey, get: &basic::Get) -> Result<(), Fault> {
        let (id, _) = self.find_own_queue(key, get.queue.as_str())?;
        let taken = self.queues.get_mut(&id).and_then(|queue| {
            let queued = queue.take(!get.no_ack)?;
            Some((queued, count(queue.ready.len())))
        });
        let Some((queued, message_count)) = taken else {
            let empty = basic::AMQPMethod::GetEmpty(basic::GetEmpty {});
            self.send(key, AMQPClass::Basic(empty));
            return Ok(());
        };
        let message = Arc::clone(&queued.message);
        let redelivered = queued.redelivered;
        let channel = self.channel(key)?;
        let delivery_tag = channel.next_delivery_tag();
        if !get.no_ack {
            channel.unacked.insert(
                delivery_tag,
                Unacked {
                    queue: id,
                    consumer: None,
                    message: queued,
                },
            );
        }
        let get_ok = basic::GetOk {
            delivery_tag,
            redelivered,
            exchange: short(&message.exchange),
            routing_key: short(&message.routing_key),
            message_count,
        };
        self.connection(key.connection)?.send_content(
            key.channel,
            AMQPClass::Basic(basic::AMQPMethod::GetOk(get_ok)),
            &message,
        );
        if get.no_ack {
            self.forget(message.cost());
        }
        Ok(())
    }

    /// Acknowledges or rejects a delivery, or with `multiple` all up to it; tag 0
    /// then stands for all (section 1.8.3.13 of the reference).
    fn settle(
        &mut self,
        key: ChannelKey,
        tag: u64,
        multiple: bool,
        settled: Settled,
    ) -> Result<(), Fault> {
        let channel = self.channel(key)?;
        let everything = multiple && tag == 0;
        if !everything && !channel.unacked.contains_key(&tag) {
            return Err(Fault::new(
                Code::PreconditionFailed,
                format_args!("unknown delivery tag {tag}"),
            ));
        }
        let mut deliveries = Vec::new();
        if everything {
            deliveries.extend(std::mem::take(&mut channel.unacked).into_values());
        } else if multiple {
            let later = channel.unacked.split_off(&tag.saturating_add(1));
            deliveries.extend(std::mem::replace(&mut channel.unacked, later).into_values());
        } else {
            deliveries.extend(channel.unacked.remove(&tag));
        }
        // Room in the channel's own prefetch count is room for all its consumers.
        let mut queues = if channel.channel_prefetch > 0 {
            channel.consumed_queues()
        } else {
            Default::default()
        };
        let deliveries = self.leave_channel(key, deliveries)?;
        let mut bytes = 0;
        let mut back = Vec::new();
        for (id, message) in deliveries {
            queues.insert(id);
            let queue = self.queues.get_mut(&id);
            match settled {
                Settled::Acked => {
                    bytes += message.message.cost();
                    if let Some(queue) = queue {
                        queue.counters.unacked = queue.counters.unacked.saturating_sub(1);
                        queue.counters.acked += 1;
                    }
                }
                Settled::Rejected { requeue } => {
                    if let Some(queue) = queue {
                        queue.counters.rejected += 1;
                        if !requeue {
                            queue.counters.unacked = queue.counters.unacked.saturating_sub(1);
                        }
                    }
                    if requeue {
                        back.push((id, message));
                    } else {
                        bytes += message.message.cost();
                    }
                }
            }
        }
        self.requeue(back);
        self.forget(bytes);
        for queue in queues {
            self.deliver(queue);
        }
        Ok(())
    }

    /// Takes deliveries that are no longer in the channel's list off its counts.
    fn leave_channel(
        &mut self,
        key: ChannelKey,
        deliveries: Vec<Unacked>,
    ) -> Result<Vec<(QueueId, crate::queue::QueuedMessage)>, Fault> {
        let channel = self.channel(key)?;
        Ok(deliveries
            .into_iter()
            .map(|delivery| {
                if let Some(id) = delivery.consumer {
                    channel.consumer_unacked = channel.consumer_unacked.saturating_sub(1);
                    if let Some(consumer) = channel.consumers.get_mut(&id) {
                        consumer.unacked = consumer.unacked.saturating_sub(1);
                    }
                }
                (delivery.queue, delivery.message)
            })
            .collect())
    }

    /// Puts all unacknowledged messages of the channel back. To send them again to
    /// the same consumer (`requeue` = false) is something RabbitMQ doesn't do either.
    fn recover(&mut self, key: ChannelKey, requeue: bool, reply: bool) -> Result<(), Fault> {
        if !requeue {
            return Err(Fault::new(Code::NotImplemented, "requeue=false"));
        }
        let channel = self.channel(key)?;
        let deliveries = std::mem::take(&mut channel.unacked).into_values().collect();
        let mut queues = channel.consumed_queues();
        let back = self.leave_channel(key, deliveries)?;
        queues.extend(self.requeue(back));
        if reply {
            let recover_ok = basic::AMQPMethod::RecoverOk(basic::RecoverOk {});
            self.send(key, AMQPClass::Basic(recover_ok));
        }
        for queue in queues {
            self.deliver(queue);
        }
        Ok(())
    }
}

/// What became of a delivery.
#[derive(Clone, Copy)]
enum Settled {
    Acked,
    Rejected { requeue: bool },
}

fn exchange_type(name: &str) -> Option<&'static str> {
    EXCHANGES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, kind)| *kind)
}

fn check_not_default(exchange: &str) -> Result<(), Fault> {
    if exchange.is_empty() {
        return Err(Fault::new(
            Code::AccessRefused,
            "operation not permitted on the default exchange",
        ));
    }
    Ok(())
}

fn check_not_reserved(what: &str, name: &str) -> Result<(), Fault> {
    if name.starts_with(RESERVED) {
        return Err(Fault::new(
            Code::AccessRefused,
            format_args!("{what} name '{name}' contains reserved prefix 'amq.*'"),
        ));
    }
    Ok(())
}

fn locked(queue: &Queue) -> Fault {
    Fault::new(
        Code::ResourceLocked,
        format_args!(
            "cannot obtain exclusive access to locked {}. It could be originally declared on \
             another connection or the exclusive property value does not match that of the \
             original declaration.",
            queue.title()
        ),
    )
}

fn inequivalent(
    argument: &str,
    title: &str,
    received: impl std::fmt::Display,
    current: impl std::fmt::Display,
) -> Fault {
    Fault::new(
        Code::PreconditionFailed,
        format_args!(
            "inequivalent arg '{argument}' for {title}: received {received} but current is {current}"
        ),
    )
}

fn check_same(argument: &str, title: &str, received: bool, current: bool) -> Result<(), Fault> {
    if received == current {
        return Ok(());
    }
    Err(inequivalent(
        argument,
        title,
        quoted(received),
        quoted(current),
    ))
}

fn quoted(value: impl std::fmt::Display) -> String {
    format!("'{value}'")
}

/// Checks a declaration of a queue that exists. RabbitMQ looks at the exclusive
/// access first, where a difference has an error of its own.
fn check_equivalent(queue: &Queue, key: ChannelKey, declare: &queue::Declare) -> Result<(), Fault> {
    let asked = declare.exclusive.then_some(key.connection);
    if queue.owner != asked {
        return Err(locked(queue));
    }
    let title = queue.title();
    check_same("durable", &title, is_durable(declare), queue.durable)?;
    check_same(
        "auto_delete",
        &title,
        declare.auto_delete,
        queue.auto_delete,
    )?;
    // No queue here has any of these arguments.
    match unsupported(&declare.arguments) {
        Some((name, value)) => {
            let (value, kind) = told(value);
            let received = format!("the value '{value}' of type '{kind}'");
            Err(inequivalent(name, &title, received, "none"))
        }
        None => Ok(()),
    }
}

/// A queue that goes with its connection outlives nothing, whatever was asked for.
fn is_durable(declare: &queue::Declare) -> bool {
    declare.durable && !declare.exclusive
}

/// A value as RabbitMQ's reply texts tell it: as text, and the name of its type.
fn told(value: &AMQPValue) -> (String, &'static str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match value {
        AMQPValue::Boolean(value) => (value.to_string(), "bool"),
        AMQPValue::ShortShortInt(value) => (value.to_string(), "byte"),
        AMQPValue::ShortShortUInt(value) => (value.to_string(), "unsignedbyte"),
        AMQPValue::ShortInt(value) => (value.to_string(), "short"),
        AMQPValue::ShortUInt(value) => (value.to_string(), "unsignedshort"),
        AMQPValue::LongInt(value) => (value.to_string(), "signedint"),
        AMQPValue::LongUInt(value) => (value.to_string(), "unsignedint"),
        AMQPValue::LongLongInt(value) => (value.to_string(), "long"),
        AMQPValue::Float(value) => (value.to_string(), "float"),
        AMQPValue::Double(value) => (value.to_string(), "double"),
        AMQPValue::Timestamp(value) => (value.to_string(), "timestamp"),
        AMQPValue::LongString(value) => (text(value.as_bytes()), "longstr"),
        AMQPValue::ShortString(value) => (value.as_str().to_owned(), "longstr"),
        AMQPValue::ByteArray(value) => (text(value.as_slice()), "binary"),
        AMQPValue::DecimalValue(_) => (String::new(), "decimal"),
        AMQPValue::FieldArray(_) => (String::new(), "array"),
        AMQPValue::FieldTable(_) => (String::new(), "table"),
        AMQPValue::Void => (String::new(), "void"),
    }
}

fn is_classic(queue_type: &AMQPValue) -> bool {
    match queue_type {
        AMQPValue::LongString(kind) => kind.as_bytes() == b"classic",
        AMQPValue::ShortString(kind) => kind.as_str() == "classic",
        _ => false,
    }
}

/// The first argument that this broker can't give a queue.
fn unsupported(arguments: &FieldTable) -> Option<(&'static str, &AMQPValue)> {
    let arguments = arguments.inner();
    let unlike_classic = |name: &str, value: &AMQPValue| name != QUEUE_TYPE || !is_classic(value);
    UNSUPPORTED_ARGUMENTS
        .into_iter()
        .chain([QUEUE_TYPE])
        .filter_map(|name| Some((name, arguments.get(name)?)))
        .find(|(name, value)| unlike_classic(name, value))
}

fn check_arguments(arguments: &FieldTable) -> Result<(), Fault> {
    match unsupported(arguments) {
        Some((QUEUE_TYPE, _)) => Err(Fault::new(
            Code::NotImplemented,
            "queue types other than classic",
        )),
        Some((name, _)) => Err(Fault::new(
            Code::NotImplemented,
            format_args!("queue argument '{name}'"),
        )),
        None => Ok(()),
    }
}

/// A count as the protocol carries it.
fn count(messages: usize) -> u32 {
    u32::try_from(messages).unwrap_or(u32::MAX)
}

/// 128 random bits in the 22 characters of RabbitMQ's names.
fn random_name() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    let bits: u128 = rand::random();
    (0..22)
        .map(|i| char::from(ALPHABET[((bits >> (6 * i)) & 63) as usize]))
        .collect()
}
