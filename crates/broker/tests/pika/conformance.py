"""What a client may rely on, by Python's pika: it holds for this broker and for RabbitMQ alike.

AMQP_TEST_URI names the broker. Beside what the suite in Rust says too, this asks for
what lapin has no call for: prefetch_size, channel.flow, basic.recover without requeue.
Another client also encodes its tables and its frames in its own way.
"""

import datetime
import decimal
import os
import subprocess
import sys
import threading
import time
import unittest
import uuid

import pika
from pika.exceptions import (
    AMQPConnectionError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    ProbableAuthenticationError,
    UnroutableError,
)

URI = os.environ["AMQP_TEST_URI"]

# How long anything may take before a test gives up, in seconds.
DEADLINE = 60


# A client that takes one message of a queue and keeps it until stdin closes, without
# sending the heartbeats that it agreed to.
TAKE_AND_HOLD = """
import os, sys, pika
parameters = pika.URLParameters(os.environ["AMQP_TEST_URI"])
parameters.heartbeat = int(sys.argv[2])
connection = pika.BlockingConnection(parameters)
method, _, body = connection.channel().basic_get(sys.argv[1])
print(body.decode(), flush=True)
sys.stdin.read()
"""


def unique(name):
    """A name that no other test or run uses."""
    return f"{name}-{uuid.uuid4()}"


def connect(**options):
    parameters = pika.URLParameters(URI)
    parameters.blocked_connection_timeout = DEADLINE
    for name, value in options.items():
        setattr(parameters, name, value)
    return pika.BlockingConnection(parameters)


class Consumer:
    """A consumer that keeps its deliveries until they are asked for."""

    def __init__(self, channel, queue, **options):
        self.channel = channel
        self.deliveries = []
        self.cancelled = False
        channel.add_on_cancel_callback(self._on_cancel)
        self.tag = channel.basic_consume(queue, self._on_delivery, **options)

    def _on_cancel(self, frame):
        if frame.method.consumer_tag == self.tag:
            self.cancelled = True

    def _on_delivery(self, _channel, method, properties, body):
        self.deliveries.append((method, properties, body))

    def wait(self, condition):
        end = time.monotonic() + DEADLINE
        while not condition():
            if time.monotonic() > end:
                raise AssertionError("it did not happen in time")
            self.channel.connection.process_data_events(time_limit=1)

    def next(self):
        self.wait(lambda: self.deliveries)
        return self.deliveries.pop(0)


class Conformance(unittest.TestCase):
    def setUp(self):
        self.connection = self.connect()
        self.channel = self.connection.channel()

    def connect(self, **options):
        connection = connect(**options)
        self.addCleanup(lambda: connection.is_open and connection.close())
        return connection

    def queue(self, name="q", channel=None):
        """A queue that ends with its connection."""
        name = unique(name)
        (channel or self.channel).queue_declare(name, exclusive=True)
        return name

    def assert_ready(self, queue, expected, channel=None):
        """Waits until so many messages are ready: RabbitMQ's queues answer this question
        before they handle what was there first."""
        end = time.monotonic() + DEADLINE
        while True:
            ok = (channel or self.channel).queue_declare(queue, passive=True)
            if ok.method.message_count == expected:
                return
            self.assertLess(time.monotonic(), end, f"not {expected} ready: {ok.method}")
            self.connection.sleep(0.005)

    def publish(self, queue, body, properties=None, channel=None):
        (channel or self.channel).basic_publish("", queue, body, properties)

    def refused(self, code, text, work):
        """Asserts that `work` ends its channel with this error, and no more than that."""
        with self.assertRaises(ChannelClosedByBroker) as caught:
            work()
        # A short string has at most 255 bytes.
        cut = text if len(text) <= 255 else text[:252] + "..."
        self.assertEqual(caught.exception.reply_code, code)
        self.assertEqual(caught.exception.reply_text, cut)
        self.channel = self.connection.channel()

    def refused_hard(self, code, text, work):
        """Asserts that `work` ends its connection with an error that begins so."""
        with self.assertRaises(ConnectionClosedByBroker) as caught:
            work()
        self.assertEqual(caught.exception.reply_code, code)
        self.assertTrue(
            caught.exception.reply_text.startswith(text), caught.exception.reply_text
        )

    # ---- connecting ----

    def test_wrong_password_is_403(self):
        credentials = pika.PlainCredentials("guest", "wrong")
        with self.assertRaises(ProbableAuthenticationError) as caught:
            connect(credentials=credentials)
        self.assertIn("403", str(caught.exception))
        self.assertIn(
            "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN",
            str(caught.exception),
        )

    def test_unknown_vhost_is_530(self):
        name = unique("nowhere")
        with self.assertRaises(AMQPConnectionError) as caught:
            connect(virtual_host=name)
        self.assertIn("530", repr(caught.exception))
        self.assertIn("not found", repr(caught.exception))

    def test_a_channel_number_is_free_again_after_its_error(self):
        for _ in range(20):
            channel = self.connection.channel(7)
            with self.assertRaises(ChannelClosedByBroker) as caught:
                channel.queue_declare(unique("missing"), passive=True)
            self.assertEqual(caught.exception.reply_code, 404)
            self.assertTrue(self.connection.is_open)
        channel = self.connection.channel(7)
        channel.queue_declare("", exclusive=True)
        channel.close()
        self.assert_ready(self.queue(), 0)

    # ---- queues ----

    def test_a_missing_queue_is_404(self):
        name = unique("missing")
        text = f"NOT_FOUND - no queue '{name}' in vhost '/'"
        for work in (
            lambda: self.channel.queue_declare(name, passive=True),
            lambda: self.channel.basic_consume(name, lambda *_: None),
            lambda: self.channel.basic_get(name),
            lambda: self.channel.queue_purge(name),
        ):
            self.refused(404, text, work)
        self.assertEqual(self.channel.queue_delete(name).method.message_count, 0)

    def test_differing_arguments_are_406(self):
        name = unique("durable")
        self.channel.queue_declare(name, durable=True)
        self.addCleanup(lambda: self.channel.queue_delete(name))
        for argument, asked, received, current in (
            ("durable", {"durable": False}, "false", "true"),
            ("auto_delete", {"durable": True, "auto_delete": True}, "true", "false"),
        ):
            self.refused(
                406,
                f"PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{name}' in "
                f"vhost '/': received '{received}' but current is '{current}'",
                lambda asked=asked: self.channel.queue_declare(name, **asked),
            )
        self.channel.queue_declare(name, durable=True)

    def test_an_exclusive_queue_is_its_connections_own(self):
        owner = self.connect()
        name = self.queue("exclusive", owner.channel())
        text = (
            f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in "
            "vhost '/'. It could be originally declared on another connection or the exclusive "
            "property value does not match that of the original declaration."
        )
        for work in (
            lambda: self.channel.queue_declare(name, exclusive=True),
            lambda: self.channel.queue_declare(name, passive=True),
            lambda: self.channel.basic_consume(name, lambda *_: None),
            lambda: self.channel.queue_delete(name),
        ):
            self.refused(405, text, work)
        owner.close()
        self.channel.queue_declare(name, exclusive=True)

    def test_reserved_names_are_403(self):
        generated = self.channel.queue_declare("", exclusive=True).method.queue
        self.assertRegex(generated, r"^amq\.gen-[A-Za-z0-9_-]{22}$")
        for name in ("amq.mine", generated):
            self.refused(
                403,
                f"ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'",
                lambda name=name: self.channel.queue_declare(name, exclusive=True),
            )

    def test_no_queue_declared_before_is_404(self):
        self.refused(
            404,
            "NOT_FOUND - no previously declared queue",
            lambda: self.channel.basic_get(""),
        )

    def test_deleting_has_conditions(self):
        name = self.queue()
        self.channel.confirm_delivery()
        self.publish(name, b"x")
        self.refused(
            406,
            f"PRECONDITION_FAILED - queue '{name}' in vhost '/' not empty",
            lambda: self.channel.queue_delete(name, if_empty=True),
        )
        other = self.connection.channel()
        Consumer(other, name)
        self.refused(
            406,
            f"PRECONDITION_FAILED - queue '{name}' in vhost '/' in use",
            lambda: self.channel.queue_delete(name, if_unused=True),
        )
        other.close()
        self.assertEqual(self.channel.queue_delete(name).method.message_count, 1)

    def test_deleting_a_queue_cancels_its_consumers(self):
        name = unique("deleted")
        self.channel.queue_declare(name)
        mine = Consumer(self.channel, name)
        connection = self.connect()
        theirs = Consumer(connection.channel(), name)
        self.connection.channel().queue_delete(name)
        mine.wait(lambda: mine.cancelled)
        theirs.wait(lambda: theirs.cancelled)
        self.assertTrue(self.channel.is_open and theirs.channel.is_open)

    # ---- publishing ----

    def test_exchanges_are_known_or_404(self):
        for name in ("amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match"):
            self.channel.exchange_declare(name, passive=True)
        name = unique("nowhere")
        text = f"NOT_FOUND - no exchange '{name}' in vhost '/'"
        self.refused(404, text, lambda: self.channel.exchange_declare(name, passive=True))
        self.channel.confirm_delivery()
        self.refused(404, text, lambda: self.channel.basic_publish(name, "key", b"x"))

    def test_a_mandatory_message_is_returned(self):
        self.channel.confirm_delivery()
        name = unique("unroutable")
        with self.assertRaises(UnroutableError) as caught:
            self.channel.basic_publish(
                "", name, b"back", pika.BasicProperties(message_id="m"), mandatory=True
            )
        (returned,) = caught.exception.messages
        self.assertEqual(returned.method.reply_code, 312)
        self.assertEqual(returned.method.reply_text, "NO_ROUTE")
        self.assertEqual(returned.method.exchange, "")
        self.assertEqual(returned.method.routing_key, name)
        self.assertEqual(returned.properties.message_id, "m")
        self.assertEqual(returned.body, b"back")
        # Not mandatory: confirmed all the same, and gone.
        self.channel.basic_publish("", name, b"gone")

    def test_bodies_of_all_sizes_survive(self):
        name = self.queue("sizes")
        self.channel.confirm_delivery()
        # RabbitMQ 4.1 refuses less.
        small = self.connect(frame_max=8192).channel()
        small.confirm_delivery()
        pattern = bytes(i % 251 for i in range(251))
        sizes = (0, 1, 8184, 8185, 131_063, 131_064, 131_065, 262_128, 3_000_001)
        for channel in (self.channel, small):
            for size in sizes:
                body = (pattern * (size // 251 + 1))[:size]
                self.publish(name, body, channel=channel)
                method, _, received = self.channel.basic_get(name, auto_ack=True)
                self.assertIsNotNone(method)
                self.assertTrue(received == body, f"a body of {size} bytes was damaged")

    def test_properties_keep_their_values_and_types(self):
        name = self.queue("properties")
        self.channel.confirm_delivery()
        headers = {
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "true": True,
            "int": 7,
            "negative": -7,
            "long": 1 << 40,
            "decimal": decimal.Decimal("3.14"),
            "bytes": b"\x00\xff",
            "time": datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc),
            "table": {"k": "v"},
            "array": [1, "two", {"three": 3}],
            "none": None,
            "text": "größer → 漢字",
        }
        properties = pika.BasicProperties(
            content_type="text/plain",
            content_encoding="utf-8",
            headers=headers,
            delivery_mode=2,
            priority=3,
            correlation_id="c",
            reply_to="r",
            message_id="m",
            timestamp=1_700_000_000,
            type="t",
            user_id="guest",
            app_id="a",
        )
        sent = properties.encode()
        self.publish(name, b"x", properties)
        method, received, _ = self.channel.basic_get(name, auto_ack=True)
        self.assertEqual(received.encode(), sent)
        self.assertEqual((method.exchange, method.routing_key), ("", name))
        self.assertFalse(method.redelivered)

    def test_another_users_id_is_406(self):
        name = self.queue()
        self.channel.confirm_delivery()
        self.refused(
            406,
            "PRECONDITION_FAILED - user_id property set to 'root' but authenticated user was "
            "'guest'",
            lambda: self.publish(name, b"x", pika.BasicProperties(user_id="root")),
        )

    # ---- consuming ----

    def test_messages_come_in_order_and_are_gone_once_acked(self):
        name = self.queue("order")
        self.channel.confirm_delivery()
        consumer = Consumer(self.channel, name)
        for i in range(50):
            self.publish(name, str(i).encode())
        for i in range(50):
            method, _, body = consumer.next()
            self.assertEqual((method.delivery_tag, body), (i + 1, str(i).encode()))
            self.channel.basic_ack(method.delivery_tag)
        self.channel.close()
        self.channel = self.connection.channel()
        self.assert_ready(name, 0)

    def test_prefetch_limits_each_consumer(self):
        name = self.queue("prefetch")
        self.channel.confirm_delivery()
        for i in range(5):
            self.publish(name, str(i).encode())
        other = self.connection.channel()
        other.basic_qos(prefetch_count=2)
        consumer = Consumer(other, name)
        first = consumer.next()[0]
        consumer.next()
        self.assert_ready(name, 3, other)
        other.basic_ack(first.delivery_tag)
        self.assertEqual(consumer.next()[2], b"2")
        self.assert_ready(name, 2, other)

    def test_a_prefetch_size_is_540(self):
        self.refused_hard(
            540,
            "NOT_IMPLEMENTED - prefetch_size!=0 (1)",
            lambda: self.channel.basic_qos(prefetch_size=1),
        )

    def test_recover_without_requeue_is_540(self):
        self.refused_hard(
            540,
            "NOT_IMPLEMENTED - requeue=false",
            lambda: self.channel.basic_recover(requeue=False),
        )

    def test_stopping_the_flow_is_540(self):
        self.assertTrue(self.channel.flow(True))
        self.refused_hard(
            540, "NOT_IMPLEMENTED - active=false", lambda: self.channel.flow(False)
        )

    def test_an_exclusive_consumer_is_the_only_one(self):
        name = self.queue()
        other = self.connection.channel()
        consumer = Consumer(other, name, exclusive=True)
        self.refused(
            403,
            f"ACCESS_REFUSED - queue '{name}' in vhost '/' in exclusive use",
            lambda: Consumer(self.channel, name),
        )
        other.basic_cancel(consumer.tag)
        Consumer(self.channel, name)

    # ---- settling ----

    def test_an_unknown_delivery_tag_is_406(self):
        for settle in (
            lambda channel: channel.basic_ack(7),
            lambda channel: channel.basic_ack(7, multiple=True),
            lambda channel: channel.basic_ack(0),
            lambda channel: channel.basic_nack(7),
            lambda channel: channel.basic_reject(7),
        ):

            def work(settle=settle):
                settle(self.channel)
                # An ack has no answer; the error comes before the next one.
                self.channel.queue_declare("", exclusive=True)

            with self.assertRaises(ChannelClosedByBroker) as caught:
                work()
            self.assertEqual(caught.exception.reply_code, 406)
            self.assertRegex(
                caught.exception.reply_text,
                r"^PRECONDITION_FAILED - unknown delivery tag [07]$",
            )
            self.channel = self.connection.channel()

    def test_acks_can_be_multiple(self):
        name = self.queue("multiple")
        self.channel.confirm_delivery()
        for i in range(4):
            self.publish(name, str(i).encode())
        other = self.connection.channel()
        for _ in range(4):
            method = other.basic_get(name)[0]
        other.basic_ack(method.delivery_tag - 1, multiple=True)
        other.close()
        self.assert_ready(name, 1)
        method, _, body = self.channel.basic_get(name)
        self.assertEqual((body, method.redelivered), (b"3", True))
        # 0 is all that there are, none included.
        self.channel.basic_ack(0, multiple=True)
        self.channel.basic_ack(0, multiple=True)
        self.assert_ready(name, 0)

    def test_messages_come_back_in_order(self):
        name = self.queue("redelivery")
        self.channel.confirm_delivery()
        for i in range(6):
            self.publish(name, str(i).encode())
        taking = self.connection.channel()
        taking.basic_qos(prefetch_count=4)
        consumer = Consumer(taking, name)
        for _ in range(4):
            consumer.next()
        taking.close()
        for i in range(6):
            method, _, body = self.channel.basic_get(name)
            self.assertEqual(body, str(i).encode())
            self.assertEqual(method.redelivered, i < 4)
        self.channel.basic_recover(requeue=True)
        for i in range(6):
            method, _, body = self.channel.basic_get(name)
            self.assertEqual((body, method.redelivered), (str(i).encode(), True))

    def check_that_a_lost_clients_message_comes_back(self, heartbeat, lose):
        name = unique("lost")
        self.channel.queue_declare(name, durable=True)
        self.addCleanup(lambda: self.channel.queue_delete(name))
        self.channel.confirm_delivery()
        self.publish(name, b"x")
        client = subprocess.Popen(
            [sys.executable, "-c", TAKE_AND_HOLD, name, str(heartbeat)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(client.communicate)
        self.addCleanup(client.kill)
        self.assertEqual(client.stdout.readline(), b"x\n")
        lose(client)
        method, _, body = Consumer(self.channel, name).next()
        self.assertEqual((body, method.redelivered), (b"x", True))
        self.channel.basic_ack(method.delivery_tag)

    def test_a_killed_client_gives_its_messages_back(self):
        self.check_that_a_lost_clients_message_comes_back(60, lambda client: client.kill())

    def test_a_silent_client_gives_its_messages_back(self):
        self.check_that_a_lost_clients_message_comes_back(1, lambda client: None)

    # ---- all of it at once ----

    def test_all_messages_arrive_exactly_once(self):
        threads, each = 4, 250
        name = unique("throughput")
        self.channel.queue_declare(name, durable=True)
        self.addCleanup(lambda: self.channel.queue_delete(name))
        failures = []

        def publish(number):
            try:
                connection = connect()
                channel = connection.channel()
                channel.confirm_delivery()
                for i in range(each):
                    channel.basic_publish("", name, f"{number}/{i}", mandatory=True)
                connection.close()
            except (AMQPConnectionError, UnroutableError, NackError) as error:
                failures.append(error)

        publishers = [threading.Thread(target=publish, args=(n,)) for n in range(threads)]
        for publisher in publishers:
            publisher.start()
        self.channel.basic_qos(prefetch_count=50)
        consumer = Consumer(self.channel, name)
        seen = []
        for _ in range(threads * each):
            method, _, body = consumer.next()
            self.assertFalse(method.redelivered)
            self.channel.basic_ack(method.delivery_tag)
            seen.append(body)
        for publisher in publishers:
            publisher.join(DEADLINE)
        self.assertEqual(failures, [])
        self.assertEqual(len(set(seen)), threads * each)
        self.assert_ready(name, 0)


if __name__ == "__main__":
    unittest.main()
